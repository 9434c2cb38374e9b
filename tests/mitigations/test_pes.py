"""PES in stacks: which weights it trains, and which examples beside a selection of others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from noisybench.errors import UserError
from noisybench.mitigations.pes import PES
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, train_toy

pytestmark = pytest.mark.fast

SHORT = {"name": "pes", "warmup_epochs": 1, "last_stage_epochs": 0, "classifier_epochs": 1}


def selecting_task(method: PES, predictions: list[int], weights: list[float] | None) -> Any:
    """Return a learner of six examples of three classes whose network makes predictions, after a selection of examples."""
    data = TrainingSet(torch.zeros(6, 1, 2, 2), torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    kept = None if weights is None else torch.tensor(weights)
    order = torch.arange(6) if kept is None else torch.nonzero(kept).squeeze(1)
    method.state = {"confident": torch.ones(6, dtype=torch.bool), "class_weights": torch.ones(3)}
    return SimpleNamespace(
        training_set=data, current_epoch=method.warmup_epochs + method.classifier_epochs + method.last_stage_epochs,
        training_predictions=lambda: torch.tensor(predictions), budget=SimpleNamespace(batch_size=4),
        sampler=SimpleNamespace(weights=kept, epoch_order=lambda epoch: order),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("predictions", "weights", "trained", "class_weights"),
    [
        ([0, 0, 1, 2, 0, 0], None, [0, 1, 2], [0.75, 1.5, 0.0]),
        ([0, 0, 1, 1, 0, 2], [1.0, 0.0, 1.0, 1.0, 1.0, 0.0], [0, 2, 3], [1.5, 0.75, 0.0]),
    ],
)
def test_classes_are_weighted_among_the_examples_that_are_trained(
    predictions: list[int], weights: list[float] | None, trained: list[int], class_weights: list[float]
) -> None:
    method = PES()
    task = selecting_task(method, predictions, weights)
    method._select(task)
    assert torch.cat([step.index for step in method.plan_epoch(task) or []]).tolist() == trained
    assert method.state["class_weights"].tolist() == class_weights
    assert method.warnings == []


@pytest.mark.parametrize("weights", [None, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]])
def test_all_examples_are_trained_if_fewer_than_two_are_predicted(weights: list[float] | None) -> None:
    method = PES()
    # Both labels that are predicted belong to examples that another mitigation leaves out.
    task = selecting_task(method, [2, 2, 2, 2, 0, 0] if weights is None else [0, 0, 2, 2, 0, 0], weights)
    method._select(task)
    trained = torch.cat([step.index for step in method.plan_epoch(task) or []]).tolist()
    assert trained == ([0, 1, 2, 3] if weights is None else [2, 3, 4])
    assert method.warnings == ["the network predicts fewer than two labels, so that it trains on all examples"]


def test_a_run_beside_a_small_selection_ends(tmp_path: Path) -> None:
    few = {"name": "random_pruning", "keep_fraction": 0.03, "allow_empty_classes": True}
    # The network predicts one class, of which no example is kept.
    run = prepared_toy([few, {**SHORT, "late_learning_rate": 1e-9}], budget={"learning_rate": 1e-6})
    recorder = train_toy(run, tmp_path)
    assert recorder.complete
    assert any("fewer than two labels" in warning for row in recorder.rows for warning in row.warnings)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("linear_probe", "linear_probe and pes both choose which weights are trained"),
        ("lora", "lora and pes both choose which weights are trained"),
        ("ensemble", "pes trains the layers of one network in turn, not those of the several networks of ensemble"),
    ],
)
def test_layers_are_not_chosen_twice(other: str, message: str) -> None:
    task = "classification" if other == "ensemble" else {"name": "transfer", "pretraining": {}}
    with pytest.raises(UserError, match=message):
        prepared_toy([other, SHORT], task=task)

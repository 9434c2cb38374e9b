"""Scores of the training set on a sample: which numbers it changes, and which it must not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from noisybench.data.targets import IN_DISTRIBUTION
from noisybench.errors import UserError
from noisybench.evaluation.classification import score_label_quality, score_predictions
from noisybench.leaderboard.class_evidence import _check_changes
from noisybench.records.schema import EpochRow
from noisybench.records.selection import label_wave
from noisybench.runs.preparation import training_set_of
from noisybench.tasks._class_evaluator import ClassificationEvaluator
from noisybench.tasks.classification import Classification
from noisybench.training.loop import attach, train_epoch
from tests.helpers import comparable_rows, prepared_toy, toy_spec, train_toy

SAMPLED = ("train_score", "memorized_fraction", "recovered_fraction", "noise_auroc")
"""Fields of a row that a sample changes, besides the prediction changes."""


def trained(folder: Path, mitigation: Any, size: int | None, epochs: int = 4) -> tuple[list[EpochRow], str, Any]:
    recorder = train_toy(prepared_toy(mitigation, budget={"train_eval_size": size, "epochs": epochs}), folder)
    record = recorder.record({})
    return record.rows, record.weights_sha256, record.detection


@pytest.mark.parametrize("mitigation", ["cross_entropy", {"name": "dividemix", "warmup_epochs": 2}])
def test_a_sample_changes_training_scores_of_earlier_epochs_alone(mitigation: Any, tmp_path: Path) -> None:
    full, weights, detection = trained(tmp_path / "full", mitigation, None)
    rows, sampled_weights, sampled_detection = trained(tmp_path / "sample", mitigation, 50)
    assert (sampled_weights, sampled_detection) == (weights, detection)
    for before, after in zip(comparable_rows(full), comparable_rows(rows), strict=True):
        before["prediction_changes"] = None
        corrected = [row["diagnostics"].pop("corrected_fraction", None) for row in (before, after)]
        assert after["epoch"] < 3 or corrected[0] == corrected[1]
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= (set() if after["epoch"] == 3 else {*SAMPLED, "id_noise_auroc"})
    assert any(before.train_score != after.train_score for before, after in zip(full, rows, strict=True))
    assert label_wave(full) is not None
    assert label_wave(rows) is None, "a selection rule never reads a sample"


def test_a_sample_as_large_as_the_training_set_changes_nothing(tmp_path: Path) -> None:
    full, _, _ = trained(tmp_path / "full", "cross_entropy", None, epochs=2)
    rows, _, _ = trained(tmp_path / "sample", "cross_entropy", 120, epochs=2)
    assert comparable_rows(rows) == comparable_rows(full)


CORRECTIONS = [
    {"name": f"{name}_correction", "warmup_epochs": 1, "implausible": "warn"} for name in ("forward", "backward")
]
CORRECTING = [*CORRECTIONS, {"name": "dividemix", "warmup_epochs": 1}]


def evaluated_on_a_sample(mitigation: Any) -> tuple[ClassificationEvaluator, Classification, dict[str, Any]]:
    """Evaluator, task and row of the second epoch."""
    prepared = prepared_toy(mitigation, budget={"train_eval_size": 50})
    spec = prepared.spec
    task = Classification(spec.budget, 0, training_set_of(prepared), prepared.stack)
    attach(task, Fabric(accelerator="cpu", devices=1))
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    evaluator = ClassificationEvaluator(prepared)
    evaluator.move_to(torch.device("cpu"))
    for epoch in range(2):
        train_epoch(task, optimizer, epoch)
    return evaluator, task, evaluator.evaluate_epoch(task, "train")


@pytest.mark.parametrize("mitigation", ["cross_entropy", "elr", *CORRECTING])
def test_scores_of_the_sample_are_those_of_its_examples(mitigation: Any) -> None:
    evaluator, task, row = evaluated_on_a_sample(mitigation)
    prepared, sample = evaluator.prepared, evaluator.sample
    assert sample is not None
    assert len(np.unique(sample)) == 50
    shares = np.bincount(prepared.labels.train, minlength=10) * 50 / 120
    assert (abs(np.bincount(prepared.labels.train[sample], minlength=10) - shares) < 1).all()
    clean, observed = prepared.dataset.train.targets[sample], prepared.labels.train[sample]
    status = evaluator.label_status[sample]
    quality = prepared.stack.label_quality(task, task.training_set).float().numpy()[sample]
    expected = {
        **score_predictions(task.training_predictions().numpy()[sample], clean, observed, status),
        **score_label_quality(quality, status),
    }
    assert {name: row[name] for name in expected} == expected
    labels = prepared.stack.corrected_labels(task, task.training_set)
    assert (labels is None) == (mitigation == "cross_entropy")
    if labels is not None:
        corrected = (labels.numpy()[sample] == clean)[status == IN_DISTRIBUTION].mean()
        assert row["diagnostics"]["corrected_fraction"] == corrected


@pytest.mark.parametrize("mitigation", ["cross_entropy", *CORRECTIONS])
def test_a_sample_is_scored_without_the_predictions_of_all_examples(mitigation: Any) -> None:
    _, task, _ = evaluated_on_a_sample(mitigation)
    assert not any("training" in str(key) for key in task.cache)


def test_the_sample_belongs_to_the_label_set_and_the_size_to_the_budget() -> None:
    samples = [
        ClassificationEvaluator(prepared_toy(stack, budget={"train_eval_size": 50}, seed=seed)).sample
        for stack, seed in (("elr", 0), ("gce", 1))
    ]
    assert samples[0] is not None
    assert samples[0].tolist() == samples[1].tolist()  # type: ignore[union-attr]
    assert toy_spec(budget={"train_eval_size": 50}).budget_hash != toy_spec().budget_hash


def test_verification_refuses_changes_of_a_sample_and_requires_those_of_all_examples(tmp_path: Path) -> None:
    record = train_toy(prepared_toy("cross_entropy", budget={"train_eval_size": 50}), tmp_path).record({})
    assert _check_changes(record, 120) == []
    claimed = dataclasses.replace(
        record, rows=[dataclasses.replace(row, prediction_changes=0.5) for row in record.rows]
    )
    assert "row 1: prediction_changes is measured, but a sample is scored" in _check_changes(claimed, 120)
    assert _check_changes(record, 50)[0] == "row 1: prediction_changes is missing, but all training examples are scored"


def test_tasks_that_score_every_label_refuse_a_sample() -> None:
    with pytest.raises(
        UserError, match=r"budget\.train_eval_size: the task segmentation scores all .*; set it to null"
    ):
        prepared_toy({"name": "adele"}, task="segmentation", budget={"train_eval_size": 5})

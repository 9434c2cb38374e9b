"""One run on two processes comes to what one process comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.config.budget import Budget
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import Recorder
from noisybench.training.batch import Batch
from tests.helpers import toy_spec, train_toy

SMALL = {
    "dataset": {"name": "digits", "train_size": 203, "test_size": 100},
    "noise": {"name": "pair_flip", "rate": 0.3},
}


def trained(stack: Any, folder: Path, stop_after: int | None = None, **budget: Any) -> Recorder:
    spec = toy_spec(stack, **SMALL, budget={"network": "mlp:32", "epochs": 4, "batch_size": 50, **budget})
    return train_toy(prepare_run(spec), folder, stop_after)


def test_per_example_state_and_clipped_gradients_are_right_across_processes(tmp_path: Path) -> None:
    # A bound that every step reaches: clipping the share of each process before the sum would give other weights.
    alone = trained("elr", tmp_path / "one", gradient_clipping=0.2)
    both = trained("elr", tmp_path / "two", gradient_clipping=0.2, devices=2)
    assert both.complete
    for one, two in zip(alone.rows, both.rows, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-4)
        assert one.test_score == pytest.approx(two.test_score, abs=0.011)
    np.testing.assert_allclose(
        both.evaluator.samples().label_quality, alone.evaluator.samples().label_quality, atol=1e-3
    )
    for name, weights in alone._final["weights"].items():
        torch.testing.assert_close(both._final["weights"][name], weights, rtol=1e-3, atol=1e-4)
    assert both.prepared.spec.identity != alone.prepared.spec.identity, "sums are not bit-identical"


def test_phases_are_right_across_processes_and_resume(tmp_path: Path) -> None:
    # The second epoch learns distributions, and the last one begins with a new optimizer.
    stack = {"name": "pencil", "warmup_epochs": 1, "final_epochs": 1, "final_learning_rate": 0.02}
    alone = trained(stack, tmp_path / "one")
    both = trained(stack, tmp_path / "two", devices=2)
    for one, two in zip(alone.rows, both.rows, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-3)
        assert one.learning_rate == two.learning_rate
    for name, weights in alone._final["weights"].items():
        torch.testing.assert_close(both._final["weights"][name], weights, rtol=1e-3, atol=1e-3)
    assert not trained(stack, tmp_path / "parts", devices=2, stop_after=3).complete
    parts = trained(stack, tmp_path / "parts", devices=2)
    assert parts.record({}).weights_sha256 == both.record({}).weights_sha256


def test_two_processes_stop_and_go_on_together(tmp_path: Path) -> None:
    whole = trained("elr", tmp_path / "whole", devices=2)
    assert not trained("elr", tmp_path / "parts", devices=2, stop_after=2).complete
    parts = trained("elr", tmp_path / "parts", devices=2)
    assert parts.record({}).weights_sha256 == whole.record({}).weights_sha256


def test_a_batch_is_shared_by_whole_images() -> None:
    batch = Batch(
        {"weak": torch.arange(5.0).view(5, 1, 1, 1)}, torch.arange(20), torch.arange(20), 3, has_label=torch.ones(20)
    )
    parts = [batch.shard(rank, 2) for rank in range(2)]
    assert [len(each.inputs) for each in parts] == [2, 3]
    assert torch.cat([each.index for each in parts]).tolist() == list(range(20))
    assert [each.num_labels for each in parts] == [8, 12]


def test_what_trains_on_one_device_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"budget\.devices: co_teaching supports one device only"):
        prepare_run(toy_spec("co_teaching", **SMALL, budget={"devices": 2}))
    with pytest.raises(UserError, match="batch normalization is synchronized among GPUs"):
        prepare_run(toy_spec("cross_entropy", **SMALL, budget={"devices": 2, "network": "mlp:32n"}))


def test_the_number_of_devices_is_part_of_a_budget() -> None:
    assert Budget().identity()["devices"] == 1
    assert Budget(devices=1).identity() == Budget().identity()
    assert Budget(devices=2).identity() == Budget().identity() | {"devices": 2}

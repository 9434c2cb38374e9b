"""Simulated relabeling: what strategies find, and what the command writes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noisybench.relabeling.curve import RelabelingData, simulate

Command = Callable[..., tuple[int, str]]


def make_data(size: int = 150, rate: float = 0.2) -> RelabelingData:
    """Return separable features of three classes, of whose labels the first examples are incorrect."""
    rng = np.random.default_rng(0)
    clean, test = np.arange(size) % 3, np.arange(60) % 3
    observed = np.where(np.arange(size) < rate * size, (clean + 1) % 3, clean)

    def features(classes: np.ndarray) -> np.ndarray:
        return (rng.normal(size=(len(classes), 5)) + 3 * np.eye(3, 5)[classes]).astype(np.float32)

    return RelabelingData(features(clean), observed, clean, features(test), test, 3)


def test_detectors_lie_between_chance_and_the_best_order() -> None:
    points = simulate(make_data(), [15, 30, 150])
    found = {(point.strategy, point.looked_at): point.errors_found for point in points}
    accuracy = {(point.strategy, point.looked_at): point.accuracy for point in points}
    strategies = {strategy for strategy, _ in found}
    assert strategies == {"random", "oracle", "confident", "neighbors", "combined", "repeated_audit", "activelab"}, (
        "each order once: on features `combined` is `posterior`"
    )
    for strategy in strategies:
        assert found[strategy, 0] == 0.0
        assert found[strategy, 150] == 1.0
        assert accuracy[strategy, 150] == accuracy["oracle", 30], "all labels are correct in both"
        assert found[strategy, 30] <= found["oracle", 30] == 1.0
    assert found["oracle", 15] == 0.5
    for strategy in strategies - {"random", "oracle"}:
        assert found[strategy, 30] > 2 * found["random", 30]
    assert accuracy["oracle", 30] >= accuracy["oracle", 0]


def test_a_draw_returns_the_same_examples_again() -> None:
    first, again, other = (make_data().draw(40, draw, seed=1) for draw in (0, 0, 1))
    np.testing.assert_array_equal(first.features, again.features)
    assert (first.features != other.features).any()
    assert len(first.observed) == 40


def write_features(workspace: Path) -> None:
    data = make_data(120, 0.0)
    arrays = {"train_x": data.features, "train_y": data.clean, "id_x": data.test_features, "id_y": data.test_targets}
    np.savez(workspace / "features.npz", **arrays)


def test_the_command_writes_a_table_and_a_figure(noisybench: Command, workspace: Path) -> None:
    write_features(workspace)
    status, output = noisybench(
        "relabel-curve", "features.npz", "noise=symmetric_exclusive", "noise.rate=0.3", "--budgets", "0.1,0.5", "--examples",
        "60", "--draws", "2", "--folds", "2", "-o", "curve",
    )  # fmt: skip
    assert status == 0, output
    assert "60 examples" in output
    rows = list(csv.DictReader((workspace / "curve" / "curve.csv").read_text().splitlines()))
    assert len(rows) == len({row["strategy"] for row in rows}) * 2 * 3
    assert {row["looked_at"] for row in rows} == {"0", "6", "30"}
    assert (workspace / "curve" / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digits"], "needs features, but the dataset is digits; compute them with: noisybench embed"),
        (["features.npz"], "needs labels of which some are known to be incorrect"),
        (["features.npz", "noise=symmetric_exclusive", "noise.rate=0.3", "--budgets", "0.5,0.1"], "--budgets: must be ascending"),
        (["features.npz", "noise=symmetric_exclusive", "noise.rate=0.3", "--examples", "999"], "--examples: 999 is more than"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(
    arguments: list[str], expected: str, noisybench: Command, workspace: Path
) -> None:
    write_features(workspace)
    status, output = noisybench("relabel-curve", *arguments)
    assert status == 2
    assert expected in output

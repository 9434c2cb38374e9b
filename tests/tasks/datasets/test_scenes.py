"""The small-scale check of ADELE in full: a quarter of an hour, so it runs where NOISYBENCH_SLOW is set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from noisybench.config.suite import read_suite
from noisybench.records.schema import RunRecord
from noisybench.runs.preparation import prepare_run
from tests.helpers import train_toy

pytestmark = pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="NOISYBENCH_SLOW is not set")
OBJECTS = ("disc", "square", "ring", "ellipse")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, float | None], list[RunRecord]]:
    """Runs of the suite by stack and probability of dilation (None without noise), in the order of seeds."""
    found: dict[tuple[str, float | None], list[RunRecord]] = {}
    for spec in read_suite("segmentation-scenes", []):
        if spec.stack in ("cross_entropy", "adele"):
            recorder = train_toy(prepare_run(spec), tmp_path_factory.mktemp("run"))
            found.setdefault((spec.stack, spec.noise.parameters.get("over")), []).append(recorder.record({}))
    return found


def last5(runs: list[RunRecord]) -> np.ndarray[Any, Any]:
    return np.array([np.mean([row.test_score for row in run.rows[-5:]]) for run in runs])


def curve(run: RunRecord, name: str) -> np.ndarray[Any, Any]:
    return np.array([row.diagnostics.get(name, 0.0) for row in run.rows])


def test_cross_entropy_learns_first_and_memorizes_later(records: Any) -> None:
    plain, drops, early = records["cross_entropy", 0.5], [], []
    assert 0.55 <= plain[0].manifest["masks"]["miou"] <= 0.66
    for name in OBJECTS:
        for run in plain:
            learned = np.convolve(curve(run, f"learned.{name}"), np.ones(3) / 3, "valid")
            drops.append(learned.max() - curve(run, f"learned.{name}")[-5:].mean())
            memorized_fraction = curve(run, f"memorized.{name}")
            assert memorized_fraction[-5:].mean() - memorized_fraction[2:8].min() >= 0.15
            early.append(learned.argmax() < 2 / 3 * len(run.rows))
    by_class = np.array(drops).reshape(len(OBJECTS), -1).mean(1)
    assert (by_class >= 0.10).all()
    assert by_class.mean() >= 0.20
    assert np.array(early).reshape(len(OBJECTS), -1).mean(1).round().sum() >= 3
    best = np.array([max(row.test_score for row in run.rows) for run in plain])
    assert (best - last5(plain)).mean() >= 0.05, "without a loss there is nothing to repair"


def test_adele_recovers_the_loss_by_memorization(records: Any) -> None:
    plain, repaired = records["cross_entropy", 0.5], records["adele", 0.5]
    gain = last5(repaired) - last5(plain)
    assert gain.mean() >= 0.04
    assert (gain >= 0.01).all()
    level = repaired[0].manifest["masks"]["miou"]
    assert np.mean([run.rows[-1].diagnostics["label_miou"] for run in repaired]) - level >= 0.06
    assert last5(repaired).mean() < last5(records["cross_entropy", None]).mean() - 0.1, "far from clean training"


def test_it_costs_little_without_noise_and_gains_nothing_against_a_bias(records: Any) -> None:
    assert (last5(records["cross_entropy", None]) - last5(records["adele", None])).mean() <= 0.08
    assert (last5(records["adele", 0.0]) - last5(records["cross_entropy", 0.0])).mean() <= 0.02

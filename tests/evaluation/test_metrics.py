"""Detection, calibration and the selection rules, against loops and hand-made rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detection
from noisybench.records.schema import EpochRow
from noisybench.records.selection import SELECTION_RULES


def row(epoch: int, test: float, noisy_val: float | None = None) -> EpochRow:
    return EpochRow(epoch, "train", 1.0, 0.5, noisy_val, 1.0, test, 1.0, 0.1, 0.1, 0.9, 0.1, 1.0, 0)


def test_selection_rules() -> None:
    tests = [0.1, 0.9, 0.5, 0.6, 0.7, 0.65, 0.6, 0.62, 0.61, 0.6, 0.55, 0.5]
    vals = [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    rows = [row(epoch, test, val) for epoch, (test, val) in enumerate(zip(tests, vals, strict=True))]
    found = {name: rule(rows) for name, rule in SELECTION_RULES.items()}
    assert found["last"] == 0.5
    assert found["last10"] == pytest.approx(sum(tests[2:]) / 10)
    assert found["noisy_val"] == 0.7, "the later of two epochs with the best noisy validation accuracy"
    assert found["oracle"] == 0.9


def test_rules_without_enough_rows_give_nothing() -> None:
    assert SELECTION_RULES["last10"]([row(epoch, 0.5) for epoch in range(9)]) is None
    assert SELECTION_RULES["noisy_val"]([row(0, 0.5)]) is None


@given(seed=st.integers(0, 500), count=st.integers(2, 60))
@settings(deadline=None, max_examples=40)
def test_auroc_counts_ordered_pairs(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    belief, wrong = rng.integers(0, 8, count) / 8, rng.random(count) < 0.4
    found = metrics.noise_auroc(belief, wrong)
    pairs = [(a < b) + 0.5 * (a == b) for a in belief[wrong] for b in belief[~wrong]]
    assert found == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_cross_entropy_is_torchs_and_certain_mistakes_are_finite() -> None:
    rng = np.random.default_rng(0)
    probabilities, targets = rng.dirichlet(np.ones(5), 40).astype(np.float32), rng.integers(0, 5, 40)
    found = functional.nll_loss(torch.from_numpy(probabilities).log(), torch.from_numpy(targets))
    assert metrics.cross_entropy(probabilities, targets) == pytest.approx(found.item(), rel=1e-5)
    assert metrics.cross_entropy(np.eye(2, dtype=np.float32), np.array([1, 1])) == pytest.approx(np.log(1e12) / 2)


def test_detection_of_well_separated_beliefs_is_perfect() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(500) < 0.3
    belief = np.where(wrong, rng.uniform(0.001, 0.01, 500), rng.uniform(0.9, 0.99, 500))
    found = score_detection(belief, wrong)
    assert found.auroc == 1.0
    assert found.average_precision == pytest.approx(1.0)
    assert found.f1 == 1.0
    assert found.roc is not None
    assert found.roc[1:] == [1.0] * 50
    assert found.flagged_fraction == pytest.approx(wrong.mean())


def test_equal_beliefs_flag_nothing() -> None:
    assert not metrics.flag_labels(np.full(20, 0.7)).any()


@pytest.mark.parametrize(
    "quality",
    [
        pytest.param([1.0, 0.99, 0.98, 0.5, 0.45], id="one label is certain, and losses differ by less than one"),
        pytest.param([0.5, 0.5, 0.5, 0.25, 0.25], id="one loss is twice the other"),
        pytest.param([0.9, 0.8, 0.9, 0.0, 0.0], id="two labels are impossible"),
    ],
)
def test_the_group_of_large_losses_is_flagged(quality: list[float]) -> None:
    assert metrics.flag_labels(np.array(quality)).tolist() == [False, False, False, True, True]


def test_detection_of_one_kind_alone_is_not_measured() -> None:
    found = score_detection(np.linspace(0.1, 0.9, 20), np.zeros(20, dtype=bool))
    assert (found.auroc, found.average_precision, found.f1, found.roc) == (None, None, None, None)


def test_the_area_under_the_kept_roc_curve_is_about_the_auroc() -> None:
    rng = np.random.default_rng(5)
    wrong = rng.random(2000) < 0.3
    found = score_detection(np.where(wrong, rng.beta(2, 3, 2000), rng.beta(3, 2, 2000)), wrong)
    assert found.roc is not None
    assert np.trapezoid(found.roc, metrics.ROC_GRID) == pytest.approx(found.auroc, abs=0.005)


@given(seed=st.integers(0, 500), classes=st.integers(2, 12))
@settings(deadline=None, max_examples=40)
def test_calibration_error_by_hand(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), size=80)
    targets = rng.integers(0, classes, 80)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    wanted = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(probabilities, targets) == pytest.approx(wanted, abs=1e-9)


def test_a_perfectly_confident_right_prediction_is_calibrated() -> None:
    assert metrics.calibration_error(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == 0.0

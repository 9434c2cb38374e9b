"""Reliability of an audit: weak predictions never yield an estimate, good ones yield the noise rate."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.audit.findings import analyze
from noisybench.audit.reliability import measure_reliability
from noisybench.audit.signals import AuditSignals
from noisybench.cli.app import main


def noisy_labels(size: int, classes: int, rate: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, classes, size)
    shift = rng.integers(1, classes, size)
    return clean, np.where(rng.random(size) < rate, (clean + shift) % classes, clean)


def predictions(clean: NDArray[np.int64], classes: int, strength: float, seed: int = 1) -> NDArray[np.float64]:
    """Return softmax predictions whose logits favor the clean class by `strength` standard deviations."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(clean), classes)) + strength * np.eye(classes)[clean]
    exponentials = np.exp(2 * logits)
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [90, 3000])
def test_random_predictions_yield_no_estimate(size: int, seed: int) -> None:
    clean, observed = noisy_labels(size, 3, 0.1, seed)
    reliability = measure_reliability(observed, predictions(clean, 3, 0.0, seed))
    assert reliability.noise_rate is None
    assert reliability.problem is not None
    assert "chance" in reliability.problem


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("strength", [0.7, 1.3, 2.0])
def test_ninety_examples_yield_no_estimate(strength: float, classes: int) -> None:
    # A transition matrix has so many entries that it explains the errors of such predictions: it was 50 % for 10 %.
    clean, observed = noisy_labels(90, classes, 0.1)
    assert measure_reliability(observed, predictions(clean, classes, strength, 0)).noise_rate is None


def test_the_estimate_counts_planted_labels_where_predictions_are_good() -> None:
    clean, observed = noisy_labels(3000, 10, 0.1)
    reliability = measure_reliability(observed, predictions(clean, 10, 5.0))
    assert reliability.response == pytest.approx(1, abs=0.1)
    assert reliability.ceiling == pytest.approx(0.9, abs=0.02)


def test_a_fold_with_more_incorrect_labels_is_no_reason_against_an_estimate() -> None:
    clean = np.arange(80) % 2
    incorrect = np.arange(80) < 14
    observed = np.where(incorrect, 1 - clean, clean)
    reliability = measure_reliability(observed, 0.9 * np.eye(2)[clean] + 0.05, np.arange(80) // 40)
    assert reliability.noise_rate == pytest.approx(14 / 80, abs=0.01)


def test_constant_predictions_yield_no_estimate() -> None:
    _, observed = noisy_labels(200, 4, 0.2)
    assert measure_reliability(observed, np.full((200, 4), 0.25)).noise_rate is None


def test_predictions_above_chance_that_contradict_correct_labels_yield_no_estimate() -> None:
    clean, observed = noisy_labels(3000, 10, 0.08)
    reliability = measure_reliability(observed, predictions(clean, 10, 1.3))
    assert reliability.accuracy_interval[0] > 2 * reliability.chance
    assert reliability.joint_rate > 0.3, "the confident joint counts errors of the predictions as noise"
    assert reliability.noise_rate is None


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_good_predictions_yield_the_noise_rate_with_an_interval(rate: float) -> None:
    clean, observed = noisy_labels(3000, 10, rate)
    reliability = measure_reliability(observed, predictions(clean, 10, 5.0), np.arange(3000) % 3)
    actual = float((clean != observed).mean())
    assert reliability.noise_rate == pytest.approx(actual, abs=0.03)
    low, high = reliability.rate_interval
    assert low <= reliability.noise_rate <= high
    assert reliability.class_accuracy.mean() == pytest.approx(reliability.accuracy, abs=0.02)


def test_the_rate_of_a_second_audit_is_that_of_the_errors_that_remain() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 4, 2000)
    points = rng.normal(size=(2000, 4)) + 2 * np.eye(4)[clean]
    given = np.where(rng.random(2000) < 0.15, (clean + 1 + rng.integers(0, 3, 2000)) % 4, clean)
    predicted = np.exp(1.6 * points)
    signals = AuditSignals(predicted / predicted.sum(1, keepdims=True), None, None)
    # A person looks at the first 150 labels and corrects the errors among them.
    looked_at = analyze(given, signals).ranking[:150]
    observed, verified = given.copy(), np.zeros(2000, dtype=bool)
    observed[looked_at], verified[looked_at] = clean[looked_at], True
    second = analyze(observed, signals, verified, given)
    assert second.noise_rate == pytest.approx((observed != clean).mean(), abs=0.02)
    low, high = second.reliability.rate_interval
    assert low < (observed != clean).mean() < high
    assert second.reliability.ceiling == pytest.approx(1 - second.noise_rate)
    assert not set(second.suspects) & set(looked_at)
    untouched = analyze(given, signals, np.zeros(2000, dtype=bool), given)
    assert untouched.noise_rate == analyze(given, signals).noise_rate


def test_without_an_estimate_nothing_depends_on_a_rate() -> None:
    _, observed = noisy_labels(100, 4, 0.2)
    result = analyze(observed, AuditSignals(np.full((100, 4), 0.25), None, None))
    assert result.noise_rate is None
    assert result.transition_matrix is None
    assert result.num_suspects == 5


def test_features_are_audited_without_training(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, observed = noisy_labels(300, 3, 0.15)
    features = np.random.default_rng(2).normal(size=(300, 6)) + 5 * np.eye(3, 6)[clean]
    names = np.array([f"image{row}.png" for row in range(300)])
    np.savez(workspace / "features.npz", train_x=features.astype(np.float32), train_y=observed, train_names=names)
    monkeypatch.setattr(sys, "argv", ["noisybench", "audit", "features.npz"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["noise_rate"] == pytest.approx(float((clean != observed).mean()), abs=0.03)
    assert np.mean((clean != observed)[findings["suspects"]]) > 0.9
    assert "image" in (workspace / "audit" / "scores.csv").read_text().splitlines()[1]

"""Results of an audit beside those of cleanlab on the same predictions, also on CIFAR-10N if it is available.

    NOISYBENCH_DATA=folder python -m pytest tests/performance/test_audit.py -n 0 -s

The folder is that of `tests/test_real_data.py`. On a CPU the small network takes half an hour for each kind of labels.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noisybench.audit.confident_joint import confident_joint, noise_rate_and_transition
from noisybench.audit.findings import TOP_FRACTIONS, analyze, precision_at
from noisybench.audit.inputs import load_audit_input
from noisybench.audit.signals import collect_signals

FOLDER = Path(os.environ.get("NOISYBENCH_DATA", "nowhere")).absolute() / "cifar10"
SMALL = (
    "budget.network=resnet8_cifar_stem",
    "budget.epochs=15",
    "budget.lr_schedule=cosine",
    "budget.lr_milestones=[]",
)
LARGE = (
    "budget.network=resnet18_cifar_stem",
    "budget.epochs=30",
    "budget.lr_schedule=cosine",
    "budget.lr_milestones=[]",
)


def hold_against_cleanlab(labels: str, overrides: list[str], folds: int) -> None:
    """Audit noisy labels whose clean labels are known, print the results of both, and compare the estimates."""
    from cleanlab.count import compute_confident_joint, estimate_joint
    from cleanlab.rank import get_label_quality_scores

    start, audit_input = time.perf_counter(), load_audit_input(labels, overrides)
    observed, clean = audit_input.observed, audit_input.clean
    assert clean is not None
    signals = collect_signals(audit_input, folds, 0)
    result, seconds = analyze(observed, signals), time.perf_counter() - start
    rate, matrix = noise_rate_and_transition(confident_joint(observed, signals.probabilities))
    incorrect = observed != clean

    joint = estimate_joint(
        observed, signals.probabilities, confident_joint=compute_confident_joint(observed, signals.probabilities)
    )
    theirs: Any = {
        f"cleanlab, {method}": -get_label_quality_scores(observed, signals.probabilities, method=method, **more)
        for method, more in (("self_confidence", {}), ("normalized_margin", {}), ("confidence_weighted_entropy", {}))
    }
    print(result.reliability)
    print(f"\n{audit_input.title}, {audit_input.spec.budget.network}, {folds} folds, {seconds:.0f} s")
    print(f"noise rate {incorrect.mean():.4f}; estimated {rate:.4f}, by cleanlab {1 - np.trace(joint):.4f}")
    rankings: dict[str, NDArray[np.float64]] = {**result.error_score, **theirs}
    for name, scores in rankings.items():
        precisions = ", ".join(
            f"{precision_at(scores, incorrect, fraction):.4f} in the first {fraction:.0%}"
            for fraction in (*TOP_FRACTIONS, rate)
        )
        print(f"  {name}: {precisions}")
    transition = _transition(observed, clean, len(audit_input.class_names))
    distance = np.abs(matrix - transition).sum(1).mean() / 2
    print(f"  transition matrix: {distance:.4f} of each row misplaced, mean over classes")
    assert rate == pytest.approx(1 - np.trace(joint), abs=0.01)
    assert precision_at(result.error_score["combined"], incorrect, TOP_FRACTIONS[1]) > incorrect.mean(), (
        "no better than chance"
    )


def _transition(observed: NDArray[np.int64], clean: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean, observed), 1)
    return np.asarray(counts / counts.sum(1, keepdims=True))


def test_digits() -> None:
    hold_against_cleanlab("digits", ["noise=pair_flip", "noise.rate=0.2", "budget.epochs=8"], 3)


@pytest.mark.skipif(not (FOLDER / "train.parquet").is_file(), reason="needs NOISYBENCH_DATA with CIFAR-10")
@pytest.mark.parametrize("network", ["small", "large"])
@pytest.mark.parametrize("labels", ["aggre_label", "random_label1", "worse_label"])
def test_cifar10n(labels: str, network: str) -> None:
    if network == "large" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    places = [f"dataset.{split}={FOLDER / split}.parquet" for split in ("train", "test")]
    own = [
        f"noise.labels={labels}",
        f"noise.path={FOLDER / 'CIFAR-10_human.pt'}",
        *(SMALL if network == "small" else LARGE),
    ]
    hold_against_cleanlab("cifar10n-worst", [*places, *own], 3)

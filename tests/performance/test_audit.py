"""What an audit finds, beside cleanlab on the same predictions; with CIFAR-10N where it is at hand.

    NOISYBENCH_DATA=folder python -m pytest tests/performance/test_audit.py -n 0 -s

The folder is that of `tests/test_real_data.py`. On a processor the small network would take half an hour for each kind of labels.
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

from noisybench.audit.audit import ask, listen
from noisybench.audit.findings import TOP, find, precision

FOLDER = Path(os.environ.get("NOISYBENCH_DATA", "nowhere")).absolute() / "cifar10"
SMALL = ("budget.network=resnet8_cifar_stem", "budget.epochs=15", "budget.schedule=cosine", "budget.milestones=[]")
LARGE = ("budget.network=resnet18_cifar_stem", "budget.epochs=30", "budget.schedule=cosine", "budget.milestones=[]")


def hold_against_cleanlab(labels: str, overrides: list[str], folds: int) -> None:
    """Audit labels whose truth is known; print what both find; the estimates agree."""
    from cleanlab.count import compute_confident_joint, estimate_joint
    from cleanlab.rank import get_label_quality_scores

    begun, question = time.perf_counter(), ask(labels, overrides)
    assert question.truth is not None
    signals = listen(question, folds, 0, lambda fold, epoch, loss: None)
    found, seconds = find(question.observed, signals), time.perf_counter() - begun
    observed, wrong = question.observed, question.observed != question.truth

    joint = estimate_joint(
        observed, signals.probabilities, confident_joint=compute_confident_joint(observed, signals.probabilities)
    )
    theirs: Any = {
        f"cleanlab, {method}": -get_label_quality_scores(observed, signals.probabilities, method=method, **more)
        for method, more in (("self_confidence", {}), ("normalized_margin", {}), ("confidence_weighted_entropy", {}))
    }
    print(f"\n{question.title}, {question.spec.budget.network}, {folds} folds, {seconds:.0f} s")
    print(f"wrong {wrong.mean():.4f}; estimated {found.rate:.4f}, by cleanlab {1 - np.trace(joint):.4f}")
    rankings: dict[str, NDArray[np.float64]] = {**found.suspicion, **theirs}
    for name, each in rankings.items():
        told = ", ".join(
            f"{precision(each, wrong, share):.4f} of the first {share:.0%}" for share in (*TOP, found.rate)
        )
        print(f"  {name}: {told}")
    distance = np.abs(found.transition - _transition(observed, question.truth, len(question.classes))).sum(1).mean() / 2
    print(f"  transition matrix: {distance:.4f} of each row misplaced, mean over classes")
    assert found.rate == pytest.approx(1 - np.trace(joint), abs=0.01)
    assert precision(found.suspicion["combined"], wrong, TOP[1]) > wrong.mean(), "suspects are no better than any"


def _transition(observed: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth, observed), 1)
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

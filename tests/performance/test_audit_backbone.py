"""Audit of features of CIFAR-10 beside cleanlab, over five draws of 3,000 images; prints the tables of docs/audit.md.

    NOISYBENCH_FEATURES=cifar10.npz NOISYBENCH_DATA=folder python -m pytest tests/performance/test_audit_backbone.py -n 0 -s

The features are those of the 50,000 training images in the order of CIFAR-10, as `noisybench embed` writes them; the folder is
that of `tests/test_real_data.py`, which holds the human labels `cifar10/CIFAR-10_human.pt`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noisybench.audit.findings import analyze, precision_at
from noisybench.audit.probe import probe_features

FEATURES = Path(os.environ.get("NOISYBENCH_FEATURES", "nowhere")).absolute()
HUMAN_LABELS = Path(os.environ.get("NOISYBENCH_DATA", "nowhere")).absolute() / "cifar10" / "CIFAR-10_human.pt"

NUM_DRAWS, DRAW_SIZE, NUM_CLASSES, NUM_FOLDS = 5, 3000, 10, 3
FRACTIONS = (0.01, 0.05, 0.1)

PARTNERS = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""Observed class in place of the true one: truck, bird, deer, cat, dog."""

PARTNER_RATES = {"asymmetric .16": 0.16, "asymmetric .2": 0.2, "asymmetric .4": 0.4}
"""Rates within the classes with a partner, which are half of all."""
SYMMETRIC_RATES = {"symmetric .2": 0.2, "symmetric .4": 0.4}
HUMAN = ("aggre_label", "random_label1", "worse_label")
RANKED = ("asymmetric .16", "worse_label")
"""Kinds whose rankings are in the tables of docs/audit.md; of the others only the estimates."""


def observed_labels(
    kind: str, human: dict[str, NDArray[np.int64]], rows: NDArray[np.int64], draw: int
) -> NDArray[np.int64]:
    clean, generator = human["clean_label"][rows], np.random.default_rng(draw)
    if kind in PARTNER_RATES:
        partner = np.array([PARTNERS.get(label, label) for label in range(NUM_CLASSES)])
        return np.where(generator.random(len(clean)) < PARTNER_RATES[kind], partner[clean], clean)
    if kind in SYMMETRIC_RATES:
        others = (clean + generator.integers(1, NUM_CLASSES, len(clean))) % NUM_CLASSES
        return np.where(generator.random(len(clean)) < SYMMETRIC_RATES[kind], others, clean)
    return human[kind if kind in HUMAN else "clean_label"][rows].copy()


@pytest.mark.skipif(
    not (FEATURES.is_file() and HUMAN_LABELS.is_file()), reason="needs NOISYBENCH_FEATURES and NOISYBENCH_DATA"
)
@pytest.mark.parametrize("kind", ["clean", *PARTNER_RATES, *SYMMETRIC_RATES, *HUMAN])
def test_estimates_and_rankings_beside_cleanlab(kind: str) -> None:
    from cleanlab.rank import get_label_quality_scores

    loaded = torch.load(HUMAN_LABELS, weights_only=False)
    human = {name: np.asarray(loaded[name], dtype=np.int64) for name in ("clean_label", *HUMAN)}
    clean = human["clean_label"]
    with np.load(FEATURES) as arrays:
        features = arrays["train_x"].astype(np.float32)
        assert (arrays["train_y"] == clean).all(), "the features must be in the order of the human labels"
    order = np.random.default_rng(0).permutation(len(clean))
    precision: dict[str, list[list[float]]] = {}
    rates, estimates, intervals_hold = [], [], 0
    print(f"\n{kind}: mislabeled, estimate (None without one), 95 % interval, rate by the confident joint")
    for draw in range(NUM_DRAWS):
        rows = order[draw * DRAW_SIZE : (draw + 1) * DRAW_SIZE]
        observed = observed_labels(kind, human, rows, draw)
        incorrect = observed != clean[rows]
        signals = probe_features(features[rows], observed, NUM_CLASSES, NUM_FOLDS, draw)
        result = analyze(observed, signals)
        low, high = result.reliability.rate_interval
        estimate = "None" if result.noise_rate is None else f"{result.noise_rate:.1%}"
        if result.noise_rate is not None:
            rates.append(incorrect.mean())
            estimates.append(result.noise_rate)
            intervals_hold += low <= incorrect.mean() <= high
        print(f"  {incorrect.mean():.1%}  {estimate}  {low:.1%} to {high:.1%}  {result.reliability.joint_rate:.1%}")
        theirs = {
            f"cleanlab, {method}": -get_label_quality_scores(observed, signals.probabilities, method=method)
            for method in ("self_confidence", "normalized_margin")
        }
        for name, scores in {**result.error_score, **theirs}.items():
            precision.setdefault(name, []).append([precision_at(scores, incorrect, part) for part in FRACTIONS])
    errors_of_rate = 100 * (np.array(estimates) - np.array(rates))
    print(
        f"  {len(rates)} estimates, errors {errors_of_rate.min():+.1f} to {errors_of_rate.max():+.1f} points, "
        f"mean {errors_of_rate.mean():+.1f}; {intervals_hold} intervals contain the truth"
        if rates
        else "  no estimate"
    )
    if kind not in RANKED:
        return
    means = {name: np.mean(values, axis=0) for name, values in precision.items()}
    errors = {name: np.std(values, axis=0, ddof=1) / NUM_DRAWS**0.5 for name, values in precision.items()}
    for name in precision:
        listed = " / ".join(f"{mean:.1%} ({error:.1%})" for mean, error in zip(means[name], errors[name], strict=True))
        print(f"  {name}: {listed} in the first 1 % / 5 % / 10 %")
    for number, part in enumerate(FRACTIONS):
        best = max(means, key=lambda name: float(means[name][number]))
        behind = (means[best][number] - means["combined"][number]) / max(errors[best][number], 1e-9)
        print(f"  first {part:.0%}: best is {best}, combined is {behind:.1f} of its standard errors below")

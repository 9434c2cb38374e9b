"""Robust and empirical class-conditional Gaussians from the authors' `generative_utils`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.linalg
import torch
from sklearn.covariance import EmpiricalCovariance

REFERENCE = "https://github.com/pokaxpoka/RoGNoisyLabel"
COMMIT = "0cf223f25be6f2c7afe075aa120e01f56e73e470"
COMPUTED = (
    "random_sample_mean, MCD_single and get_sample_mean_covariance on 5 unequal classes with 20 % of noisy labels"
)

SIZES, WIDTH = (60, 45, 30, 20, 10), 6


def generate(folder: Path) -> dict[str, Any]:
    """Return points, subsets and moments; with the pooled precision, and with that of the code for the selection."""
    sys.path.insert(0, str(folder))
    import generative_utils as reference

    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(len(SIZES)), SIZES)
    points = 3 * rng.normal(size=(len(SIZES), WIDTH))[classes] + rng.normal(size=(len(classes), WIDTH)) * np.geomspace(
        2, 0.3, WIDTH
    )
    targets = np.where(rng.random(len(classes)) < 0.2, rng.integers(0, len(SIZES), len(classes)), classes)
    features, labels = torch.from_numpy(points.astype(np.float32)), torch.from_numpy(targets)
    torch.manual_seed(0)
    # The functions move everything to a GPU.
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
        start_means, literal, subsets = reference.random_sample_mean(features, labels, len(SIZES))
        empirical_means, empirical_precision = reference.get_sample_mean_covariance(features, labels, len(SIZES))
        chosen = [subset.flatten() for subset in subsets]
        parts = [
            len(subset) * EmpiricalCovariance(assume_centered=False).fit(features[subset].numpy()).covariance_
            for subset in chosen
        ]
        # Weighted by the classes, of which the subsets are 70 % up to rounding.
        pooled = sum(
            part / len(subset) * (targets == c).sum()
            for c, (part, subset) in enumerate(zip(parts, chosen, strict=True))
        )
        precision = torch.from_numpy(scipy.linalg.pinvh(pooled / len(points))).float()
        arrays: dict[str, Any] = {}
        for name, given in (("pooled", precision), ("literal", literal)):
            means, covariance, kept = [], np.zeros((WIDTH, WIDTH)), np.zeros(len(points), dtype=bool)
            for label in range(len(SIZES)):
                members = features[labels == label]
                mean, part, selected = reference.MCD_single(members, start_means[label], given)
                means.append(mean.numpy())
                covariance += part * len(members) / len(points)
                kept[np.flatnonzero(targets == label)[selected.numpy()]] = True
            arrays |= {f"means_{name}": np.array(means), f"covariance_{name}": covariance, f"kept_{name}": kept}
    subset = np.zeros(len(points), dtype=bool)
    subset[torch.cat(chosen).numpy()] = True
    return arrays | {
        "points": features.numpy(),
        "targets": targets,
        "subset": subset,
        "start_means": start_means.numpy(),
        "precision": precision.numpy(),
        "empirical_means": empirical_means.numpy(),
        "empirical_precision": empirical_precision.numpy(),
    }

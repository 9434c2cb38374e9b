"""Votes, scores, consensus and selections of SimiFeat in the authors' code."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.golden.reference import definitions

REFERENCE = "https://github.com/UCSC-REAL/SimiFeat"
COMMIT = "534af484f3831891ae698b73892425e63482c4b0"
COMPUTED = (
    "hoc and main_fast: count_knn_distribution, get_score, get_T_global_min_new and both selections of get_knn_acc_all_class, "
    "with 240 features of 4 classes in 6 dimensions, of which 60 have another label; T0 and p0 are given, all examples are "
    "in the one round, with 20 and 400 steps, and the selection is that of the noise rates after 20 without the random offset"
)

SIZE, CLASSES, DIMENSIONS, VOTERS = 240, 4, 6, 10


def generate(folder: Path) -> dict[str, Any]:
    """Return features, labels, normalized votes, scores, the estimate of the noise and both selections."""
    names: dict[str, Any] = {
        "np": np, "torch": torch, "F": torch.nn.functional, "random": random, "time": time,
        "smp": torch.nn.Softmax(dim=0), "smt": torch.nn.Softmax(dim=1),
        "global_var": SimpleNamespace(set_value=lambda *_: None), "print": lambda *_, **__: None,
    }  # fmt: skip
    for script in ("utils.py", "hoc.py", "main_fast.py"):
        definitions(folder / script, names)
    names["set_device"] = lambda: torch.device("cpu")
    rng = np.random.default_rng(0)
    clean = np.arange(SIZE) % CLASSES
    features = np.abs(4 * np.eye(CLASSES, DIMENSIONS)[clean] + rng.normal(size=(SIZE, DIMENSIONS))).astype(np.float32)
    labels = np.where(np.arange(SIZE) < SIZE // 4, (clean + 1 + clean % 2) % CLASSES, clean)
    data = {
        "feature": torch.from_numpy(features), "noisy_label": torch.from_numpy(labels),
        "noise_or_not": labels != clean, "index": np.arange(SIZE),
    }  # fmt: skip
    settings = SimpleNamespace(num_classes=CLASSES, cnt=SIZE, min_similarity=0.0, Tii_offset=1.0)
    estimates = [
        names["get_T_global_min_new"](
            settings, data, steps, 5 * torch.eye(CLASSES) - 1, torch.full((CLASSES, 1), 1 / CLASSES), 0.1, 1
        )
        for steps in (20, 400)
    ]
    transition, classes = estimates[0]
    rates = transition * classes / (np.bincount(labels) / SIZE)
    votes = names["count_knn_distribution"](settings, data["feature"], data["noisy_label"], SIZE, VOTERS)
    selections = {}
    for method in ("mv", "rank1"):
        settings.method = method
        chosen = names["get_knn_acc_all_class"](settings, data, VOTERS, sel_noisy=[], thre_noise_rate=rates)
        selections[method] = np.isin(np.arange(SIZE), chosen)
    return {
        "features": features, "labels": labels, "transition": transition, "classes": classes.ravel(),
        "transition_400": estimates[1][0], "votes": votes.numpy(),
        "scores": names["get_score"](votes, data["noisy_label"], VOTERS, "ce").numpy(), **selections,
    }  # fmt: skip

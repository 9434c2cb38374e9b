"""Six epochs of the authors' `DISC.train` with a small network with batch normalization."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import definitions
from tests.golden.small_networks import CLASSES, SmallNetwork, flat, images

REFERENCE = "https://github.com/JackYFL/DISC"
COMMIT = "a21e910bffeb34873684937ac1066991a720552a"
COMPUTED = (
    "algorithms.DISC.DISC.train: weights, batch statistics, probabilities, thresholds, selected and corrected examples and "
    "classes after each of 6 epochs of 2 SGD steps, one of them a warm-up, at two weights of hard examples"
)

EXAMPLES, BATCH, EPOCHS, MOMENTUM, MARGIN, HARD_WEIGHTS = 40, 20, 6, 0.9, 0.1, (1.0, 0.2)


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and the state after every epoch."""
    names = {"torch": torch, "nn": torch.nn, "F": functional}
    losses = definitions(folder / "losses" / "loss_other.py", dict(names))
    beta = mock.MagicMock()
    mixup = definitions(folder / "losses" / "loss_mixup.py", {**names, "Beta": beta})
    reference = definitions(
        folder / "algorithms" / "DISC.py", {**names, "np": np, "Variable": lambda tensor: tensor, "tqdm": Batches}
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    # Classes are at different places, and a third of the labels is incorrect.
    views = images(rng, 2, EXAMPLES) * 0.4 + images(rng, CLASSES)[labels]
    noisy = np.where(rng.random(EXAMPLES) < 1 / 3, rng.integers(0, CLASSES, EXAMPLES), labels)
    torch.manual_seed(0)
    first = flat(SmallNetwork())
    order = np.stack([rng.permutation(EXAMPLES).reshape(-1, BATCH) for _ in range(EPOCHS)])
    weights = rng.beta(5, 5, 100).astype(np.float32)
    arrays: dict[str, Any] = {"labels": noisy, "views": views, "first": first, "order": order, "mix_weights": weights}
    for setting, hard_weight in enumerate(HARD_WEIGHTS):
        torch.manual_seed(0)
        draws = iter(torch.from_numpy(weights))
        beta.return_value.sample.side_effect = lambda draws=draws: next(draws)
        method = object.__new__(reference["DISC"])
        method.__dict__.update(_state(hard_weight, losses["GCELoss"](CLASSES), mixup["Mixup"](num_classes=CLASSES)))
        method.labels = torch.from_numpy(noisy)
        method.weak_labels = method.labels.clone()
        found: dict[str, list[Any]] = {
            name: [] for name in ("weights", "probabilities", "thresholds", "flags", "classes")
        }
        with mock.patch.object(torch, "randperm", lambda count: torch.arange(count).roll(1)):
            for epoch in range(EPOCHS):
                loader = [
                    (
                        [torch.from_numpy(views[view, index]) for view in range(2)],
                        method.labels[index],
                        torch.from_numpy(index),
                    )
                    for index in order[epoch]
                ]
                with contextlib.redirect_stdout(io.StringIO()):
                    method.train(loader, epoch)
                found["weights"].append(flat(method.model_scratch))
                found["probabilities"].append(torch.stack([method.w_probs, method.s_probs]).numpy().copy())
                found["thresholds"].append(
                    torch.stack([method.w_prev_confidence, method.s_prev_confidence]).numpy().copy()
                )
                flags = (method.clean_flags, method.hard_flags, method.correction_flags)
                found["flags"].append(torch.stack(flags).numpy().copy())
                found["classes"].append(method.weak_labels.numpy().copy())
        arrays |= {f"{name}_{setting}": np.array(values) for name, values in found.items()}
    return arrays


class Batches(list[Any]):
    """Batches with the description of a progress bar."""

    def set_description(self, text: str) -> None:
        """Ignore the description."""


def _state(hard_weight: float, robust: Any, mixup: Any) -> dict[str, Any]:
    """Return the attributes that the authors' constructor sets, for a small dataset without clean labels."""
    model = SmallNetwork()
    none = torch.zeros(EXAMPLES, dtype=torch.bool)
    return {
        "model_scratch": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3),
        "device": torch.device("cpu"), "dataset": "webvision", "epochs": EPOCHS + 1, "start_epoch": 1, "N": EXAMPLES,
        "lamd_ce": 1, "lamd_h": hard_weight, "sigma": MARGIN, "momentum": MOMENTUM, "adjust_lr": 0, "num_list": [],
        "GCE_loss": robust, "mixup_loss": mixup, "criterion": torch.nn.CrossEntropyLoss(),
        "w_prev_confidence": torch.ones(EXAMPLES) / EXAMPLES, "s_prev_confidence": torch.ones(EXAMPLES) / EXAMPLES,
        "w_probs": torch.zeros(EXAMPLES, CLASSES), "s_probs": torch.zeros(EXAMPLES, CLASSES),
        **{f"{name}_flags": none for name in ("clean", "hard", "correction", "weak", "w_selected", "s_selected", "selected")},
    }  # fmt: skip

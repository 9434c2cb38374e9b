"""Losses, gradients, pseudo-labels and batch statistics of the authors' PLS on a small network."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from tests.golden.reference import imports_from, on_the_cpu
from tests.golden.small_networks import CLASSES, SmallNetwork, flat, images

REFERENCE = "https://github.com/PaulAlbert31/PLS"
COMMIT = "c48443d6cd585824c666ed31941fe9cd1961f79c"
COMPUTED = "main.Trainer.train on one batch: in the warm-up, in the first epoch of correction, and later"

SIZE, WARMUP = 8, 2
EPOCHS = (1, 2, 3)


class _Scaler:
    """Scaler of mixed precision that only reads the loss and the gradients."""

    def __init__(self, network: SmallNetwork) -> None:
        self.network, self.loss, self.gradient = network, 0.0, np.zeros(0)

    def scale(self, loss: Tensor) -> Tensor:
        self.loss = loss.item()
        return loss

    def step(self, optimizer: Any) -> None:
        self.gradient = flat(self.network, gradients=True)

    def update(self) -> None:
        """Do nothing."""


class _Loader(list[Any]):
    dataset = range(SIZE)


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results."""
    rng = np.random.default_rng(0)
    views, labels = images(rng, 3, SIZE), rng.integers(0, CLASSES, SIZE)
    noisy, weights = rng.random(SIZE) < 0.5, rng.random(SIZE).astype(np.float32)
    mix_weights, partners = rng.beta(1, 1, len(EPOCHS)), np.array([rng.permutation(SIZE) for _ in EPOCHS])
    arrays: dict[str, list[Any]] = {name: [] for name in ("loss", "gradient", "after", "pseudo_labels")}
    with imports_from(folder), on_the_cpu():
        trainer_class: Any = importlib.import_module("main").Trainer
        for case, epoch in enumerate(EPOCHS):
            torch.manual_seed(2)
            trainer, network = object.__new__(trainer_class), SmallNetwork()
            first = flat(network)
            trainer.args = SimpleNamespace(
                lr_type="step", warmup=WARMUP, fp32=True, gamma=2, mu=0.2, mixup=True, num_class=CLASSES, no_reg=False,
                force_reg=False, cont=True, cont_reg=WARMUP, no_correct=False, no_weights_cont=False, weight_unsup=1,
            )  # fmt: skip
            trainer.model, trainer.scaler, trainer.save_model = network, _Scaler(network), lambda *_, **__: None
            trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            trainer.is_idn = torch.from_numpy(noisy)
            trainer.is_clean, trainer.is_ood = ~trainer.is_idn, torch.zeros(SIZE, dtype=torch.bool)
            # As in the authors' loop, the first epoch of correction has no weights yet.
            trainer.weights = torch.from_numpy(weights.copy()) if epoch > WARMUP else torch.ones(SIZE)
            one_hot = torch.eye(CLASSES)[torch.from_numpy(labels)]
            trainer.guessed_labels_soft = one_hot.clone()
            sample = {
                **{name: torch.from_numpy(view.copy()) for name, view in zip(
                    ("image", "image_", "image2"), views, strict=True)},
                "target": one_hot.clone(), "index": torch.arange(SIZE),
            }  # fmt: skip
            trainer.train_loader = _Loader([sample])
            with (
                mock.patch.object(np.random, "beta", return_value=float(mix_weights[case])),
                mock.patch.object(torch, "randperm", return_value=torch.from_numpy(partners[case])),
            ):
                trainer.train(epoch)
            results = (trainer.scaler.loss, trainer.scaler.gradient, flat(network), trainer.guessed_labels_soft.numpy())
            for name, value in zip(arrays, results, strict=True):
                arrays[name].append(value)
    return {
        "views": views, "labels": labels, "noisy": noisy, "weights": weights, "first": first,
        "mix_weight": mix_weights, "partner": partners, **{name: np.array(values) for name, values in arrays.items()},
    }  # fmt: skip

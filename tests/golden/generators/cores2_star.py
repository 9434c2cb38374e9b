"""Second phase of CORES2 in the authors' code, on a small network with batch normalization."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax, softmax

from tests.golden.reference import Batches, definitions, on_the_cpu
from tests.golden.small_networks import CLASSES, SmallNetwork, flat, images

REFERENCE = "https://github.com/UCSC-REAL/cores"
COMMIT = "cf0945e2d5eb4f38962913d51d6dff679099ad86"
COMPUTED = (
    "phase1.get_noise_pred: examples that the sieve of an epoch leaves out; phase2.run_epoch: losses, weights and batch "
    "statistics of 4 SGD steps with Nesterov momentum and clipped gradients, at two weights of the consistency"
)

LABELED, UNLABELED, STEPS, WEIGHTS, CLIP = 8, 4, 4, (0.2, 0.9), 0.5


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the steps."""
    return torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9, weight_decay=5e-4, nesterov=True)


class Meter(dict[str, Any]):
    """Losses of all steps, in the form of the authors' accumulator."""

    losses: list[float] = []

    def add_dict(self, values: dict[str, float]) -> None:
        if "loss" in values:
            self.losses.append(values["loss"] / LABELED)

    def __truediv__(self, count: int) -> Meter:
        self.metrics = dict[str, Any]()
        return self


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, labels, losses and weights."""
    rng = np.random.default_rng(0)
    phase1 = definitions(folder / "phase1.py", {"np": np, "print": lambda *_: None})
    sieve = rng.normal(size=(20, 3))
    left_out = phase1["get_noise_pred"](sieve, None, epoch=1)
    config: dict[str, Any] = {
        "tqdm_disable": True, "ratio_mode": "constant", "batch_unsup": UNLABELED, "optimizer": {"clip": CLIP}, "epoch": 1,
    }  # fmt: skip
    names: dict[str, Any] = {
        "torch": torch, "nn": nn, "kl_div": kl_div, "softmax": softmax, "log_softmax": log_softmax, "Accumulator": Meter,
        "C": SimpleNamespace(get=lambda: config), "accuracy": lambda *_: (torch.zeros(()), torch.zeros(())),
        "logger": SimpleNamespace(info=lambda *_: None),
    }  # fmt: skip
    phase2 = definitions(folder / "phase2" / "phase2.py", names)
    supervised, labels = images(rng, STEPS, LABELED), rng.integers(0, CLASSES, (STEPS, LABELED))
    pairs = images(rng, STEPS, 2, UNLABELED)
    torch.manual_seed(0)
    arrays: dict[str, Any] = {
        "sieve": sieve[:, 1].astype(np.float32), "left_out": left_out, "supervised": supervised, "labels": labels,
        "pairs": pairs, "first": flat(SmallNetwork()),
    }  # fmt: skip
    losses, trained = [], []
    for weight in WEIGHTS:
        torch.manual_seed(0)
        network, config["ratio_unsup"], Meter.losses = SmallNetwork(), weight, []
        loader = Batches(zip(torch.from_numpy(supervised), torch.from_numpy(labels), strict=True))
        others = Batches(tuple(views) for views in torch.from_numpy(pairs))
        with on_the_cpu():
            phase2["run_epoch"](
                network, loader, others, nn.CrossEntropyLoss(), optimizer_of(network), verbose=0, unsupervised=True
            )
        losses.append(Meter.losses)
        trained.append(flat(network))
    return arrays | {"losses": np.array(losses), "trained": np.array(trained)}

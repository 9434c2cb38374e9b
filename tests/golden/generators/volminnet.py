"""Two epochs of three steps of the authors' training loop, with a network and a transition matrix."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.reference import definitions

REFERENCE = "https://github.com/xuefeng-li1/Provably-end-to-end-label-noise-learning-without-anchor-points"
COMMIT = "06e4167e054c953a4fdf013b8db9ff420d3cdae5"
COMPUTED = (
    "main.main with models.sig_t: weights of a linear network, logits of the matrix and the matrix itself after two epochs of "
    "three steps, with SGD and Adam for the matrix"
)

SETTINGS = ((1e-4, 2.0, "sgd"), (0.1, 2.0, "sgd"), (0.1, 4.5, "adam"))
"""Weight of the volume, initial negative logit and optimizer of the matrix."""

CLASSES, FEATURES, BATCH, STEPS, EPOCHS = 5, 4, 8, 3, 2
MILESTONE = 1
"""Epoch at which both learning rates are divided by ten."""


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    arrays: dict[str, Any] = {}
    for position, (volume_weight, init, kind) in enumerate(SETTINGS):
        rng = np.random.default_rng(position)
        torch.manual_seed(position)
        # The module imports its utilities by `*`: torch, NumPy and the functions of torch.
        shared = {"torch": torch, "nn": nn, "F": functional, "np": np}
        matrix = definitions(folder / "models.py", dict(shared))["sig_t"]("cpu", CLASSES, init)
        linear = nn.Linear(FEATURES, CLASSES)
        optimizers = [
            torch.optim.SGD(linear.parameters(), lr=0.1, weight_decay=1e-4, momentum=0.9),
            torch.optim.SGD(matrix.parameters(), lr=0.05, weight_decay=0, momentum=0.9)
            if kind == "sgd"
            else torch.optim.Adam(matrix.parameters(), lr=0.05, weight_decay=0),
        ]
        schedules = [torch.optim.lr_scheduler.MultiStepLR(each, [MILESTONE], gamma=0.1) for each in optimizers]
        inputs = rng.normal(0, 2, (STEPS, BATCH, FEATURES)).astype("float32")
        labels = rng.integers(0, CLASSES, (STEPS, BATCH))
        arrays |= {
            f"inputs_{position}": inputs, f"labels_{position}": labels,
            f"first_weight_{position}": linear.weight.detach().numpy().copy(),
            f"first_bias_{position}": linear.bias.detach().numpy().copy(),
        }  # fmt: skip
        batches = [(torch.from_numpy(inputs[step]), torch.from_numpy(labels[step])) for step in range(STEPS)]
        with tempfile.TemporaryDirectory() as matrices:
            names: dict[str, Any] = {
                **shared, "args": SimpleNamespace(n_epoch=EPOCHS, lam=volume_weight, batch_size=BATCH), "device": "cpu",
                "model": nn.Sequential(linear, nn.Softmax(1)), "trans": matrix, "logs": io.StringIO(),
                "optimizer_es": optimizers[0], "optimizer_trans": optimizers[1], "scheduler1": schedules[0],
                "scheduler2": schedules[1], "loss_func_ce": functional.nll_loss, "matrix_dir": matrices,
                "train_loader": batches, "val_loader": batches, "test_loader": batches,
                "train_data": SimpleNamespace(t=0), "val_data": 0, "test_data": 0,
                "tools": SimpleNamespace(error=lambda *_: 0.0), "len": lambda _: STEPS * BATCH,
                "val_loss_list": [], "val_acc_list": [], "test_acc_list": [],
            }  # fmt: skip
            definitions(folder / "main.py", names)["main"]()
        arrays |= {
            f"weight_{position}": linear.weight.detach().numpy(), f"logits_{position}": matrix.w.detach().numpy(),
            f"matrix_{position}": matrix().detach().numpy(),
        }  # fmt: skip
    return arrays

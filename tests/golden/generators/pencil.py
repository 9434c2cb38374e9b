"""Epochs of all parts of PENCIL's training loop, with a linear network."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.golden.reference import Replacing, definitions, on_the_cpu

REFERENCE = "https://github.com/yikun2019/PENCIL"
COMMIT = "8a89ed50b6ecd998439b09947b59412dccbca93f"
COMPUTED = (
    "PENCIL.train and adjust_learning_rate, without the keyword `async` of old releases of PyTorch: weights of a "
    "linear network and distributions of all examples after two epochs of each part"
)

CLASSES, FEATURES, EXAMPLES, BATCH = 10, 6, 24, 8
RATE, FINAL_RATE, LABEL_RATE, ALPHA, BETA = 0.1, 0.05, 600, 0.4, 0.1
STAGES = (2, 4, 6)
"""Epochs after each of the three parts; the last one is shorter than a third of the authors' last part."""


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every part."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    inputs = rng.normal(0, 1, (EXAMPLES, FEATURES)).astype("float32")
    labels = rng.integers(0, CLASSES, EXAMPLES)
    arrays: dict[str, Any] = {"inputs": inputs, "labels": labels}
    arrays |= {"weight_0": network.weight.detach().numpy().copy(), "bias_0": network.bias.detach().numpy().copy()}
    order = torch.arange(EXAMPLES).split(BATCH)
    batches = [(torch.from_numpy(inputs)[rows], torch.from_numpy(labels)[rows], rows) for rows in order]
    # Without momentum, since its state at the start of the last part differs.
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.0, weight_decay=1e-4)
    with tempfile.TemporaryDirectory() as files, on_the_cpu():
        (Path(files) / "record").mkdir()
        script = Path(files) / "PENCIL.py"
        # A view of a tensor that is not contiguous was allowed as well.
        text = re.sub(r"async ?= ?True", "", (folder / "PENCIL.py").read_text(encoding="utf-8"))
        script.write_text(text.replace("correct[:k].view(-1)", "correct[:k].reshape(-1)"), encoding="utf-8")
        arguments = SimpleNamespace(
            datanum=EXAMPLES, classnum=CLASSES, stage1=STAGES[0], stage2=STAGES[1], epochs=STAGES[1] + 3 * 2, lr=RATE,
            lr2=FINAL_RATE, lambda1=LABEL_RATE, alpha=ALPHA, beta=BETA, dir=f"{files}/", print_freq=50,
        )  # fmt: skip
        names = {"torch": torch, "nn": nn, "np": np, "time": Replacing(time), "args": arguments}
        reference = definitions(script, names)
        for epoch in range(STAGES[2]):
            reference["adjust_learning_rate"](optimizer, epoch)
            distributions = np.load(f"{files}/y.npy") if epoch else []
            reference["train"](batches, network, criterion, optimizer, epoch, distributions)
            if epoch + 1 in STAGES:
                arrays |= {
                    f"weight_{epoch + 1}": network.weight.detach().numpy().copy(),
                    f"bias_{epoch + 1}": network.bias.detach().numpy().copy(),
                    f"distributions_{epoch + 1}": np.load(f"{files}/y.npy").astype("float32"),
                }  # fmt: skip
    return arrays

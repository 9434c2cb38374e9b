"""Gradient of peer loss in the multi-class code of its authors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.golden.reference import Batches, definitions

REFERENCE = "https://github.com/weijiaheng/Multi-class-Peer-Loss-functions"
COMMIT = "fba9eb6d2b62476552955bae8da2f73f5229c6cf"
COMPUTED = (
    "CIFAR-10/runner.train and f_alpha: change of the weights of a linear network in one step of SGD at a rate of 1, in six "
    "epochs of both schedules"
)

SIZE, FEATURES, CLASSES, EPOCHS = 16, 6, 5, (0, 25, 60, 120, 200, 299)
SCHEDULES = {"sparse": 0.1, "uniform": 0.3}
"""Kinds of noise by the number that the authors give them."""


def linear_network(weight: Any) -> nn.Linear:
    """Return a linear network with the given (C, F) weights."""
    network = nn.Linear(FEATURES, CLASSES, bias=False)
    network.weight.data = torch.as_tensor(weight).clone()
    return network


def peer_inputs(rng: np.random.Generator) -> dict[str, Any]:
    """Return weights, inputs and labels of a batch, and inputs and labels of two batches of peers."""
    inputs = {name: rng.normal(size=(SIZE, FEATURES)).astype(np.float32) for name in ("inputs", "peer_inputs")}
    labels = {name: rng.integers(0, CLASSES, SIZE) for name in ("labels", "peer_labels")}
    return {"weights": rng.normal(size=(CLASSES, FEATURES)).astype(np.float32), **inputs, **labels}


def step_gradient(train: Any, arrays: dict[str, Any], epoch: int) -> np.ndarray[Any, Any]:
    """Return the change of the weights of a linear network by a reference's step on a batch and its peers."""
    network, index = linear_network(arrays["weights"]), torch.arange(SIZE)
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items() if name != "weights"}
    # The reference takes the inputs of the first batch of peers, and the labels of the second.
    peers = Batches([(index, tensors["peer_inputs"], None), (index, None, tensors["peer_labels"])])
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    train([(index, tensors["inputs"], tensors["labels"])], peers, network, optimizer, epoch)
    return arrays["weights"] - network.weight.detach().numpy()


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, and the gradients of all epochs of both schedules."""
    arrays = peer_inputs(np.random.default_rng(0))
    results: dict[str, Any] = {"epochs": np.array(EPOCHS)}
    for schedule, kind in SCHEDULES.items():
        names = {
            "torch": torch, "nn": nn, "np": np, "device": "cpu", "batch_size": SIZE, "args": SimpleNamespace(r=kind)
        }  # fmt: skip
        reference = definitions(folder / "CIFAR-10" / "runner.py", names)
        reference["criterion"] = reference["CrossEntropyLossStable"]()
        results[f"weight_{schedule}"] = np.array([reference["f_alpha"](epoch) for epoch in EPOCHS])
        results[f"gradient_{schedule}"] = np.array(
            [step_gradient(reference["train"], arrays, epoch) for epoch in EPOCHS]
        )
    return {**arrays, **results}

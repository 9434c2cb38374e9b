"""PES on a network of three layers: an epoch, both re-initializations, and an epoch on confident examples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.reference import Batches, Replacing, definitions, on_the_cpu

REFERENCE = "https://github.com/tmllab/PES"
COMMIT = "54662382dca22f314911488d79711cffa7fbf1a0"
COMPUTED = (
    "PES_cs.noisy_refine and PES_cs.update_trainloader with common.tools.train and predict_softmax: weights after each part of "
    "the training, confident examples and class weights"
)

CLASSES, FEATURES, HIDDEN, EXAMPLES, BATCH = 6, 7, 8, 60, 12
RATE, LATE_RATE, LATE_EPOCHS = 0.2, 0.1, 3
PARTS = ("first", "renewed_stage", "renewed_classifier", "refined", "final")
"""Points at which all weights are kept."""


class Network(nn.Module):
    """Two stages and a classifier, of which the late ones can be renewed as in the authors' networks."""

    stages = ("layer3", "layer4")

    def __init__(self) -> None:
        super().__init__()
        self.layer3 = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.renew_layers(1)

    def renew_layers(self, last_num_layers: int) -> None:
        if last_num_layers:
            # Without a bias, whose gradient before batch normalization is nothing but rounding errors of the CPU.
            linear = nn.Linear(HIDDEN, HIDDEN, bias=False)
            self.layer4 = nn.Sequential(linear, nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.linear = nn.Linear(HIDDEN, CLASSES)
        self.seen = getattr(self, "seen", [])
        self.seen.append(weights(self))

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.linear(self.layer4(self.layer3(inputs)))


def weights(network: nn.Module) -> dict[str, Any]:
    """Return a copy of all weights and statistics."""
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, weights and selections."""
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    inputs = rng.normal(0, 1, (EXAMPLES, FEATURES)).astype("float32")
    inputs[:, :CLASSES] += 1.5 * np.eye(CLASSES, dtype="float32")[labels]
    labels[::4] = rng.integers(0, CLASSES, EXAMPLES // 4)
    model, criterion = Network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, weight_decay=1e-4)
    loaders: list[Any] = []

    def loader(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
        data = [torch.from_numpy(np.ascontiguousarray(array)) for array in dataset]
        stop = len(data[0]) - (batch_size - 1 if drop_last else 0)
        loaders.append(
            Batches(tuple(part[start : start + batch_size] for part in data) for start in range(0, stop, batch_size))
        )
        return loaders[-1]

    torch_on_cpu = Replacing(torch, cuda=SimpleNamespace(is_available=lambda: True), FloatTensor=torch.FloatTensor)
    names = {
        "torch": torch_on_cpu,
        "F": functional,
        "np": np,
        "time": Replacing(__import__("time")),
        "Variable": lambda x: x,
    }
    tools = definitions(folder / "common" / "tools.py", {**names, "datetime": __import__("datetime")})
    shared: dict[str, Any] = {
        **names, "nn": nn, "args": SimpleNamespace(batch_size=BATCH, num_class=CLASSES, PES_lr=LATE_RATE), "DataLoader": loader,
        "Semi_Unlabeled_Dataset": lambda data, _: (data, data), "Train_Dataset": lambda data, target, _: (data, target),
        "transform_train": None, "train_data": inputs, "train_clean_labels": labels, "train_noisy_labels": labels,
        "train": tools["train"], "predict_softmax": tools["predict_softmax"], "evaluate": lambda *_: (0, 0),
        "ceriation": criterion, "test_loader": None,
    }  # fmt: skip
    pes = definitions(folder / "PES_cs.py", shared)
    batches = loader((inputs, labels), BATCH, drop_last=True)
    with on_the_cpu():
        tools["train"](model, batches, optimizer, criterion, 0)
        for depth in (1, 0):
            pes["noisy_refine"](model, batches, depth, LATE_EPOCHS)
        refined = weights(model)
        selected, weighted = pes["update_trainloader"](model, inputs, labels, labels)
        tools["train"](model, selected, optimizer, weighted, 0)
    points = dict(zip(PARTS, (*model.seen, refined, weights(model)), strict=True))
    rows = [int(np.flatnonzero((inputs == row.numpy()).all(1))[0]) for batch in selected for row in batch[0]]
    return {
        "inputs": inputs, "labels": labels, "class_weights": weighted.weight.numpy(), "selected": np.array(rows),
        **{f"{point}.{name}": array for point, kept in points.items() for name, array in kept.items()},
    }  # fmt: skip

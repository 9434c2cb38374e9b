"""Divisions and training steps of the authors' PES with semi-supervised learning, on a small network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.reference import Batches, Replacing, definitions, on_the_cpu
from tests.golden.small_networks import CLASSES, SmallNetwork, flat, images

REFERENCE = "https://github.com/tmllab/PES"
COMMIT = "54662382dca22f314911488d79711cffa7fbf1a0"
COMPUTED = (
    "PES_semi.update_trainloader: sizes of batches, examples and class weights of three divisions; PES_semi.MixMatch_train: "
    "weights and batch statistics after two SGD steps in the ramp, and two in the second half of the training"
)

SIZES, BATCH, EXAMPLES, STEPS = (5, 3), 8, 60, 2
WARMUP, EPOCHS, MIXMATCH_EPOCHS, WEIGHT = 20, 100, (24, 50), 15.0
RATES = (0.2, 0.7, 0.35)
"""Rates of labels that differ from the prediction."""


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the steps."""
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def generate(folder: Path) -> dict[str, Any]:
    """Return divisions, inputs and weights."""
    rng, arguments = (
        np.random.default_rng(0),
        SimpleNamespace(num_epochs=EPOCHS, alpha=4, T=0.5, lambda_u=WEIGHT, T1=WARMUP, num_class=CLASSES),
    )
    names: dict[str, Any] = {
        "torch": torch, "F": functional, "args": arguments, "AverageMeter": mock.MagicMock(), "print": lambda *_: None,
        "Semi_Labeled_Dataset": lambda data, labels, _: data, "Semi_Unlabeled_Dataset": lambda data, _: data, "np": np,
        "transform_train": None, "getTime": lambda: "",
    }  # fmt: skip
    script = definitions(folder / "PES_semi.py", names)
    with on_the_cpu():
        return _divisions(script, rng) | _steps(script, rng)


def _divisions(script: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    script["args"].batch_size = BATCH
    found: dict[str, list[Any]] = {
        name: [] for name in ("division_labels", "predicted", "sizes", "confident", "class_weights")
    }
    for rate in RATES:
        # Class 0 is rare, and none of its labels is predicted in the last division.
        labels = rng.choice(CLASSES, EXAMPLES, p=[0.1, 0.4, 0.3, 0.2])
        predicted = np.where(rng.random(EXAMPLES) < rate, (labels + 1) % CLASSES, labels)
        if rate == RATES[-1]:
            predicted = np.where(labels == 0, 1, predicted)
        loaders: list[Any] = []

        def loader(dataset: Any, batch_size: int, loaders: list[Any] = loaders, **_: Any) -> None:
            loaders.append((batch_size, dataset))

        scores = torch.from_numpy(np.eye(CLASSES)[predicted])
        script |= {"DataLoader": loader, "predict_softmax": lambda loader, model, scores=scores: scores}
        *_, weights = script["update_trainloader"](None, np.arange(EXAMPLES), labels, labels)
        (_, (labeled, confident), (unlabeled, _)) = loaders
        for name, value in zip(
            found, (labels, predicted, (labeled, unlabeled), confident, weights.numpy()), strict=True
        ):
            found[name].append(value)
    # Divisions have different numbers of confident examples.
    confident = np.stack([np.isin(np.arange(EXAMPLES), rows) for rows in found.pop("confident")])
    return {name: np.array(values) for name, values in found.items()} | {"confident": confident}


def _steps(script: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    # The script trains as many steps as 50,000 examples fill.
    script["args"].batch_size = 50_000 // STEPS
    drawn: dict[str, list[Any]] = {"parameters": [], "mix_weight": [], "partner": []}
    generator = torch.Generator().manual_seed(0)

    def beta(first: float, second: float) -> float:
        drawn["parameters"].append((first, second))
        drawn["mix_weight"].append(rng.beta(first, second))
        return float(drawn["mix_weight"][-1])

    def randperm(count: int) -> torch.Tensor:
        partner = torch.randperm(count, generator=generator)
        drawn["partner"].append(partner)
        return partner

    script |= {
        "np": Replacing(np, random=SimpleNamespace(beta=beta)), "torch": Replacing(torch, randperm=randperm),
    }  # fmt: skip
    labeled, unlabeled = (images(rng, STEPS, 2, size) for size in SIZES)
    labels = rng.integers(0, CLASSES, (STEPS, SIZES[0]))
    weights = np.array([0.5, 1.0, 3.0, 0.0], dtype=np.float32)
    torch.manual_seed(0)
    arrays: dict[str, Any] = {
        "labeled": labeled, "unlabeled": unlabeled, "labels": labels, "weights": weights, "first": flat(SmallNetwork()),
    }  # fmt: skip
    trained = []
    for epoch in MIXMATCH_EPOCHS:
        torch.manual_seed(0)
        network = SmallNetwork()
        with_labels = Batches(
            (*torch.from_numpy(views), torch.from_numpy(own)) for views, own in zip(labeled, labels, strict=True)
        )
        without = Batches(tuple(torch.from_numpy(views)) for views in unlabeled)
        script["MixMatch_train"](epoch, network, optimizer_of(network), with_labels, without, torch.from_numpy(weights))
        trained.append(flat(network))
    return arrays | {
        "trained": np.array(trained), "parameters": np.array(drawn["parameters"]),
        "mix_weight": np.array(drawn["mix_weight"]), "partner": torch.stack(drawn["partner"]).numpy(),
    }  # fmt: skip

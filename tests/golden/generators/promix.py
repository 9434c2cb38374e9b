"""Training steps, warm-up and selection of the authors' ProMix on small networks, and masks of its FMix."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.golden.reference import Batches, Replacing, definitions, on_the_cpu
from tests.golden.small_networks import CLASSES, FEATURES, backbone, flat, images

REFERENCE = "https://github.com/Justherozen/ProMix"
COMMIT = "40d8378193f1a098473479ebcb56dbafa89dfacb"
COMPUTED = (
    "Train_promix.train: weights and batch statistics of two networks and running means of their predictions, after two SGD "
    "steps in the ramps and two with agreement; warmup with its penalty, one step; eval_train, selected examples; "
    "utils.fmix, masks of three sizes"
)

SIZE, STEPS, EPOCHS, RAMP, MOMENTUM, SHAPE = 16, 2, 600, 50, 0.9, (3, 4)
SETTINGS = ((20, 0.4), (EPOCHS, 0.3))
"""Epoch and threshold of confidence of both pairs of steps; the second ones have agreement."""

MASKS = ((32, 32, 0.3), (3, 4, 0.5), (6, 7, 0.8))
"""Height, width and weight of masks."""


class TwoClassifiers(nn.Module):
    """A backbone with a classifier and an auxiliary one, with the arguments of the authors' networks."""

    def __init__(self) -> None:
        super().__init__()
        self.model = backbone()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.pseudo_linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor, train: bool = False, use_ph: bool = False) -> Any:
        """Return the scores that are asked for; features are never read."""
        features = self.model(inputs)
        both = self.linear(features), self.pseudo_linear(features)
        if train:
            return *both, None
        return both if use_ph else both[0]


def two_networks() -> nn.ModuleList:
    """Return both networks with the weights that they start from."""
    torch.manual_seed(0)
    return nn.ModuleList([TwoClassifiers(), TwoClassifiers()])


def optimizer_of(networks: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the steps."""
    return torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


class Draws:
    """Random numbers of the authors' scripts, which are kept in order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.kept: dict[str, list[Any]] = {"weights": [], "coins": [], "noise": []}

    def beta(self, first: float, second: float) -> float:
        self.kept["weights"].append(self.rng.beta(first, second))
        return float(self.kept["weights"][-1])

    def coin(self) -> float:
        self.kept["coins"].append(self.rng.random())
        return float(self.kept["coins"][-1])

    def normal(self, *shape: int) -> Any:
        noise = self.rng.normal(size=shape)
        # The script reads two rows of the spectrum.
        self.kept["noise"].append(noise[0, :2])
        return noise

    def names(self) -> dict[str, Any]:
        """Return what the scripts import."""
        return {
            "np": Replacing(np, random=SimpleNamespace(beta=self.beta, randn=self.normal)), "math": math,
            "random": SimpleNamespace(random=self.coin), "beta": SimpleNamespace(rvs=self.beta), "F": functional, "nn": nn,
            "torch": Replacing(torch, randperm=lambda count: torch.arange(count).roll(1)), "print": lambda *_: None,
        }  # fmt: skip


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, weights, running means, selections and masks."""
    rng = np.random.default_rng(0)
    draws = Draws(rng)
    names = draws.names()
    definitions(folder / "utils" / "utils.py", names)
    definitions(folder / "utils" / "fmix.py", names)
    names["args"] = SimpleNamespace(
        rho_start=0.5, rho_end=0.5, warmup_ep=RAMP, debias_output=0.8, debias_pl=0.5, batch_size=SIZE, num_class=CLASSES,
        num_epochs=EPOCHS, start_expand=250, threshold=0.9, T=0.5, bias_m=MOMENTUM, dataset="", noise_type="",
        noise_mode="asym",
    )  # fmt: skip
    definitions(folder / "Train_promix.py", names)
    names |= {
        "fmix": names["FMix"](size=SHAPE), "CE": nn.CrossEntropyLoss(reduction="none"), "CEloss": nn.CrossEntropyLoss(),
        "CEsoft": names["CE_Soft_Label"](), "conf_penalty": names["NegEntropy"](),
    }  # fmt: skip
    with on_the_cpu():
        arrays = _steps(names, rng) | {name: np.array(values) for name, values in draws.kept.items()}
        arrays |= _warmup(names, rng) | _selection(names, rng)
    return arrays | _masks(names, draws)


def _steps(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    labels = rng.integers(0, CLASSES, (STEPS, SIZE))
    # Classes are at different places, so that networks agree about some examples.
    views = images(rng, STEPS, 2, SIZE) * 0.7 + images(rng, CLASSES)[labels][:, None]
    selected = rng.random((STEPS, 2, SIZE)) < 0.3
    arrays: dict[str, Any] = {"views": views, "labels": labels, "selected": selected}
    arrays["first"] = np.array([flat(network) for network in two_networks()])
    trained, priors = [], []
    for epoch, names["args"].tau in SETTINGS:
        networks = two_networks()
        loader = Batches(
            (
                *map(torch.from_numpy, views[k]),
                torch.from_numpy(labels[k]),
                *map(torch.from_numpy, selected[k]),
                None,
                None,
            )
            for k in range(STEPS)
        )
        loader.dataset = range(STEPS * SIZE)
        starts = [torch.ones(CLASSES) / CLASSES for _ in range(4)]
        found = names["train"](epoch, *networks, optimizer_of(networks), loader, *starts)
        trained.append([flat(network) for network in networks])
        priors.append([[found[number].numpy(), found[2 + number].numpy()] for number in range(2)])
    return arrays | {"trained": np.array(trained), "priors": np.array(priors)}


def _warmup(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    views, labels, networks = images(rng, SIZE), rng.integers(0, CLASSES, SIZE), two_networks()
    loader = Batches([(torch.from_numpy(views), None, torch.from_numpy(labels), None)])
    loader[0] = (loader[0][0], loader[0][0], *loader[0][2:])
    loader.dataset = range(SIZE)
    names["warmup"](0, *networks, optimizer_of(networks), loader)
    return {
        "warmup_views": views, "warmup_labels": labels, "warmed_up": np.array([flat(network) for network in networks]),
    }  # fmt: skip


def _selection(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    count = 60
    # The second class is rare, and the last one is missing.
    labels = rng.choice(CLASSES, count, p=[0.5, 0.05, 0.45, 0.0])
    scores = rng.normal(size=(count, CLASSES)).astype(np.float32)
    # The script has room for the 50,000 examples of CIFAR-10.
    names["torch"].zeros = lambda *shape: torch.zeros(count) if shape == (50000,) else torch.zeros(*shape)
    names["eval_loader"] = Batches([(torch.arange(count), torch.from_numpy(labels), torch.arange(count))])
    names["epoch"] = 0
    selected, _ = names["eval_train"](nn.Embedding.from_pretrained(torch.from_numpy(scores)), [], 0.5, CLASSES)
    return {"small_labels": labels, "small_scores": scores, "small": selected.astype(bool)}


def _masks(names: dict[str, Any], draws: Draws) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for height, width, weight in MASKS:
        image = names["make_low_freq_image"](3, (height, width))
        mask = names["binarise_mask"](image, weight, (height, width))[0]
        arrays[f"noise_{height}"] = draws.kept["noise"][-1]
        arrays[f"mask_{height}"] = mask.astype(bool)
    return arrays

"""Training steps, divisions and deployed predictions of the authors' DivideMix on small networks and losses."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as functional
from sklearn.mixture import GaussianMixture

from tests.golden.reference import Batches, Replacing, definitions, on_the_cpu

REFERENCE = "https://github.com/LiJunnan1992/DivideMix"
COMMIT = "d9d3058fa69a952463b896f84730378cdee6ec39"
COMPUTED = (
    "Train_cifar: train, two SGD steps of a network with batch normalization; warmup with asymmetric noise, one step; "
    "eval_train, posteriors of six epochs at noise rates .5 and .9; test, classes predicted by two networks"
)

CLASSES, SIZE, WARMUP = 4, 6, 10
UNLABELED_WEIGHTS = (0.0, 25.0, 150.0)


def small_network() -> nn.Module:
    """Return a network with batch normalization for 12 inputs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))


def flat(network: nn.Module) -> Any:
    """Return all weights and statistics of a network in one array."""
    tensors = [t.flatten().float() for name, t in network.state_dict().items() if "num_batches" not in name]
    return torch.cat(tensors).numpy().copy()


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of training, division and prediction."""
    arguments = SimpleNamespace(
        alpha=4, T=0.5, batch_size=SIZE, num_class=CLASSES, dataset="cifar10", r=0.5, noise_mode="sym", num_epochs=300,
        lambda_u=25.0,
    )  # fmt: skip
    drawn: dict[str, list[Any]] = {"mix_weight": [], "partner": []}
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def beta(first: float, second: float) -> float:
        drawn["mix_weight"].append(rng.beta(first, second))
        return float(drawn["mix_weight"][-1])

    def randperm(count: int) -> torch.Tensor:
        drawn["partner"].append(torch.randperm(count, generator=torch_rng))
        return drawn["partner"][-1]

    numpy = Replacing(np, random=SimpleNamespace(beta=beta))
    names: dict[str, Any] = {
        "torch": Replacing(torch, randperm=randperm), "nn": nn, "F": functional, "np": numpy, "args": arguments,
        "sys": SimpleNamespace(stdout=io.StringIO()), "GaussianMixture": GaussianMixture, "warm_up": WARMUP,
        "CE": nn.CrossEntropyLoss(reduction="none"), "CEloss": nn.CrossEntropyLoss(), "print": lambda *_: None,
        "test_log": mock.MagicMock(),
    }  # fmt: skip
    definitions(folder / "Train_cifar.py", names)
    names |= {"criterion": names["SemiLoss"](), "conf_penalty": names["NegEntropy"]()}
    with on_the_cpu():
        arrays = _training(names, drawn, rng)
        arrays |= _warmup(names, rng)
        arrays |= _divisions(names, rng)
    return arrays | _predictions(names, rng)


def _networks() -> list[nn.Module]:
    torch.manual_seed(1)
    return [small_network(), small_network()]


def _training(names: dict[str, Any], drawn: dict[str, list[Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Return two steps for each weight of the unlabeled loss."""
    arrays: dict[str, Any] = {"unlabeled_weights": np.array(UNLABELED_WEIGHTS)}
    images = rng.normal(size=(2, 4, SIZE, 12)).astype(np.float32)
    labels, clean = rng.integers(0, CLASSES, (2, SIZE)), rng.uniform(0.5, 1, (2, SIZE)).astype(np.float32)
    arrays |= {"images": images, "labels": labels, "clean": clean, "first": np.array([flat(n) for n in _networks()])}
    tensors = torch.from_numpy(images)
    labeled = Batches(
        (tensors[k, 0], tensors[k, 1], torch.from_numpy(labels[k]), torch.from_numpy(clean[k])) for k in range(2)
    )
    labeled.dataset = range(2 * SIZE)
    unlabeled = Batches((tensors[k, 2], tensors[k, 3]) for k in range(2))
    ends = []
    for weight in UNLABELED_WEIGHTS:
        names["args"].lambda_u = weight
        network, other = _networks()
        before = flat(other)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        # Three epochs after the warm-up, so that the weight of the unlabeled loss still rises from step to step.
        names["train"](WARMUP + 3, network, other, optimizer, labeled, unlabeled)
        assert np.array_equal(before, flat(other))
        ends.append(flat(network))
    return arrays | {
        "trained": np.array(ends), "mix_weight": np.array(drawn["mix_weight"]),
        "partner": torch.stack(drawn["partner"]).numpy(),
    }  # fmt: skip


def _warmup(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return one step of the warm-up with the penalty for asymmetric noise."""
    images, labels = rng.normal(size=(SIZE, 12)).astype(np.float32), rng.integers(0, CLASSES, SIZE)
    names["args"].noise_mode = "asym"
    (network, _), batches = _networks(), Batches([(torch.from_numpy(images), torch.from_numpy(labels), None)])
    batches.dataset = range(SIZE)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    names["warmup"](0, network, optimizer, batches)
    return {"warmup_images": images, "warmup_labels": labels, "warmed_up": flat(network)}


def _divisions(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the posteriors of a low loss, with the loss of one epoch and with the mean over five."""
    count, epochs = 120, 6
    # Few clear and many unclear examples; some losses are far above 28 nats.
    labels, scale = rng.integers(0, 3, count), np.array([1, 2, 3, 5, 8, 20])[:, None, None]
    scores = (rng.normal(0, 0.6, (epochs, count, 3)) * scale).astype(np.float32)
    scores[:, np.arange(count), labels] += np.where(np.arange(count) % 3 == 0, -1, 1.5) * scale[:, :, 0]
    loader = Batches([(torch.arange(count), torch.from_numpy(labels), torch.arange(count))])
    # The script has room for the 50,000 examples of CIFAR-10.
    names["torch"].zeros = lambda *shape: torch.zeros(count) if shape == (50000,) else torch.zeros(*shape)
    names["eval_loader"] = loader
    posteriors = []
    for rate in (0.5, 0.9):
        names["args"].r, history = rate, list[Any]()
        for epoch in range(epochs):
            model = nn.Embedding.from_pretrained(torch.from_numpy(scores[epoch]))
            np.random.seed(0)  # noqa: NPY002, the authors seed nothing, and scikit-learn reads the global generator
            posterior, history = names["eval_train"](model, history)
            posteriors.append(posterior)
    del names["torch"].zeros
    return {"scores": scores, "observed": labels, "posteriors": np.array(posteriors).reshape(2, epochs, count)}


def _predictions(names: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the classes that two networks of different confidence predict."""
    scores = (rng.normal(size=(2, 100, 3)) * np.array([2.0, 6.0])[:, None, None]).astype(np.float32)
    predicted: list[torch.Tensor] = []

    def largest(outputs: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        values, indices = torch.max(outputs, dim)
        predicted.append(indices)
        return values, indices

    names["torch"].max = largest
    names["test_loader"] = [(torch.arange(100), torch.zeros(100, dtype=torch.long))]
    with on_the_cpu():
        names["test"](0, *(nn.Embedding.from_pretrained(torch.from_numpy(each)) for each in scores))
    return {"ensemble_scores": scores, "predicted": predicted[0].numpy()}

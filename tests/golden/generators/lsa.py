"""Losses, gradients, pseudo-labels, flags and weights of the authors' LSA and LSA+ on small networks."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from tests.golden.reference import imports_from, on_the_cpu
from tests.golden.small_networks import CLASSES, FEATURES, PROJECTION, backbone, flat, images

REFERENCE = "https://github.com/PaulAlbert31/LSA"
COMMIT = "1b2ca0cd3a4209da170b8c3fc24e9625a47e209a"
COMPUTED = (
    "trainers: Trainer_PLS_improved.compute_losses in epochs 0, 1 and 3, without and with penalty; "
    "Trainer_PLS_improved.detect_noise by loss and by linear separation; detect_noise of Trainer_cotrain_ours, "
    "Trainer_cotrain_DM and Trainer_cotrain_indep"
)

SIZE = 8
CASES = ((0, False), (1, False), (3, False), (3, True))
"""Epoch, of which the first is the warm-up, and penalty on an unbalanced mean prediction."""

EXAMPLES, DETECTED_CLASSES = 200, 3


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of losses and detections."""
    rng = np.random.default_rng(0)
    with imports_from(folder), on_the_cpu():
        trainers: Any = importlib.import_module("trainers")
        # The authors seed no mixture.
        trainers.GaussianMixture = functools.partial(GaussianMixture, random_state=0)
        return _losses(trainers, rng) | _detections(trainers, rng)


def _trainer(trainers: Any, name: str, count: int, classes: int, **settings: Any) -> Any:
    """Return a trainer without data, model and GPU."""
    trainer = object.__new__(getattr(trainers, name))
    nn.Module.__init__(trainer)
    trainer.args = SimpleNamespace(
        warmup=0,
        gamma=2,
        mu=0.2,
        mixup=True,
        cont=True,
        num_class=classes,
        thresh=0.95,
        trusted="loss",
        l=1,
        **settings,
    )
    trainer.epoch, trainer.which = 0, ""
    trainer.is_noisy = torch.zeros(count, dtype=torch.bool)
    trainer.is_clean = ~trainer.is_noisy
    trainer.weights = torch.ones(count)
    trainer.guessed_labels_soft = torch.zeros(count, classes)
    trainer.accelerator = SimpleNamespace(global_rank=0)
    trainer.broadcast = lambda values: values
    # With a leading dimension for the processes, which the trainer sums over.
    trainer.gather = lambda values: tuple(each[None] for each in values) if isinstance(values, tuple) else values[None]
    trainer.criterion_nored = nn.CrossEntropyLoss(reduction="none")
    trainer.transform_test = nn.Identity()
    trainer.subset_in = trainer.subset_out = None
    return trainer


def _losses(trainers: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Return losses, gradients, statistics and pseudo-labels of one batch in several epochs."""
    views, labels = images(rng, 4, SIZE), rng.integers(0, CLASSES, SIZE)
    noisy, weights = rng.random(SIZE) < 0.5, rng.random(SIZE).astype(np.float32)
    mix_weights, partners = rng.beta(1, 1, len(CASES)), np.array([rng.permutation(SIZE) for _ in CASES])
    arrays: dict[str, list[Any]] = {name: [] for name in ("loss", "gradient", "after", "pseudo_labels")}
    for case, (epoch, penalty) in enumerate(CASES):
        torch.manual_seed(2)
        wrapper = importlib.import_module("wrappers").BaseWrapper(backbone(), CLASSES, PROJECTION, FEATURES)
        first = flat(wrapper)
        trainer = _trainer(trainers, "Trainer_PLS_improved", SIZE, CLASSES, pls_penalty=penalty)
        trainer.model, trainer.epoch = wrapper.train(), epoch
        one_hot = torch.eye(CLASSES)[torch.from_numpy(labels)]
        trainer.guessed_labels_soft = one_hot.clone()
        if epoch > 0:
            trainer.is_noisy = torch.from_numpy(noisy)
            trainer.is_clean = ~trainer.is_noisy
            trainer.weights = torch.where(trainer.is_noisy, torch.from_numpy(weights), 1.0)
        sample = {
            **{name: torch.from_numpy(view.copy()) for name, view in zip(
                ("image", "image_", "image1", "image2"), views, strict=True)},
            "target": one_hot.clone(), "index": torch.arange(SIZE),
        }  # fmt: skip
        with (
            mock.patch.object(np.random, "beta", return_value=float(mix_weights[case])),
            mock.patch.object(torch, "randperm", return_value=torch.from_numpy(partners[case])),
        ):
            loss = trainer.compute_losses(sample, epoch).mean()
        loss.backward()
        values = (loss.item(), flat(wrapper, gradients=True), flat(wrapper), trainer.guessed_labels_soft.numpy())
        for name, value in zip(arrays, values, strict=True):
            arrays[name].append(value)
    return {
        "views": views, "labels": labels, "noisy": noisy, "weights": weights, "first": first,
        "mix_weight": mix_weights, "partner": partners, **{name: np.array(values) for name, values in arrays.items()},
    }  # fmt: skip


class _Lookup(nn.Module):
    """Scores and features of examples whose images are their numbers."""

    def __init__(self, scores: Tensor, features: Tensor) -> None:
        super().__init__()
        self.scores, self.features = scores, features

    def forward(self, images: Tensor, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        return self.scores[images], self.features[images], self.features[images]


def _detections(trainers: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Return flags and weights by one network and by two."""
    observed, outside = rng.integers(0, DETECTED_CLASSES, EXAMPLES), rng.random(EXAMPLES) < 0.4
    scores = rng.normal(0, 1.5, (2, EXAMPLES, DETECTED_CLASSES))
    scores[:, np.arange(EXAMPLES), observed] += np.where(outside, -1.5, 5)
    features = rng.random((2, EXAMPLES, 4)) + 1.2 * outside[:, None] * rng.random((2, 1, 4))
    pseudo_labels = rng.dirichlet(np.full(DETECTED_CLASSES, 0.3), (2, EXAMPLES))
    given = {"scores": scores, "features": features, "tables": pseudo_labels}
    arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in given.items()}
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    models = [_Lookup(tensors["scores"][k], tensors["features"][k]) for k in range(2)]

    def trainer_of(name: str) -> Any:
        trainer = _trainer(trainers, name, EXAMPLES, DETECTED_CLASSES, pls_penalty=False)
        numbers = torch.arange(EXAMPLES)
        batches = [
            {"image": numbers, "target": torch.eye(DETECTED_CLASSES)[torch.from_numpy(observed)], "index": numbers}
        ]
        trainer.track_loader, trainer.train_loader = _Loader(batches), _Loader(batches)
        return trainer

    for which in ("loss", "linear"):
        trainer = trainer_of("Trainer_PLS_improved")
        trainer.model, trainer.guessed_labels_soft = models[0], tensors["tables"][0].clone()
        trainer.detect_noise(which)
        arrays |= {f"flags_{which}": trainer.is_noisy.numpy(), f"weights_{which}": trainer.weights.numpy()}
    for name in ("ours", "DM", "indep"):
        trainer = trainer_of(f"Trainer_cotrain_{name}")
        trainer.model_1, trainer.model_2 = models
        # Separate tables. In a run of the authors' code both names are of one tensor, which the second pass overwrites.
        trainer.guessed_labels_soft_1, trainer.guessed_labels_soft_2 = (each.clone() for each in tensors["tables"])
        trainer.detect_noise("loss")
        arrays[f"flags_{name}"] = torch.stack([trainer.is_noisy, trainer.is_noisy_other]).numpy()
        arrays[f"weights_{name}"] = torch.stack([trainer.weights, trainer.weights_other]).numpy()
    return arrays | {"observed": observed}


class _Loader(list[Any]):
    """Batches with the number of examples, and without knowledge of which labels are incorrect."""

    class _Data:
        clean_noisy = None

        def __len__(self) -> int:
            return EXAMPLES

    dataset = _Data()

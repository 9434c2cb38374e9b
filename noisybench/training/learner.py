"""Everything that a mitigation or an evaluator may use of a task.

This page lists what is available to the author of a method: `Mitigation` and `Evaluator` methods receive a `Learner`,
which every task implements. Other members of a task belong to the training loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.nn.cuda_graphs import CapturedCalls
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.batch import Batch
from noisybench.training.sampler import EpochSampler
from noisybench.training.training_set import TrainingSet


@dataclass
class Outputs:
    """Predictions of one network for N inputs.

    Attributes:
        logits: (N, C) float32 scores.
        features: (N, F) pooled outputs of the requested stage, or None.
    """

    logits: Tensor
    features: Tensor | None = None

    @functools.cached_property
    def probabilities(self) -> Tensor:
        """(N, C) class probabilities."""
        return self.logits.softmax(1)


class Predictor(Protocol):
    """Predictions of the current weights: in evaluation mode, without augmentation and gradients."""

    def evaluate(self, inputs: Any, network: int, stage: int | None = None) -> Outputs:
        """Return the predictions of one network for N raw inputs, optionally with the pooled outputs of a stage."""
        ...

    def predict(self, inputs: Any) -> Tensor:
        """Return the (N, C) class probabilities of the deployed prediction for N raw inputs."""
        ...

    def predict_batches(self, inputs: Any) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the inputs with the (B, C, ...) probabilities of the deployed prediction, in dense tasks."""
        ...

    def eval_batch_size(self, inputs: Any) -> int:
        """Return the number of inputs to evaluate at a time."""
        ...

    def training_outputs(self, network: int) -> Outputs:
        """Return the predictions of a network for the training set, computed at most once per epoch."""
        ...

    def training_probabilities(self) -> Tensor:
        """Return the (N, C) probabilities of the deployed prediction for the training set."""
        ...

    def training_predictions(self) -> Tensor:
        """Return the classes that the deployed prediction gives the training set, in the shape of the targets."""
        ...

    def training_label_quality(self) -> Tensor:
        """Return the probability that the deployed prediction gives each observed target."""
        ...

    def invalidate_cache(self) -> None:
        """Discard cached predictions; call this after changing a network outside of training steps."""
        ...


class Learner(Predictor, Protocol):
    """Networks in training, with their data, random numbers and predictions.

    Attributes:
        budget: network, optimizer, schedule and augmentation that all compared runs share.
        seed: seed of the run.
        training_set: inputs and observed targets.
        sampler: order of the training examples, their weights, and the number of steps per epoch.
        networks: networks in training, as many as the stack requires.
        heads: further modules in training, by name; see `add_head`.
        active_network: number of the network that `logits` uses by default.
        pretrained: weights that all networks start from, by name; empty if they start from scratch.
        captured: calls of networks that are replayed as CUDA graphs on a GPU.
        generator: random numbers on the training device, seeded anew in every epoch.
        rng: random numbers on the host, seeded anew in every epoch. Use them for scalars, since reading a scalar from the
            device would make the host wait for it.
    """

    budget: Budget
    seed: int
    training_set: TrainingSet
    sampler: EpochSampler
    networks: nn.ModuleList
    heads: nn.ModuleDict
    active_network: int
    pretrained: dict[str, Tensor]
    captured: CapturedCalls
    generator: torch.Generator
    rng: np.random.Generator

    @property
    def device(self) -> torch.device:
        """Training device."""
        ...

    @property
    def current_epoch(self) -> int:
        """Number of the current epoch, from 0."""
        ...

    def logits(self, inputs: Any, network: int | None = None) -> Tensor:
        """Return the (B, C) scores of a network (default: `active_network`) for normalized inputs, with gradients."""
        ...

    def features_and_logits(self, inputs: Any, network: int) -> tuple[Tensor, Tensor]:
        """Return the (B, F) inputs of a network's classifier, and its (B, C) scores, from one forward pass."""
        ...

    def features_of(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return the (B, F) inputs of any network's classifier for normalized inputs."""
        ...

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B,) loss in nats without any mitigation."""
        ...

    def normalize(self, images: Tensor) -> Tensor:
        """Return raw inputs as networks take them, on the training device."""
        ...

    def draw(self, count: int) -> Batch:
        """Return a batch of random training examples, drawn with replacement from those that are not left out."""
        ...

    def validation_batch(self, index: Tensor) -> Batch:
        """Return augmented validation examples with their noisy targets, by (B,) positions on the host.

        A mitigation that declares ``clean_validation_labels`` replaces the targets by ``Batch.with_labels``.
        """
        ...

    def autocast(self) -> Any:
        """Return a context manager that runs forward passes in the budget's precision."""
        ...

    def build_network(self) -> nn.Module:
        """Return a newly initialized network of the budget."""
        ...

    def add_head(self, name: str, build: Callable[[], nn.Module]) -> None:
        """Train a further module beside the networks, initialized from a stream of its own."""
        ...

    def auxiliary(self, run: AuxiliaryRun) -> dict[str, Tensor]:
        """Return the result of an auxiliary run, which is trained at most once and charged to every run that uses it."""
        ...

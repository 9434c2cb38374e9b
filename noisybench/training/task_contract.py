"""The contract of tasks: everything that the author of a task implements."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.deployment import Deployable
from noisybench.training.evaluator import Evaluator
from noisybench.training.predictions import Predictions
from noisybench.training.sampler import EpochSampler


class TaskContract(Deployable, Predictions, abc.ABC):
    """The methods of a task: its networks, batches, default loss and predictions.

    Extend `Task`, which adds the training of the networks, and declare parameters as in every component. They are part
    of the setting: runs with different parameters are not compared.

    Attributes:
        evaluator: class that scores the task's runs against clean labels.
        compatible_with: name of another task whose datasets, noise models and mitigations this task supports as well.
        views: names of the views that the task draws; ``policy`` for views with parameters.
        batchings: values of `budget.batching` that the task supports; none if all inputs have the same size.
        supports_ddp: True if several devices can share the batches of a run: views are tensors with one row per input.
    """

    evaluator: ClassVar[type[Evaluator]]
    compatible_with: ClassVar[str | None] = None
    views: ClassVar[tuple[str, ...]] = ("weak",)
    batchings: ClassVar[tuple[str, ...]] = ()
    supports_ddp: ClassVar[bool] = False

    budget: Budget
    sampler: EpochSampler
    generator: torch.Generator
    networks: nn.ModuleList

    # Checks, before anything is trained

    @classmethod
    def example_input(cls, dataset: Dataset) -> Tensor | None:
        """Return an input on the meta device to try a network with, or None if `check_network` covers it."""
        return torch.empty(1, *dataset.train.inputs.shape[1:])

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return the problems of a run; the label set has been applied to the dataset."""
        return []

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """Return the problems of a run with one of its networks, which is on the meta device (without values)."""
        return []

    # Networks and training

    @abc.abstractmethod
    def build_network(self) -> nn.Module:
        """Return a newly initialized network of the budget."""

    def prepare(self) -> None:
        """Load or train the weights that the networks start from, if any; see `load_pretrained`."""

    @abc.abstractmethod
    def normalize(self, images: Tensor) -> Tensor:
        """Return raw inputs, augmented or not, as networks take them, on the training device."""

    @abc.abstractmethod
    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield the augmented batch of every step, on the training device."""

    def draw(self, count: int) -> Batch:
        """Return a batch of random training examples, drawn with replacement from those that are not left out."""
        return next(iter(self.batches([BatchPlan(self.sampler.draw(count, self.generator))])))

    def validation_batch(self, index: Tensor) -> Batch:
        """Return augmented validation examples with their noisy targets, by position on the host; if examples have one class."""
        raise NotImplementedError

    @abc.abstractmethod
    def logits(self, inputs: Any, network: int | None = None) -> Tensor:
        """Return the (B, C) scores of a network (default: the active one) for normalized inputs."""

    @abc.abstractmethod
    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B,) loss in nats without any mitigation."""

    def features_and_logits(self, inputs: Any, network: int) -> tuple[Tensor, Tensor]:
        """Return the (B, F) inputs of a network's classifier, and its (B, C) scores; if examples have one class."""
        raise NotImplementedError

    def features_of(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return the (B, F) inputs of any network's classifier for normalized inputs; if examples have one class."""
        raise NotImplementedError

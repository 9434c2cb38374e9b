"""The contract of tasks: everything that the author of a task implements."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytorch_lightning
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.deployment import Deployable
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Outputs
from noisybench.training.sampler import EpochSampler
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet

MAX_EVAL_BATCH_SIZE = 1000
"""Largest number of inputs that are evaluated at a time."""


class TaskContract(Deployable, pytorch_lightning.LightningModule, abc.ABC):
    """The methods of a task: its networks, batches, default loss and predictions.

    Extend `Task`, which adds the training of the networks, and declare parameters as in every component. They are part
    of the setting: runs with different parameters are not compared.

    Attributes:
        evaluator: class that scores the task's runs against clean labels.
        compatible_with: name of another task whose datasets, noise models and mitigations this task supports as well.
        supports_ddp: True if several devices can share the batches of a run: views are tensors with one row per input.
    """

    evaluator: ClassVar[type[Evaluator]]
    compatible_with: ClassVar[str | None] = None
    supports_ddp: ClassVar[bool] = False

    budget: Budget
    stack: Stack
    training_set: TrainingSet
    sampler: EpochSampler
    generator: torch.Generator
    cache: dict[Any, Any]
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

    # Prediction: in evaluation mode, without augmentation

    def evaluate(self, inputs: Any, network: int, stage: int | None = None) -> Outputs:
        """Return the predictions of one network; if examples have one class.

        Args:
            inputs: N raw inputs.
            network: number of the network.
            stage: stage whose pooled outputs are collected as well.
        """
        raise NotImplementedError

    def predict(self, inputs: Any) -> Tensor:
        """Return the (N, C) class probabilities of the deployed prediction; if examples have one class."""
        raise NotImplementedError

    def predict_batches(self, inputs: Any) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the inputs with the (B, C, ...) probabilities of the deployed prediction.

        For dense tasks, in which the probabilities of all labels would not fit in memory.
        """
        raise NotImplementedError

    def eval_batch_size(self, inputs: Any) -> int:
        """Return the number of (N, C, H, W) inputs to evaluate at a time: what fits a CPU's cache, or fills a GPU."""
        size: int = math.prod(inputs.shape[1:])
        if self.device.type != "cpu":
            return MAX_EVAL_BATCH_SIZE
        return max(64, min(MAX_EVAL_BATCH_SIZE, 400_000 // size))

    def training_outputs(self, network: int) -> Outputs:
        """Return the predictions of a network for the training set, computed at most once per epoch."""
        key = ("training_outputs", network)
        if key not in self.cache:
            # One pass over the training set yields both the probabilities and the features that the stack reads.
            stage = self.stack.requirements.feature_stage
            scores = self.stack.training_logits(network)
            # Those of a post-processor replace a pass over the training set; no mitigation reads a stage after training.
            self.cache[key] = (
                self.evaluate(self.training_set.inputs, network, stage) if scores is None else Outputs(scores, None)
            )
        outputs: Outputs = self.cache[key]
        return outputs

    def training_probabilities(self) -> Tensor:
        """Return the (N, C) probabilities of the deployed prediction for the training set, computed at most once per epoch."""
        if "training_probabilities" not in self.cache:
            logits = [self.training_outputs(network).logits for network in self.stack.deployed_networks]
            self.cache["training_probabilities"] = self.stack.combine(logits)
        probabilities: Tensor = self.cache["training_probabilities"]
        return probabilities

    def training_predictions(self) -> Tensor:
        """Return the classes that the deployed prediction gives the training set, in the shape of the targets."""
        return self.training_probabilities().argmax(1)

    def training_label_quality(self) -> Tensor:
        """Return the probability that the deployed prediction gives each observed target."""
        targets = self.training_set.targets
        return self.training_probabilities().gather(1, targets[:, None]).squeeze(1)

    def final_diagnostics(self, inputs: Any) -> dict[str, float]:
        """Return numbers about the trained networks on test inputs, for the last row of the record."""
        return {}

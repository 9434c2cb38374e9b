"""Predictions of the networks of a task: of new inputs, and of the training set once per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning
from torch import Tensor

from noisybench.training.learner import Outputs
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet

MAX_EVAL_BATCH_SIZE = 1000
"""Largest number of inputs that are evaluated at a time."""


class Predictions(pytorch_lightning.LightningModule):
    """The predictions of a task: in evaluation mode, without augmentation.

    Attributes:
        stack: mitigations, which decide the networks that are deployed.
        training_set: inputs and observed targets.
        cache: predictions of the current weights.
    """

    stack: Stack
    training_set: TrainingSet
    cache: dict[Any, Any]

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

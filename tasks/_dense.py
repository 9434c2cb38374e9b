"""Shared part of the tasks with many labels per example."""

from __future__ import annotations

import abc

from torch import Tensor

from noisybench.training.task import Task


class DenseTask(Task):
    """Base class of tasks with many labels per example.

    One pass over the training set after each epoch gives the predictions and the label quality to all that use them.
    """

    @abc.abstractmethod
    def predict_training_set(self) -> tuple[Tensor, Tensor]:
        """Return the predictions and the float16 label quality of the training set, in the shape of the targets."""

    def _cached_training_pass(self) -> tuple[Tensor, Tensor]:
        # The task empties this cache when an epoch starts and when it ends, so no prediction outlives the weights
        # behind it.
        if "training_pass" not in self.cache:
            self.cache["training_pass"] = self.predict_training_set()
        training_pass: tuple[Tensor, Tensor] = self.cache["training_pass"]
        return training_pass

    def training_predictions(self) -> Tensor:
        """Return the predictions for the training set, in the shape of the targets."""
        return self._cached_training_pass()[0]

    def training_label_quality(self) -> Tensor:
        """Return the float16 probabilities of the observed labels, in the shape of the targets; 0 without a label."""
        return self._cached_training_pass()[1]

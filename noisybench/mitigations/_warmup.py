"""Losses that follow on a warm-up with cross-entropy, from its last or best weights."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import nn

from noisybench.config.parameters import parameter
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import Phase
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget


class LossAfterWarmup(LossFunction, abc.ABC):
    """Base class of losses after `warmup_epochs` of cross-entropy, either in one training or with a restart."""

    restart_settings: ClassVar[Mapping[str, Any]]
    """Settings of the optimizer and its schedule after a restart with a learning rate of its own, as published."""

    warmup_epochs: int = parameter(
        10, ge=0, low=0, high=30, help="Epochs of cross-entropy before the loss of the method"
    )
    continue_from: Literal["last", "best"] = parameter(
        "last", help="Weights after the warm-up: the last, or the best by noisy validation labels"
    )
    restart_learning_rate: float | None = parameter(
        None,
        gt=0,
        low=1e-6,
        high=0.1,
        log=True,
        help="Learning rate of the published optimizer and schedule after the warm-up; by default those of the budget continue",
    )

    @property
    def requirements(self) -> Requirements:
        """Two phases if training restarts after the warm-up."""
        if not self.warmup_epochs or not self._restarts:
            return Requirements()
        settings: dict[str, Any] = {}
        if self.restart_learning_rate is not None:
            settings = {**self.restart_settings, "learning_rate": self.restart_learning_rate}
        weights: Literal["best", "current"] = "best" if self.continue_from == "best" else "current"
        return Requirements(phases=(Phase(self.warmup_epochs), Phase(weights=weights, settings=settings)))

    @property
    def _restarts(self) -> bool:
        return self.continue_from == "best" or self.restart_learning_rate is not None

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch after the warm-up, and a warm-up before a restart."""
        if not self.warmup_epochs and self._restarts:
            return [
                "continue_from=best and restart_learning_rate say how training restarts after a warm-up, but warmup_epochs is 0; "
                "leave them out, or set warmup_epochs to at least 1"
            ]
        # The length of phases is checked without this.
        if self.warmup_epochs >= budget.epochs and not self._restarts:
            return [
                f"warmup_epochs={self.warmup_epochs} of {budget.epochs} epochs is cross-entropy only; set it to at most "
                f"{budget.epochs - 1}"
            ]
        return []

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that the accuracy on validation labels is defined if the best weights are needed."""
        if self.continue_from == "last" or training_set.targets.ndim == 1:
            return []
        return [
            "continue_from=best compares one label of each validation example with the prediction, but these examples have "
            "a label for each pixel or token; set continue_from=last"
        ]

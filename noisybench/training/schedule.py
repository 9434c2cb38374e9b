"""Schedule."""

from __future__ import annotations

import math

from noisybench.config.spec import Budget


def learning_rate(budget: Budget, epoch: float) -> float:
    """Learning rate at a point of training, a pure function, so that resuming needs no scheduler's state.

    Args:
        budget: the schedule.
        epoch: epochs done so far, with their fraction.
    """
    if epoch < budget.warmup_epochs:
        return budget.learning_rate * max(epoch, 1e-3) / budget.warmup_epochs
    if budget.schedule == "cosine":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        return budget.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - budget.warmup_epochs) / span))
    if budget.schedule == "polynomial":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        return budget.learning_rate * math.pow(max(0.0, 1 - (epoch - budget.warmup_epochs) / span), 0.9)
    passed = sum(epoch >= milestone for milestone in budget.milestones)
    return budget.learning_rate * budget.gamma**passed

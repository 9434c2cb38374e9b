"""Learning-rate schedules."""

from __future__ import annotations

import math

from noisybench.config.spec import Budget


def learning_rate_at(budget: Budget, epoch: float) -> float:
    """Return the learning rate at a point of training.

    The schedule is a pure function of the epoch, so that a resumed run needs no scheduler state.

    Args:
        budget: budget that declares the schedule.
        epoch: number of epochs trained so far, with the fraction of the current one.

    Example:
        >>> budget = Budget(epochs=10, learning_rate=0.1, lr_schedule="cosine")
        >>> [round(learning_rate_at(budget, epoch), 3) for epoch in (0, 5, 10)]
        [0.1, 0.05, 0.0]
    """
    if epoch < budget.warmup_epochs:
        # The first step of a warm-up takes a small step, not an empty one.
        return budget.learning_rate * max(epoch, 1e-3) / budget.warmup_epochs
    # Below, a span of at least 1 avoids division by zero if the warm-up is as long as the training.
    if budget.lr_schedule == "cosine":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        return budget.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - budget.warmup_epochs) / span))
    if budget.lr_schedule == "polynomial":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        # Rounding may leave a negative base at the end, which has no real power.
        return budget.learning_rate * math.pow(max(0.0, 1 - (epoch - budget.warmup_epochs) / span), 0.9)
    passed = sum(epoch >= milestone for milestone in budget.lr_milestones)
    return budget.learning_rate * budget.lr_gamma**passed

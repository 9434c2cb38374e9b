"""Learning-rate schedules."""

from __future__ import annotations

import math

from noisybench.config.budget import Budget


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
        >>> restarts = Budget(epochs=10, learning_rate=0.1, lr_schedule="cosine_warm_restarts", lr_restart_period=4)
        >>> [round(learning_rate_at(restarts, epoch), 3) for epoch in (0, 2, 4, 6)]
        [0.1, 0.05, 0.1, 0.05]
    """
    # A warm-up rises with every step: in whole epochs, the first one would hardly train.
    if epoch < budget.warmup_epochs:
        # The first step of a warm-up takes a small step, not an empty one.
        return budget.learning_rate * max(epoch, 1e-3) / budget.warmup_epochs
    if budget.lr_interval == "epoch":
        epoch = math.floor(epoch)
    decay = _decay(budget, epoch)
    if decay is not None:
        low = budget.lr_min or 0.0
        # Without a lower end, the product alone: a sum would round differently.
        return low + (budget.learning_rate - low) * decay if low else budget.learning_rate * decay
    passed = sum(epoch >= milestone for milestone in budget.lr_milestones)
    return budget.learning_rate * budget.lr_gamma**passed


def _decay(budget: Budget, epoch: float) -> float | None:
    """Return the fraction of the learning rate in schedules that decay gradually; None for the others."""
    # Below, a span of at least 1 avoids division by zero if the warm-up is as long as the training.
    if budget.lr_schedule == "cosine":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        return 0.5 * (1 + math.cos(math.pi * (epoch - budget.warmup_epochs) / span))
    if budget.lr_schedule == "polynomial":
        span = max(budget.epochs - budget.warmup_epochs, 1)
        # Rounding may leave a negative base at the end, which has no real power.
        return math.pow(max(0.0, 1 - (epoch - budget.warmup_epochs) / span), 0.9)
    if budget.lr_schedule == "cosine_warm_restarts":
        return 0.5 * (1 + math.cos(math.pi * _position_in_cycle(budget, epoch - budget.warmup_epochs)))
    if budget.lr_constant_epochs is not None:
        span = max(budget.epochs - budget.lr_constant_epochs, 1)
        position = min(max(epoch - budget.lr_constant_epochs, 0.0) / span, 1.0)
        return (
            0.5 * (1 + math.cos(math.pi * position)) if budget.lr_schedule == "constant_then_cosine" else 1 - position
        )
    return None


def _position_in_cycle(budget: Budget, epoch: float) -> float:
    """Return the fraction of the current cycle of warm restarts that has passed, in [0, 1)."""
    length = float(budget.lr_restart_period or 1)
    # Each cycle is a whole number of times as long as the one before, so that few steps reach any epoch.
    while budget.lr_restart_factor not in (None, 1) and epoch >= length:
        epoch, length = epoch - length, length * (budget.lr_restart_factor or 1)
    return (epoch % length) / length


def adam_beta1_at(budget: Budget, epoch: float) -> float:
    """Return the momentum of Adam (beta1) at a point of training.

    Example:
        >>> schedule = {"lr_schedule": "constant_then_linear", "lr_constant_epochs": 80, "adam_beta1_in_decay": 0.1}
        >>> budget = Budget(optimizer="adam", epochs=200, learning_rate=0.001, **schedule)
        >>> adam_beta1_at(budget, 79.9), adam_beta1_at(budget, 80)
        (0.9, 0.1)
    """
    constant = budget.lr_constant_epochs
    if budget.adam_beta1_in_decay is not None and constant is not None and epoch >= constant:
        return budget.adam_beta1_in_decay
    return 0.9 if budget.adam_beta1 is None else budget.adam_beta1

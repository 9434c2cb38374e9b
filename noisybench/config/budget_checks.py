"""Checks of the fields of a budget that depend on each other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noisybench.config.budget import Budget


def find_conflicts(budget: Budget) -> list[str]:
    """Return the fields that exclude or require each other, each with what to write instead.

    A field may come from a recipe or from `budget=paper`, so a message gives its value and does not assume that the user
    wrote it.

    Example:
        >>> from noisybench.config.budget import Budget
        >>> find_conflicts(Budget.model_construct(lr_schedule="cosine", lr_milestones=(15, 25)))
        ['lr_milestones=[15, 25] requires lr_schedule=multistep, but it is cosine; set budget.lr_milestones=[]']
    """
    return [*_optimizer_conflicts(budget), *_schedule_conflicts(budget)]


def _optimizer_conflicts(budget: Budget) -> list[str]:
    found, is_sgd = [], budget.optimizer == "sgd"
    # PyTorch's SGD would refuse this only when training starts.
    if budget.nesterov and not (is_sgd and budget.momentum):
        present = "momentum is 0" if is_sgd else f"it is {budget.optimizer}"
        found.append(f"nesterov requires the optimizer sgd with momentum, but {present}; set budget.nesterov=false")
    for name in ("adam_beta1", "adam_beta1_in_decay"):
        value = getattr(budget, name)
        if value is not None and is_sgd:
            found.append(
                f"{name}={value:g} requires the optimizer adam or adamw, but it is sgd; set budget.{name}=null"
            )
    if budget.adam_beta1_in_decay is not None and not (is_sgd or budget.lr_schedule.startswith("constant_then")):
        found.append(
            f"adam_beta1_in_decay={budget.adam_beta1_in_decay:g} requires lr_schedule=constant_then_cosine or "
            f"constant_then_linear, with whose decay it begins, but it is {budget.lr_schedule}; set "
            "budget.adam_beta1_in_decay=null"
        )
    return found


def _schedule_conflicts(budget: Budget) -> list[str]:
    found, schedule, is_constant_then = [], budget.lr_schedule, budget.lr_schedule.startswith("constant_then")
    if budget.lr_milestones and schedule != "multistep":
        found.append(
            f"lr_milestones={list(budget.lr_milestones)} requires lr_schedule=multistep, but it is {schedule}; set "
            "budget.lr_milestones=[]"
        )
    if schedule == "multistep" and not budget.lr_milestones:
        middle = max(1, budget.epochs // 2)
        found.append(f"lr_schedule=multistep requires lr_milestones; set for example budget.lr_milestones=[{middle}]")
    if any(later <= earlier for earlier, later in itertools.pairwise(budget.lr_milestones)):
        found.append(f"lr_milestones must increase, but they are {list(budget.lr_milestones)}")
    for name in ("lr_restart_period", "lr_restart_factor"):
        value = getattr(budget, name)
        if value is not None and schedule != "cosine_warm_restarts":
            found.append(
                f"{name}={value} requires lr_schedule=cosine_warm_restarts, but it is {schedule}; set budget.{name}=null"
            )
    if schedule == "cosine_warm_restarts" and budget.lr_restart_period is None:
        found.append(
            f"lr_schedule={schedule} requires lr_restart_period; set for example "
            f"budget.lr_restart_period={max(1, budget.epochs // 3)}"
        )
    if budget.lr_constant_epochs is not None and not is_constant_then:
        found.append(
            f"lr_constant_epochs={budget.lr_constant_epochs} requires lr_schedule=constant_then_cosine or "
            f"constant_then_linear, but it is {schedule}; set budget.lr_constant_epochs=null"
        )
    if is_constant_then and budget.lr_constant_epochs is None:
        found.append(
            f"lr_schedule={schedule} requires lr_constant_epochs; set for example "
            f"budget.lr_constant_epochs={max(1, budget.epochs // 2)}"
        )
    if budget.lr_min is not None and not ("cosine" in schedule or is_constant_then):
        found.append(
            f"lr_min={budget.lr_min:g} requires a lr_schedule that decays to it (cosine... or constant_then_...), but it is "
            f"{schedule}; set budget.lr_min=null"
        )
    elif budget.lr_min is not None and budget.lr_min > budget.learning_rate:
        found.append(
            f"lr_min={budget.lr_min:g} must be at most learning_rate={budget.learning_rate:g}; set for example "
            f"budget.lr_min={budget.learning_rate / 100:g}"
        )
    return found


def find_inactive(budget: Budget) -> list[str]:
    """Return the parts of the learning-rate schedule that lie beyond the end of training.

    Such a budget trains well and is equal for all stacks, but hardly what was meant: mostly `epochs` alone was lowered.

    Example:
        >>> from noisybench.config.budget import Budget
        >>> find_inactive(Budget(epochs=20, lr_schedule="multistep", lr_milestones=(10, 20)))
        ['lr_milestones: training ends after 20 epochs, so the learning rate does not change at 20']
        >>> find_inactive(Budget(epochs=5, warmup_epochs=5))
        ['warmup_epochs: training ends after 5 epochs, so the learning rate rises only and never reaches 0.1']
    """
    epochs, found = budget.epochs, []
    end = f"training ends after {epochs} epoch{'s' if epochs > 1 else ''}, so"
    late = [str(milestone) for milestone in budget.lr_milestones if milestone >= epochs]
    if late:
        found.append(f"lr_milestones: {end} the learning rate does not change at {' and '.join(late)}")
    if budget.warmup_epochs >= epochs:
        found.append(f"warmup_epochs: {end} the learning rate rises only and never reaches {budget.learning_rate:g}")
    if budget.lr_constant_epochs is not None and budget.lr_constant_epochs >= epochs:
        found.append(f"lr_constant_epochs: {end} the learning rate never decays")
    if budget.lr_restart_period is not None and budget.warmup_epochs + budget.lr_restart_period >= epochs:
        found.append(f"lr_restart_period: {end} the learning rate is never restarted")
    return found

"""The error of a training that diverges: what became of it, and which settings may have caused it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noisybench.errors import TrainingError
from noisybench.training.mitigation import Mitigation, public_name
from noisybench.training.stack import Stack


def divergence_error(stack: Stack, epoch: int, problem: str) -> TrainingError:
    """Return the error of a diverged run, with the reasons of its mitigations and the learning rates of the run.

    Args:
        stack: mitigations of the run.
        epoch: number of the epoch, from 0.
        problem: what is not finite.

    Example:
        >>> str(divergence_error(Stack([]), 3, "the training loss became nan"))
        'the training loss became nan in epoch 3; decrease budget.learning_rate or set budget.warmup_epochs'
    """
    reasons = [reason for mitigation in stack.mitigations if (reason := mitigation.explain_divergence())]
    rates = [
        "budget.learning_rate",
        *(name for mitigation in stack.mitigations for name in _learning_rates(mitigation)),
    ]
    advice = [*reasons, f"decrease {' or '.join(rates)} or set budget.warmup_epochs"]
    return TrainingError(f"{problem} in epoch {epoch}; {'; or '.join(advice)}")


def _learning_rates(mitigation: Mitigation) -> list[str]:
    """Return the parameters of a mitigation that set learning rates of the run, with their values."""
    needed = mitigation.requirements
    # Other mitigations have learning rates of auxiliary runs.
    has_own_rates = bool(needed.head_optimizers) or any("learning_rate" in phase.settings for phase in needed.phases)

    def sets_a_rate(name: str) -> bool:
        if name == "lr_multiplier":
            return needed.lr_multiplier != 1
        return has_own_rates and (name.endswith("learning_rate") or name.startswith("lr_"))

    return [
        f"mitigations.{public_name(mitigation)}.{name}={value:g}"
        for name, value in mitigation.parameters.items()
        if value is not None and sets_a_rate(name)
    ]


def has_finite_weights(modules: Iterable[nn.Module]) -> bool:
    """Return True if all weights and batch statistics of modules are finite; the device is waited for once.

    Other buffers are constants, such as the mask of an attention, which may be infinite.

    Example:
        >>> has_finite_weights([nn.BatchNorm1d(2)])
        True
    """
    checks: list[Tensor] = [
        tensor.isfinite().all()
        for module in modules
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.is_floating_point() and (isinstance(tensor, nn.Parameter) or "running_" in name)
    ]
    return not checks or bool(torch.stack(checks).all())

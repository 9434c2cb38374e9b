"""Optimizers of a run: the budget's for the networks, and those that mitigations declare for their own parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.errors import TrainingError
from noisybench.nn.joint_optimizer import JointOptimizer
from noisybench.training.schedule import adam_beta1_at, learning_rate_at


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer of the parameters of one head, which the budget's optimizer then leaves alone.

    Attributes:
        learning_rate: initial learning rate.
        optimizer: algorithm.
        momentum: momentum of SGD.
        nesterov: use Nesterov momentum.
        adam_beta1: momentum of Adam and AdamW.
        weight_decay: weight decay.
        follows_schedule: change the learning rate as the budget's schedule changes that of the networks; by default it is
            constant.

    >>> OptimizerSettings(learning_rate=10.0).weight_decay
    0.0
    """

    learning_rate: float
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    adam_beta1: float = 0.9
    weight_decay: float = 0.0
    follows_schedule: bool = False


def build_optimizer(
    budget: Budget,
    networks: nn.ModuleList,
    heads: nn.ModuleDict,
    head_optimizers: Mapping[str, OptimizerSettings],
    device: torch.device,
) -> torch.optim.Optimizer:
    """Return the optimizer of a run; it is elementwise, so that networks and heads do not interact.

    Args:
        budget: settings of the optimizer of the networks, and of the heads without one of their own.
        networks: networks in training.
        heads: further modules in training, by name.
        head_optimizers: settings of the heads that have an optimizer of their own, by name.
        device: training device.

    Raises:
        TrainingError: settings are those of a head that does not exist.

    >>> heads = nn.ModuleDict({"matrix": nn.Linear(2, 2)})
    >>> own = {"matrix": OptimizerSettings(learning_rate=0.5)}
    >>> optimizer = build_optimizer(Budget(), nn.ModuleList([nn.Linear(2, 2)]), heads, own, torch.device("cpu"))
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.5]
    """
    missing = [name for name in head_optimizers if name not in heads]
    if missing:
        raise TrainingError(
            f"head_optimizers: there is no head {', '.join(missing)} (heads: {', '.join(heads) or 'none'}); add it in `prepare` "
            "with task.add_head(name, build), or correct the name"
        )
    settings = OptimizerSettings(
        budget.learning_rate,
        budget.optimizer,
        budget.momentum,
        budget.nesterov,
        adam_beta1_at(budget, 0.0),
        budget.weight_decay,
    )
    shared = [head for name, head in heads.items() if name not in head_optimizers]
    parameters = [parameter for module in (networks, *shared) for parameter in module.parameters()]
    optimizers = [_optimizer(parameters, settings, device)]
    for name, own in head_optimizers.items():
        optimizers.append(_optimizer(heads[name].parameters(), own, device))
        for group in optimizers[-1].param_groups:
            # Plain values, which a checkpoint can hold.
            group |= {"initial_lr": own.learning_rate, "follows_schedule": own.follows_schedule}
    # One optimizer for each head, so that a step of the networks can be replayed on a GPU whatever the heads do.
    return JointOptimizer(optimizers) if head_optimizers else optimizers[0]


def _optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings, device: torch.device
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if device.type == "cuda":
        # One kernel for many parameters, which reads the learning rate on the GPU, so that it can be captured.
        common |= {"fused": True, "lr": torch.tensor(settings.learning_rate, device=device)}
        if settings.optimizer != "sgd":
            common["capturable"] = True
    if settings.optimizer != "sgd":
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, betas=(settings.adam_beta1, 0.999), **common)
    optimizer = torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    if "fused" in common and settings.momentum:
        # The fused kernel fails if some parameters have momentum and others do not yet, such as a head that is first
        # trained in a later epoch. Momentum zero gives the same first step as none.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_schedule(optimizer: torch.optim.Optimizer, budget: Budget, epoch: float, lr_multiplier: float) -> None:
    """Set the learning rate of every parameter group, and the momentum of Adam, to those of a point of training.

    Args:
        optimizer: optimizer from `build_optimizer`.
        budget: budget that declares the schedule.
        epoch: number of epochs trained so far, with the fraction of the current one.
        lr_multiplier: factor applied to the budget's learning rate.
    """
    scheduled = learning_rate_at(budget, epoch)
    for group in optimizer.param_groups:
        has_own = "initial_lr" in group
        if not has_own:
            learning_rate = lr_multiplier * scheduled
        elif group["follows_schedule"]:
            learning_rate = group["initial_lr"] * scheduled / budget.learning_rate
        else:
            learning_rate = group["initial_lr"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
        if not has_own and budget.adam_beta1_in_decay is not None:
            group["betas"] = (adam_beta1_at(budget, epoch), group["betas"][1])

"""Train a prepared run in memory, without evaluation, records or files, for the scikit-learn classifier."""

from __future__ import annotations

import contextlib
import typing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from noisybench.config.registry import get_entry
from noisybench.config.spec import Component
from noisybench.errors import InvalidValue, UserError
from noisybench.runs.preparation import training_set_of
from noisybench.training.auxiliary import AuxiliaryCache
from noisybench.training.loop import attach, train_epoch
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import use_deterministic_kernels

OWN_DATA = ("pretrained_weights",)
"""Privileged information that can be given for data whose clean labels are unknown."""

EXAMPLE_RATE = 0.2
"""Noise rate in messages about parameters that take one."""


def check_privileged(mitigations: tuple[Component, ...]) -> None:
    """Refuse mitigations that need what is unknown about data without clean labels.

    Raises:
        InvalidValue: names the mitigation, and the parameter to set.
    """
    for member in mitigations:
        needed = [name for name in member.build().requirements.privileged if name not in OWN_DATA]
        if needed:
            raise InvalidValue(
                f"mitigations.{member.name}: needs the {needed[0].replace('_', ' ')}, which is unknown for your own labels; "
                + _alternative(member)
            )


def _alternative(member: Component) -> str:
    """Return which parameter lets a mitigation do without privileged information.

    >>> _alternative(Component("mitigations", "co_teaching", {"forget_rate": None}))
    'set a parameter, such as co_teaching(forget_rate=0.2)'
    """
    for name, (kind, declared) in get_entry("mitigations", member.name).schema.fields.items():
        # Either the choices of the parameter, or a rate in place of the true one.
        for value in [*_choices(kind), *([EXAMPLE_RATE] if declared.default is None else [])]:
            changed = Component("mitigations", member.name, {**member.parameters, name: value})
            with contextlib.suppress(UserError):  # the parameter takes no such value
                if not set(changed.build().requirements.privileged) - set(OWN_DATA):
                    return f"set a parameter, such as {member.name}({name}={value})"
    return "choose another mitigation (`noisybench list mitigations`)"


def _choices(kind: Any) -> list[str]:
    """Return the texts that a type allows.

    >>> _choices(typing.Literal["a", "b"] | None)
    ['a', 'b']
    """
    if isinstance(kind, str):
        return [kind]
    return [choice for argument in typing.get_args(kind) for choice in _choices(argument)]


def train_prepared(prepared: PreparedRun, folder: Path) -> tuple[Task, list[float]]:
    """Train a run as the harness does, without evaluation; return its task and the mean loss of each epoch.

    Args:
        prepared: run that has passed all checks.
        folder: folder for auxiliary runs.
    """
    spec = prepared.spec
    task_class = get_entry("tasks", spec.task.name).load_class()
    task: Task = task_class(spec.budget, spec.seed, training_set_of(prepared), prepared.stack, **spec.task.parameters)
    task.captured.enabled = spec.execution.cuda_graphs
    task.auxiliary_cache = AuxiliaryCache(folder)
    fabric = Fabric(accelerator=spec.execution.device, devices=1)
    use_deterministic_kernels(fabric.device)
    attach(task, fabric)
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    losses = [train_epoch(task, optimizer, epoch) for epoch in range(spec.budget.epochs)]
    if prepared.stack.refine(task, task.training_set):
        task.invalidate_cache()
    return task, losses


def reported_warnings(prepared: PreparedRun) -> list[str]:
    """Return what the user should know: parts of the schedule without effect, and what mitigations report."""
    schedule = [note.removeprefix("budget.") for note in prepared.spec.notes if note.startswith("budget.")]
    reported = [
        f"{public_name(mitigation)}: {message}"
        for mitigation in prepared.stack.mitigations
        for message in mitigation.warnings
    ]
    return list(dict.fromkeys([*schedule, *reported]))


def deployed_task(task: Task) -> Task:
    """Return a task that predicts with the trained networks, and holds neither training data nor the state of training."""
    data = task.training_set
    example = TrainingSet(torch.zeros_like(data.inputs[:1], device="cpu"), data.targets[:1].cpu(), data.num_classes)
    stack = Stack([type(mitigation)(**mitigation.parameters) for mitigation in task.stack.mitigations])
    deployed = type(task)(task.budget, task.seed, example, stack, **task.settings)
    deployed.networks = torch.nn.ModuleList([task.networks[number] for number in stack.deployed_networks])
    deployed.forwards = list(deployed.networks)
    deployed.load_deployment_state(task.deployment_state())
    del deployed.auxiliary_cache  # holds functions, which cannot be pickled
    return deployed.cpu().eval()

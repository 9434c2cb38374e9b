"""All that is checked of a run before anything is trained."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from noisybench.config.registry import get_entry
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_set import LabelSet
from noisybench.data.privileged import PrivilegedInfo, available_privileged_info
from noisybench.errors import UserError
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.stack import Stack
from noisybench.training.task import Task


def prepare_run(spec: RunSpec, dataset: Dataset | None = None, labels: LabelSet | None = None) -> PreparedRun:
    """Load data, corrupt it and check the stack against the cell; nothing is trained yet.

    Args:
        spec: the run.
        dataset: its dataset, where it is loaded already.
        labels: its label set, where it is made already.

    Raises:
        UserError: every problem found.
    """
    dataset = dataset or spec.dataset.build().load()
    noise = spec.noise.build()
    problems = []
    task_class: type[Task] = get_entry("tasks", spec.task.name).load_class()
    tasks = [name for name in (spec.task.name, task_class.compatible_with) if name]
    for place, each in (("noise", noise), ("dataset", get_entry("datasets", spec.dataset.name).load_class())):
        if not set(tasks) & set(each.tasks):
            problems.append(f"{place}: serves the tasks {', '.join(each.tasks)}, not {spec.task.name}")
    if problems:
        raise UserError(*problems)
    labels = labels or noise.apply(dataset)
    applied = labels.apply_to(dataset)
    stack = Stack([each.build() for each in spec.mitigations])
    facts = available_privileged_info(labels, applied)
    problems = stack.check(tasks, sorted(facts))
    problems += task_class.check(spec, applied)
    if not problems:
        network = _check_network(spec, applied, task_class)
        problems += task_class.check_network(spec, network, applied)
        problems += [
            f"mitigations.{public_name(each)}: {problem}"
            for each in stack.mitigations
            for problem in each.check(network, spec.budget, len(applied.train))
        ]
    if spec.budget.devices > 1:
        problems += _check_devices(spec, stack, task_class)
    if problems:
        raise UserError(*problems)
    tensors = {name: torch.from_numpy(each) if isinstance(each, np.ndarray) else each for name, each in facts.items()}
    for mitigation in stack.mitigations:
        mitigation.privileged = PrivilegedInfo(tensors, mitigation.requirements.privileged)
    return PreparedRun(spec, applied, labels, stack)


def _check_devices(spec: RunSpec, stack: Stack, task_class: type[Task]) -> list[str]:
    """Problems of a run on several devices."""
    problems = (
        [] if task_class.supports_ddp else [f"budget.devices: the task {spec.task.name} trains on one device alone"]
    )
    alone = [public_name(each) for each in stack.mitigations if each.requirements.distributed_state is None]
    if alone:
        problems.append(f"budget.devices: {', '.join(alone)} trains on one device alone")
    if spec.budget.batch_size < spec.budget.devices:
        problems.append(f"budget.batch_size: {spec.budget.devices} devices need batches of at least as many examples")
    return problems


def _check_network(spec: RunSpec, dataset: Dataset, task_class: type[Task]) -> nn.Module:
    """One of the run's networks without values; it takes the dataset's inputs."""
    from noisybench.networks import build_network

    shape = dataset.train.inputs.shape[1:]
    with torch.device("meta"):
        network = build_network(spec.budget.network, dataset.num_classes, shape[0]).eval()
        example = task_class.example_input(dataset)
        if example is None:
            return network
        try:
            network(example)
        except (RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"budget.network: `{spec.budget.network}` does not take images of {shape[1]}x{shape[2]} pixels ({reason}); "
                "choose another network or another size"
            ) from None
    return network

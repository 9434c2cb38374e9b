"""Check a run completely, and load everything that it needs, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from noisybench.config.registry import get_entry
from noisybench.config.spec import RunSpec
from noisybench.config.validation import refuse
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.masks.files import writing_problem
from noisybench.data.noise_model import NoiseModel
from noisybench.data.privileged import PrivilegedInfo, available_privileged_info
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError, shorten, show
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryUser
from noisybench.training.distributed import has_batch_norm
from noisybench.training.evaluator import as_tensor
from noisybench.training.mitigation import public_name
from noisybench.training.phases import find_problems
from noisybench.training.prepared import PreparedRun
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet, ValidationSet


def prepare_run(
    spec: RunSpec,
    dataset: Dataset | None = None,
    labels: LabelSet | None = None,
    trains_here: bool = True,
    auxiliary_cache: AuxiliaryCache | None = None,
) -> PreparedRun:
    """Load the dataset, corrupt its labels, and check the stack against the setting.

    Args:
        spec: specification of the run.
        dataset: the run's dataset, if it is loaded already.
        labels: the run's label set, if it exists already.
        trains_here: False if another machine trains the run, so that the devices of this one do not matter.
        auxiliary_cache: results of auxiliary runs of the noise model; by default those of the working folder.

    Raises:
        Interrupted: the cache was asked to stop during an auxiliary run of the noise model.
        UserError: the run cannot be trained; all problems are listed.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> prepared = prepare_run(resolve({"dataset": "digits", "mitigations": "mixup"}))
        >>> len(prepared.labels.train) == len(prepared.dataset.train)
        True
    """
    dataset = dataset or spec.dataset.build().load()
    noise = spec.noise.build()
    task_class: type[Task] = get_entry("tasks", spec.task.name).load_class()
    tasks = [name for name in (spec.task.name, task_class.compatible_with) if name]
    refuse(_check_tasks(spec, noise, tasks))  # data of another kind could not be corrupted
    if isinstance(noise, AuxiliaryUser) and auxiliary_cache is not None:
        noise.auxiliary_cache = auxiliary_cache
    labels = labels or noise.apply(dataset)
    applied = labels.apply_to(dataset)
    stack = Stack([component.build() for component in spec.mitigations])
    info = available_privileged_info(labels, applied)
    refuse(stack.check(tasks, sorted(info), task_class.views) + _check_setting(spec, stack, task_class, applied))
    network = _check_network(spec, applied, task_class)
    problems = task_class.check_network(spec, network, applied) + _check_stack(spec, stack, network, applied)
    problems += _check_accumulation(spec, stack, network)
    if trains_here:
        problems += _check_local_devices(spec, network)
    refuse(problems)
    _hand_over_privileged_info(stack, info)
    costs = noise.auxiliary_cache.costs if isinstance(noise, AuxiliaryUser) else []
    prepared = PreparedRun(spec, applied, labels, stack, costs)
    refuse(_check_data(prepared, network) + _check_objective(prepared))
    return prepared


def _check_tasks(spec: RunSpec, noise: NoiseModel, tasks: Sequence[str]) -> list[str]:
    """Return which of noise model and dataset support neither the task nor the one with which it is compatible."""
    components = {"noise": noise, "dataset": get_entry("datasets", spec.dataset.name).load_class()}
    return [
        f"{location}: supports the tasks {', '.join(component.tasks)}, but the task is {spec.task.name}"
        for location, component in components.items()
        if not set(tasks) & set(component.tasks)
    ]


def _check_setting(spec: RunSpec, stack: Stack, task_class: type[Task], applied: Dataset) -> list[str]:
    """Return the problems of task, devices, evaluation and saved files with the corrupted dataset."""
    problems = task_class.check(spec, applied) + _check_devices(spec, stack, task_class)
    if spec.budget.train_eval_size is not None and not task_class.evaluator.supports_sample:
        problems.append(
            f"budget.train_eval_size: the task {spec.task.name} scores all training examples; set it to null"
        )
    if spec.budget.batching not in (None, *task_class.batchings):
        others = " or ".join([*task_class.batchings, "null"])
        problems.append(
            f"budget.batching: the task {spec.task.name} has no {spec.budget.batching} batches of texts; set it to {others}"
        )
    if spec.execution.save_corrected_masks and applied.target_kind.name != "masks":
        problems.append(f"execution.save_corrected_masks: the task {spec.task.name} has no masks; set it to false")
    elif spec.execution.save_corrected_masks and (problem := writing_problem(applied)):
        problems.append(f"execution.save_corrected_masks: {problem}")
    return problems


def _check_stack(spec: RunSpec, stack: Stack, network: nn.Module, dataset: Dataset) -> list[str]:
    """Return the problems of mitigations with the network, the budget and the size of the splits."""
    return [
        f"mitigations.{public_name(mitigation)}: {problem}"
        for mitigation in stack.mitigations
        for problem in (
            *find_problems(mitigation.requirements.phases, spec.budget, len(dataset.validation) > 0),
            *mitigation.check(network, spec.budget, len(dataset.train)),
        )
    ]


def _hand_over_privileged_info(stack: Stack, info: Mapping[str, Any]) -> None:
    """Give each mitigation the privileged information that it declares."""
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in info.items()
    }
    for mitigation in stack.mitigations:
        # Each mitigation can read only what it declares, so that the leaderboard shows all that was used.
        mitigation.privileged = PrivilegedInfo(tensors, mitigation.requirements.privileged)


def _check_data(prepared: PreparedRun, network: nn.Module) -> list[str]:
    """Return the problems of mitigations with the training set."""
    training_set = training_set_of(prepared)
    return [
        f"mitigations.{public_name(mitigation)}: {problem}"
        for mitigation in prepared.stack.mitigations
        for problem in mitigation.check_data(training_set, network, prepared.spec.seed)
    ]


def training_set_of(prepared: PreparedRun) -> TrainingSet:
    """Return the part of a prepared run that its task and mitigations see."""
    dataset, labels = prepared.dataset, prepared.labels
    validation = None
    if len(dataset.validation):
        validation = ValidationSet(as_tensor(dataset.validation.inputs), torch.from_numpy(labels.validation))
    return TrainingSet(
        as_tensor(dataset.train.inputs),
        torch.from_numpy(labels.train),
        dataset.num_classes,
        validation,
        dataset.class_names,
        dataset.trace_format,
        dataset.has_background,
    )


def _check_objective(prepared: PreparedRun) -> list[str]:
    """Return a problem if the trial of a search cannot be scored by its objective."""
    if not prepared.spec.is_trial:
        return []
    assert prepared.spec.provenance is not None
    clean = prepared.spec.provenance.validation == "clean"
    targets = prepared.dataset.validation.targets
    if len(targets) and not (clean and (targets == UNKNOWN_TARGET).all()):
        return []
    name = "clean_val" if clean else "noisy_val"
    return [
        f"objective: {name} is unavailable: the dataset has no validation split (dataset.validation_fraction)"
        + (", or its clean labels are unknown" if clean else "")
    ]


def _check_devices(spec: RunSpec, stack: Stack, task_class: type[Task]) -> list[str]:
    """Return the problems of a run on several devices; none on one."""
    problems: list[str] = []
    if spec.budget.devices == 1:
        return problems
    if not task_class.supports_ddp:
        problems.append(f"budget.devices: the task {spec.task.name} supports one device only; set it to 1")
    unsupported = [
        public_name(mitigation) for mitigation in stack.mitigations if mitigation.requirements.distributed_state is None
    ]
    if unsupported:
        verb = "support" if len(unsupported) > 1 else "supports"
        problems.append(f"budget.devices: {', '.join(unsupported)} {verb} one device only; set it to 1")
    if spec.budget.batch_size < spec.budget.devices:
        problems.append(f"budget.batch_size: must be at least the number of devices, {spec.budget.devices}")
    return problems


def _check_accumulation(spec: RunSpec, stack: Stack, network: nn.Module) -> list[str]:
    """Return the problems of a run whose batches are trained in parts."""
    if (spec.budget.gradient_accumulation or 1) == 1:
        return []
    # The same condition as for several devices, each of which sees a part of a batch.
    unsupported = [
        public_name(mitigation) for mitigation in stack.mitigations if mitigation.requirements.distributed_state is None
    ]
    if unsupported:
        verb = "need" if len(unsupported) > 1 else "needs"
        return [f"budget.gradient_accumulation: {', '.join(unsupported)} {verb} complete batches; set it to null"]
    if has_batch_norm(network):
        return [
            "budget.gradient_accumulation: batch normalization would see a part of a batch at a time; choose a network "
            "without it, or set it to null"
        ]
    return []


def _check_local_devices(spec: RunSpec, network: nn.Module) -> list[str]:
    """Return the problems of a run on several devices of this machine; none on one device."""
    devices = spec.budget.devices
    if devices == 1:
        return []
    if spec.execution.device != "cpu" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [f"budget.devices: the run needs {devices} GPUs, but only {count} exist"] if devices > count else []
    if has_batch_norm(network):
        return [
            "budget.devices: batch normalization is synchronized among GPUs, not among CPUs; choose a network without it"
        ]
    return []


def _check_network(spec: RunSpec, dataset: Dataset, task_class: type[Task]) -> nn.Module:
    """Return a network of the run on the meta device, after trying it with an input.

    Raises:
        UserError: the network does not accept the dataset's inputs, or is too large.
    """
    from noisybench.networks import build_network

    shape = dataset.train.inputs.shape[1:]
    name = show(spec.budget.network, quotes=False)
    # Shapes alone are computed on the meta device, so that checking a large network takes no memory.
    # In training mode batch normalization could refuse a single example.
    with torch.device("meta"):
        try:
            network = build_network(spec.budget.network, dataset.num_classes, shape[0]).eval()
        except UserError:
            raise
        except Exception as error:  # a network is any code, which may refuse a size in any way
            raise UserError(f"budget.network: {name} cannot be built ({_reason(error)})") from None
        _check_size(spec, network)
        example = task_class.example_input(dataset)
        if example is None:
            return network
        refused = _try_network(network, example, spec.budget.channels_last)
        if refused and not _try_network(network, example, channels_last=False):
            raise UserError(
                f"budget.network: {name} does not accept channels last ({refused}); replace `view` by `flatten` or `reshape` in "
                "the network, or set budget.channels_last=false"
            )
        if refused:
            raise UserError(
                f"budget.network: {name} does not accept images of {shape[1]}x{shape[2]} pixels ({refused}); choose another "
                "network or image size"
            )
    return network


def _try_network(network: nn.Module, example: torch.Tensor, channels_last: bool) -> str:
    """Return why a network on the meta device refuses an input; empty if it accepts it."""

    def change_layout(module: nn.Module, inputs: object, outputs: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(outputs, memory_format=torch.channels_last)

    # On the meta device, the weights of a convolution do not decide the layout of its outputs.
    convolutions = [module for module in network.modules() if channels_last and isinstance(module, nn.Conv2d)]
    hooks = [convolution.register_forward_hook(change_layout) for convolution in convolutions]
    try:
        network(example)
    except Exception as error:  # a network is any code, which may refuse an input in any way
        return _reason(error)
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def _reason(error: Exception) -> str:
    """Return the first line of an error; PyTorch appends the positions in its own code."""
    return shorten((str(error).splitlines() or [type(error).__name__])[0], 200)


def _check_size(spec: RunSpec, network: nn.Module) -> None:
    """Refuse a network whose weights alone exceed the memory of this machine.

    Raises:
        UserError: they do.
    """
    needed = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    available = psutil.virtual_memory().total
    if needed > available:
        raise UserError(
            f"budget.network: the weights of {show(spec.budget.network, quotes=False)} take {needed / 2**30:,.0f} GiB, but "
            f"this machine has {available / 2**30:,.0f} GiB of memory; choose a smaller network"
        )

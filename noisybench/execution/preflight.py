"""Validate runs completely before any of them is trained."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from noisybench.config.spec import Component, RunSpec
from noisybench.errors import UserError
from noisybench.execution.durations import Device
from noisybench.execution.local import exit_reason
from noisybench.utils.processes import cpu_name, start_process

if TYPE_CHECKING:
    from noisybench.data.dataset import Dataset
    from noisybench.data.label_sets.label_set import LabelSet
    from noisybench.data.notes import ReadingNote


WantedNotes = Literal["none", "new", "all"]
"""Notes about data that a validation returns: none, those that no earlier command has shown, or all."""


def ignore_note(note: str) -> None:
    """Do nothing with a note about data."""


def preflight(
    context: Any,
    specs: Sequence[RunSpec],
    needs_local_gpu: bool = True,
    on_note: Callable[[str], None] = ignore_note,
    repeat_notes: bool = False,
) -> Device:
    """Validate runs with their data, labels and stacks in a separate process.

    Args:
        context: multiprocessing context, from `process_context`.
        specs: runs.
        needs_local_gpu: False if the runs are trained on other machines.
        on_note: function that receives notes about the data of the runs; without one, they are not searched for.
        repeat_notes: pass on notes that an earlier command has shown as well.

    Returns:
        The device of this machine that the runs will use.

    Raises:
        UserError: all problems of all runs.
    """
    # In a separate process, a crash of native code ends only the validation, and its exit frees the memory of the data.
    receiver, sender = context.Pipe(duplex=False)
    wanted: WantedNotes = "none" if on_note is ignore_note else "all" if repeat_notes else "new"
    process = start_process(context, _validate, (sender, list(specs), needs_local_gpu, wanted))
    sender.close()
    try:
        # Received before `join`: a message larger than the buffer of the pipe blocks its sender until it is read.
        problems, device, notes = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(f"validation failed: its process ended with {exit_reason(process.exitcode)}") from None
    finally:
        process.kill()  # it has ended, unless an exception interrupts the wait
    process.join()
    for note in notes:
        on_note(note)
    if problems:
        raise UserError(*problems)
    return Device(*device)


def _validate(
    sender: Connection,
    specs: list[RunSpec],
    needs_local_gpu: bool,
    wanted: WantedNotes,
) -> None:
    """Validate runs and send their problems, the device that they use, and notes about their data."""
    import torch

    from noisybench.runs.environment import device_name
    from noisybench.runs.preparation import prepare_run

    # A dictionary keeps the order and drops repetitions, since runs of one setting share their problems.
    problems: dict[str, None] = {}
    notes: dict[str, None] = {}
    for runs_of_dataset in _group(specs, lambda spec: spec.dataset):
        # Only the data of one dataset and the labels of one noise model are in memory, and each is made once.
        try:
            dataset = runs_of_dataset[0].dataset.build().load()
            notes |= dict.fromkeys(f"{runs_of_dataset[0].dataset.name}: {note}" for note in _notes(dataset, wanted))
        except Exception as error:
            problems |= _problems(error, runs_of_dataset[0])
            continue
        for runs in _group(runs_of_dataset, lambda spec: spec.noise):
            labels: LabelSet | None = None
            for spec in runs:
                try:
                    labels = prepare_run(spec, dataset, labels, trains_here=needs_local_gpu).labels
                except Exception as error:
                    problems |= _problems(error, spec)
    device = specs[0].execution.device if specs else "cpu"
    if needs_local_gpu and (problem := device_problem(device)):
        problems[problem] = None
    has_gpu = torch.cuda.is_available()
    try:
        is_gpu = device == "cuda" or (device == "auto" and has_gpu)
        sender.send((list(problems), (device_name(device), is_gpu), list(notes)))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the command has ended


def _group(specs: Sequence[RunSpec], component: Callable[[RunSpec], Component]) -> list[list[RunSpec]]:
    """Return runs in groups that share a component, in the order of the first run of each group."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(repr(component(spec)), []).append(spec)
    return list(groups.values())


def _problems(error: Exception, spec: RunSpec) -> dict[str, None]:
    """Return the problems of an error of a run; a defect of one component must not hide the problems of other runs."""
    if isinstance(error, UserError):
        return dict.fromkeys(error.problems)
    return {f"{spec.title}: validation failed\n{''.join(traceback.format_exception(error))}": None}


def _notes(dataset: Dataset, wanted: WantedNotes) -> tuple[ReadingNote, ...]:
    from noisybench.data.check.notes import dataset_notes, new_notes

    return () if wanted == "none" else dataset_notes(dataset) if wanted == "all" else new_notes(dataset)


def device_problem(device: str) -> str | None:
    """Return why this machine cannot train on a device; None if it can.

    Args:
        device: value of ``execution.device``.

    Example:
        >>> device_problem("cpu") is None
        True
    """
    import torch

    start = f"execution.device: `{device}` is requested, but"
    end = "set execution.device=auto to train on what there is"
    if device == "mps" and not torch.backends.mps.is_available():
        return f"{start} torch {torch.__version__} sees no Apple GPU here; {end}"
    if device != "cuda" or torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"{start} torch {torch.__version__} is built for CPUs; install torch with CUDA, or {end}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible or '(empty)'}"
    return f"{start} torch {torch.__version__} sees no GPU here{hidden}; check `nvidia-smi`, or {end}"


def check_device(device: str) -> None:
    """Refuse a device on which this machine cannot train.

    Args:
        device: value of ``execution.device``.

    Raises:
        UserError: the machine does not have it.
    """
    if problem := device_problem(device):
        raise UserError(problem)


GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""Files in /dev of NVIDIA and AMD GPUs, and of those of Windows."""


def find_device(context: Any, device: str) -> Device:
    """Return the device of this machine that runs will use, without validating them.

    Args:
        context: multiprocessing context, from `process_context`.
        device: value of `execution.device`.
    """
    # PyTorch, which takes seconds to import, is asked only where there may be a GPU.
    may_have_gpu = sys.platform != "linux" or any(next(Path("/dev").glob(name), None) for name in GPU_FILES)
    if device not in ("auto", "cuda") or not may_have_gpu:
        return Device(cpu_name())
    receiver, sender = context.Pipe(duplex=False)
    process = start_process(context, _send_device, (sender, device))
    sender.close()
    try:
        name, is_gpu = receiver.recv()
    except EOFError:
        return Device("")
    finally:
        process.kill()
    return Device(name, is_gpu)


def _send_device(sender: Connection, device: str) -> None:
    import torch

    from noisybench.runs.environment import device_name

    sender.send((device_name(device), torch.cuda.is_available()))

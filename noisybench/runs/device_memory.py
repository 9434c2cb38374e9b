"""Explain that the memory of a GPU ran out, and suggest a batch size that would fit."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from noisybench.config.spec import RunSpec
from noisybench.errors import TrainingError

MESSAGES = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Messages of errors without a class of their own that have the same reason."""

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

REQUEST = re.compile(rf"Tried to allocate ([0-9.]+) ({'|'.join(UNITS)})\b")

SMALLEST_BATCH = 2
"""Smallest batch size that a budget allows."""

USABLE_FRACTION = 0.9
"""Fraction of the free memory that a suggested batch may need: the allocator and the libraries take some of it."""

NOTABLE = 2**29
"""Bytes of other processes from which the message mentions them; below, it is the context of the driver."""

EVALUATION = "noisybench.runs.recorder"
"""Module from which all evaluation of a run is called."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a GPU in bytes.

    Attributes:
        device: name of the GPU.
        total: all of its memory.
        others: memory that other processes hold.
        peak: largest memory that tensors of this process have held.
    """

    device: str
    total: int
    others: int
    peak: int

    @property
    def available(self) -> int:
        """Memory that this process could use."""
        return self.total - self.others


@contextmanager
def explain_out_of_memory(spec: RunSpec, checkpoint: Path) -> Iterator[None]:
    """Turn an error about exhausted GPU memory into one line with a batch size that would fit.

    Args:
        spec: the run.
        checkpoint: file from which the run resumes, if it has been written.

    Raises:
        TrainingError: the memory of the GPU ran out. All other exceptions propagate.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> spec = resolve({"dataset": "digits", "budget": {"batch_size": 64}})
        >>> with explain_out_of_memory(spec, Path("checkpoint.ckpt")):
        ...     raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        Traceback (most recent call last):
        noisybench.errors.TrainingError: out of GPU memory while training with budget.batch_size=64: set ...
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(out_of_memory_message(spec, error, read_memory(), checkpoint.exists())) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an error says that the memory of a GPU ran out.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")), is_out_of_memory(RuntimeError("shape"))
        (True, False)
        >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
        True
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def read_memory() -> DeviceMemory | None:
    """Return the memory of the current GPU; None if there is none or it does not answer after an error."""
    try:
        free, total = torch.cuda.mem_get_info()
        # What this process has reserved is not free, but it is not held by others.
        others = max(0, total - free - torch.cuda.memory_reserved())
        return DeviceMemory(torch.cuda.get_device_name(), total, others, torch.cuda.max_memory_allocated())
    except (AssertionError, RuntimeError):  # the first one: torch without CUDA
        return None


def requested_bytes(error: Exception) -> int:
    """Return the bytes of the allocation that failed; 0 if the message does not say them.

    Example:
        >>> requested_bytes(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 KiB. GPU 0 has ..."))
        1536
    """
    found = REQUEST.search(str(error))
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


def fitting_batch_size(batch_size: int, needed: int, available: int) -> int | None:
    """Return the largest batch size, halved once or more, that is estimated to fit; None if even the smallest is not.

    Args:
        batch_size: batch size that does not fit.
        needed: bytes that it needs at least. All of them are taken to shrink with the batch.
        available: bytes that the process could use.

    Example:
        >>> fitting_batch_size(4096, needed=200, available=80), fitting_batch_size(4, needed=200, available=80)
        (1024, None)
    """
    half = batch_size // 2
    while half >= SMALLEST_BATCH:
        if needed * half / batch_size <= USABLE_FRACTION * available:
            return half
        half //= 2
    return None


def out_of_memory_message(spec: RunSpec, error: Exception, memory: DeviceMemory | None, has_checkpoint: bool) -> str:
    """Return one line that says what needed how much memory, and what to do.

    Args:
        spec: the run.
        error: error for which `is_out_of_memory` holds.
        memory: memory of the GPU, if it is known.
        has_checkpoint: True if the run can resume.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> spec, error = resolve({"dataset": "digits"}), torch.OutOfMemoryError("Tried to allocate 6.00 GiB.")
        >>> print(out_of_memory_message(spec, error, DeviceMemory("GPU", 8 * 2**30, 0, 4 * 2**30), True))
        out of GPU memory while training with budget.batch_size=128 (GPU has 8.0 GiB; at least 10.0 GiB are needed): \
set budget.batch_size=64 (estimated to need 5.0 GiB or more), which is another setting. Its checkpoint is kept: on a \
GPU with more free memory, the same command resumes the run
    """
    size = spec.budget.batch_size
    needed = (memory.peak if memory else 0) + requested_bytes(error)
    numbers = ""
    if memory is not None:
        held = f", of which other processes hold {_gib(memory.others)}" if memory.others > NOTABLE else ""
        numbers = f" ({memory.device} has {_gib(memory.total)}{held}; at least {_gib(needed)} are needed)"
    more = "with fewer runs at a time (execution.gpu_fraction=1), or " if spec.execution.gpu_fraction < 1 else ""
    kept, verb = ("Its checkpoint is kept: ", "resumes") if has_checkpoint else ("", "trains")
    resume = f"{kept}{more}on a GPU with more free memory, the same command {verb} the run"
    resume = resume[0].upper() + resume[1:]
    if _is_evaluation(error):
        return (
            f"out of GPU memory during evaluation, whose batches do not depend on budget.batch_size{numbers}. {resume}"
        )
    start = f"out of GPU memory while training with budget.batch_size={size}{numbers}: "
    available = needed if memory is None else memory.available
    fitting = fitting_batch_size(size, needed, available)
    if fitting is None:
        return f"{start}no smaller batch would fit; choose a smaller budget.network or smaller images. {resume}"
    estimate = " or less" if memory is None else f" (estimated to need {_gib(needed * fitting // size)} or more)"
    return f"{start}set budget.batch_size={fitting}{estimate}, which is another setting. {resume}"


def _is_evaluation(error: Exception) -> bool:
    """Return True if the error was raised while a run was evaluated, not while it was trained."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == EVALUATION for frame, _ in frames)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"

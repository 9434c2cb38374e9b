"""Durations of runs and epochs, estimated from recorded runs of the same device."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from noisybench.config.spec import RunSpec
from noisybench.records.schema import RunRecord

PROCESS_START_SECONDS, GPU_START_SECONDS = 1.0, 5.0
"""Time that a run's process takes beyond the training time in its record; on a GPU also to load kernels and copy the data."""

Key = tuple[str, ...]
"""Threads on a CPU, dataset, budget, and stack of a run."""


@dataclass(frozen=True)
class Device:
    """Device that trains the runs of a command.

    Attributes:
        name: name as records have it, such as ``NVIDIA H100 80GB HBM3`` or ``x86_64 CPU``; empty if it is unknown.
        is_gpu: True for a GPU.
    """

    name: str
    is_gpu: bool = False

    def describe(self, num_threads: int) -> str:
        """Return the name for messages: a CPU is as fast as the number of threads of a run lets it be.

        Example:
            >>> Device("x86_64 CPU").describe(2), Device("NVIDIA H100", is_gpu=True).describe(2)
            ('x86_64 CPU with 2 threads', 'NVIDIA H100')
        """
        if self.is_gpu:
            return self.name
        return f"{self.name} with {num_threads} thread{'s' if num_threads != 1 else ''}"

    def key(self, num_threads: int | str) -> str:
        """Return what distinguishes durations on this device: the number of threads on a CPU."""
        return "" if self.is_gpu else str(num_threads)


class DurationEstimator:
    """Estimate the duration of runs from recorded runs of the same device.

    Records of other devices say nothing: a GPU may be a hundred times as fast as a CPU.

    Args:
        records: finished runs.
        device: device that trains the runs.
    """

    def __init__(self, records: Iterable[RunRecord], device: Device) -> None:
        self.device = device
        start_seconds = GPU_START_SECONDS if device.is_gpu else PROCESS_START_SECONDS
        self._seconds: dict[Key, float] = {}  # the sum, and its number of runs in `_counts`
        self._counts: dict[Key, int] = {}
        epochs: dict[Key, list[list[float]]] = {}
        for record in records:
            environment = record.environment
            if device.name and environment.get("device") == device.name:
                key = (device.key(environment.get("threads", "")), record.dataset, record.budget, record.stack)
                self._add(key, _training_seconds(record) + start_seconds)
                epochs.setdefault(key, []).append(epoch_seconds(record))
        self._epochs = {
            key: tuple(statistics.median(seconds) for seconds in zip(*runs, strict=False))
            for key, runs in epochs.items()
        }

    def key(self, spec: RunSpec) -> Key:
        """Return what decides the duration of a run."""
        return self.device.key(spec.num_threads), spec.dataset_label, spec.budget_hash, spec.stack

    def add(self, spec: RunSpec, seconds: float) -> None:
        """Add the duration of a run that has finished."""
        self._add(self.key(spec), seconds)

    def _add(self, key: Key, seconds: float) -> None:
        for known in (key, key[:-1]):
            self._seconds[known] = self._seconds.get(known, 0.0) + seconds
            self._counts[known] = self._counts.get(known, 0) + 1

    def estimate(self, spec: RunSpec) -> float | None:
        """Return the mean seconds of runs of the same stack with this dataset and budget; None if none is known."""
        return self._mean(self.key(spec))

    def estimate_roughly(self, key: Key) -> float | None:
        """Return the mean seconds of runs with this key, or of all stacks with its dataset and budget; None if unknown."""
        seconds = self._mean(key)
        return self._mean(key[:-1]) if seconds is None else seconds

    def epochs(self, spec: RunSpec) -> tuple[float, ...]:
        """Return the median seconds of each epoch of runs of the same stack; empty if none is known."""
        return self._epochs.get(self.key(spec), ())

    def _mean(self, key: Key) -> float | None:
        return self._seconds[key] / self._counts[key] if key in self._seconds else None


def _training_seconds(record: RunRecord) -> float:
    """Return the seconds that a run took itself: its cost has also auxiliary runs that it found trained."""
    return record.cost.wall_seconds - sum(float(cost["wall_seconds"]) for cost in record.auxiliary if cost["cached"])


def epoch_seconds(record: RunRecord) -> list[float]:
    """Return the seconds of each epoch of a finished run, with its evaluation and records."""
    rows = [row for row in record.rows if row.stage == "train"]
    between = [(row.time - before.time) / 1000 - row.seconds for before, row in itertools.pairwise(rows)]
    usual = max(0.0, statistics.median(between or [record.cost.wall_seconds - record.cost.train_seconds]))
    # Bounded, because the time between two rows may include an interruption of days.
    beyond_training = [usual, *(min(gap, 3 * usual + row.seconds) for gap, row in zip(between, rows[1:], strict=True))]
    return [row.seconds + max(0.0, gap) for row, gap in zip(rows, beyond_training, strict=True)]

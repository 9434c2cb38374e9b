"""Who holds the truth of a run: scores what is trained against it, and keeps the evidence.

Each task names its judge. Nothing that trains ever sees one.
"""

from __future__ import annotations

import abc
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from noisybench.data.lazy import MemmapImages
from noisybench.evaluation import metrics
from noisybench.records.evidence import DetectorScores, Samples
from noisybench.records.schema import ProbeRow, RunRecord
from noisybench.training.roles import DetectorProvider
from noisybench.training.training_set import DiskTensor

if TYPE_CHECKING:
    from noisybench.training.task import Task
from noisybench.training.prepared import PreparedRun


class Evaluator(abc.ABC):
    """Contract of a judge: scores after each epoch, and the evidence at the end.

    Attributes:
        metric: name of the score by which runs are ranked, in [0, 1].
        states: like the observed targets, positions in `labels.STATES`.
    """

    metric: ClassVar[str]

    def __init__(self, prepared: PreparedRun) -> None:
        self.prepared, self.dataset, self.labels = prepared, prepared.dataset, prepared.labels
        self.label_status = self.labels.label_status(self.dataset.train.targets)
        self.curves: dict[str, list[Any]] = {}

    def place(self, device: torch.device) -> None:
        """Bring the held-out inputs to the training device."""
        self.test, self.validation = (
            placed(each.inputs, device) for each in (self.dataset.test, self.dataset.validation)
        )

    @abc.abstractmethod
    def row(self, task: Task, stage: str) -> dict[str, Any]:
        """Fields of the epoch's `EpochRow` that need the truth."""

    def probe(self, task: Task, epochs: int, last: bool) -> list[ProbeRow]:
        """The classifiers that mitigations have beside the networks' own, where the task has such."""
        return []

    @abc.abstractmethod
    def finish(self, task: Task) -> None:
        """Keep what the trained task and its stack say at the end."""

    @abc.abstractmethod
    def summary(self) -> dict[str, Any]:
        """`calibration_error`, `correction_accuracy` and `detection` of the `RunRecord`."""

    @abc.abstractmethod
    def samples(self) -> Samples:
        """One record per label of the training set."""

    @abc.abstractmethod
    def write(self, record: RunRecord, folder: Path) -> None:
        """Write the evidence and its pictures."""

    def state_dict(self) -> dict[str, Any]:
        """What was kept so far."""
        return {"curves": {name: [curve.tolist() for curve in curves] for name, curves in self.curves.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what an interrupted run has kept."""
        self.curves = {n: [np.array(c, dtype=np.float32) for c in curves] for n, curves in state["curves"].items()}

    def detectors(self, task: Task) -> dict[str, DetectorScores]:
        """What the stack's detectors say now, on the host."""
        found: dict[str, DetectorScores] = {}
        for mitigation in self.prepared.stack.with_role(DetectorProvider):
            for name, each in mitigation.detectors(task, task.training_set).items():
                score, flagged = each.score.float().cpu().numpy(), each.flagged.bool().cpu().numpy()
                found[name] = DetectorScores(score, flagged, each.mixture)
        return found

    def score_detectors(self, task: Task) -> dict[str, dict[str, float | None]]:
        """The detectors against the truth, and how far any two of them agree."""
        detectors = self.detectors(task)
        judged = {
            name: metrics.score_detector(each.score, each.flagged, self.label_status)
            for name, each in detectors.items()
        }
        for name, each in detectors.items():
            curve = metrics.roc_curve(each.score, self.label_status)
            if curve is not None:
                self.curves.setdefault(name, []).append(curve)
        for (name, first), (other, second) in itertools.combinations(detectors.items(), 2):
            judged[f"{name}_with_{other}"] = {"correlation": metrics.correlation(first.flagged, second.flagged)}
        return judged


def placed(images: Any, device: torch.device) -> Any:
    """Inputs on the training device, copied once; lazy ones stay on disk."""
    return DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images).to(device)

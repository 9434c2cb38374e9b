"""Evaluation of a run against clean labels, and storage of its predictions.

Every task names its evaluator. Evaluators alone hold clean labels; nothing that trains ever receives one.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from noisybench.data.lazy import Images, MemmapImages
from noisybench.data.texts import is_text, text_bytes
from noisybench.records.evidence import DetectorScores, Samples
from noisybench.records.schema import ProbeRow, RunRecord
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun
from noisybench.training.roles import DetectorProvider
from noisybench.training.training_set import DiskTensor


class Evaluator(abc.ABC):
    """Contract of an evaluator: score each epoch, and keep the predictions of the trained run.

    Attributes:
        metric: name of the score, in [0, 1], by which runs are ranked.
        supports_sample: True if the training scores of an epoch can be measured on a sample, see `Budget.train_eval_size`.
        label_status: positions in `LABEL_STATUS`, in the shape of the observed targets.
        roc_curves: (51,) ROC curves of the stack's detectors by name, one per epoch.
    """

    metric: ClassVar[str]
    supports_sample: ClassVar[bool] = False

    def __init__(self, prepared: PreparedRun) -> None:
        self.prepared, self.dataset, self.labels = prepared, prepared.dataset, prepared.labels
        self.label_status = self.labels.label_status(self.dataset.train.targets)
        self.roc_curves: dict[str, list[Any]] = {}

    def move_to(self, device: torch.device) -> None:
        """Copy the test and validation inputs to the training device."""
        self.test = as_tensor(self.dataset.test.inputs, device)
        self.validation = as_tensor(self.dataset.validation.inputs, device)

    @abc.abstractmethod
    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return the fields of the epoch's `EpochRow` that need clean labels, and ``warnings`` if there are any.

        Args:
            task: networks after the epoch.
            stage: ``train``, or ``refine`` for networks that were changed after training.
        """

    def probe(self, task: Learner, epochs: int, last: bool) -> list[ProbeRow]:
        """Score the classifiers that mitigations fit beside the networks' own, if the task supports them.

        Args:
            task: networks as trained so far.
            epochs: number of trained epochs; 0 before the first.
            last: True after the last epoch.
        """
        return []

    @abc.abstractmethod
    def finalize(self, task: Learner) -> None:
        """Keep the final predictions of the trained task and its stack."""

    @abc.abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return the fields of the `RunRecord` that need clean labels, such as `calibration_error` and `detection`."""

    @abc.abstractmethod
    def samples(self) -> Samples:
        """Return one record per label of the training set."""

    @abc.abstractmethod
    def save(self, record: RunRecord, folder: Path) -> None:
        """Write predictions, samples and figures into a folder."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was kept so far, for a checkpoint."""
        # Lists, because checkpoints are read with `weights_only=True`, which refuses NumPy arrays.
        return {"roc_curves": {name: [curve.tolist() for curve in curves] for name, curves in self.roc_curves.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that an interrupted run has saved."""
        self.roc_curves = {
            name: [np.array(curve, dtype=np.float32) for curve in curves]
            for name, curves in state["roc_curves"].items()
        }

    def detectors(self, task: Learner) -> dict[str, DetectorScores]:
        """Return scores and flags of the stack's detectors after this epoch, on the host."""
        detectors: dict[str, DetectorScores] = {}
        for mitigation in self.prepared.stack.with_role(DetectorProvider):
            for name, detector in mitigation.detectors(task, task.training_set).items():
                # NumPy has no bfloat16, hence the conversion on the device.
                score, flagged = detector.score.float().cpu().numpy(), detector.flagged.bool().cpu().numpy()
                detectors[name] = DetectorScores(score, flagged, detector.mixture)
        return detectors


def as_tensor(images: Images, device: torch.device | None = None) -> torch.Tensor | DiskTensor:
    """Return images as a tensor on a device (default: the CPU); memory-mapped images stay on disk, texts become bytes.

    Example:
        >>> as_tensor(np.zeros((2, 1, 8, 8), np.uint8)).shape
        torch.Size([2, 1, 8, 8])
    """
    if not isinstance(images, MemmapImages) and is_text(images):
        return torch.from_numpy(text_bytes(images)).to(device)
    # `from_numpy` shares the memory of the array, so that images that stay on the CPU are not copied.
    return DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images).to(device)

"""The evaluator of tasks that predict one class per pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.data.masks.compressed import compress_masks
from noisybench.data.masks.files import write_masks
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detection, score_detectors
from noisybench.evaluation.segmentation import (
    boundary_counts,
    boundary_width,
    early_learning,
    mask_correction_accuracy,
    mask_diagnostics,
    mean_iou,
    pair_counts,
    sample_pixels,
    score_corrected_masks,
    score_mask_predictions,
)
from noisybench.records.evidence import EVIDENCE_FILE, DetectorScores, MaskEvidence, Samples
from noisybench.records.schema import RunRecord
from noisybench.tasks._mask_plots import plot_class_curves, plot_masks
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun

CALIBRATION_BINS = 15


class SegmentationEvaluator(Evaluator):
    """Evaluator of masks: IoU by class, Dice, boundary IoU, memorization by class, detection and calibration.

    Attributes:
        test_by_epoch: compressed predictions of the test images at each row.
        validation_by_epoch: compressed predictions of the validation images at each row; empty without a validation split.
    """

    metric = "miou"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        self.test_by_epoch: list[bytes] = []
        self.validation_by_epoch: list[bytes] = []
        self._counts: list[list[list[int]]] = []
        self._corrects = False
        self._final: dict[str, Any] = {}
        includes_all = prepared.spec.task.parameters["background"] or not prepared.dataset.has_background
        self._first_class = 0 if includes_all else 1
        self._sampled_pixels = sample_pixels(self.label_status, self.labels.hash)
        self._sampled_status = self.label_status.reshape(-1)[self._sampled_pixels]

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and predictions collected so far."""
        # Tensors, because checkpoints are read with `weights_only=True`, which knows no bytes.
        by_epoch = {
            name: [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in values]
            for name, values in (("test", self.test_by_epoch), ("validation", self.validation_by_epoch))
        }
        return {**super().state_dict(), "counts": self._counts, "by_epoch": by_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts and predictions that an interrupted run has collected."""
        super().load_state_dict(state)
        self._counts = state["counts"]
        self.test_by_epoch, self.validation_by_epoch = (
            [data.numpy().tobytes() for data in state["by_epoch"][name]] for name in ("test", "validation")
        )

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return scores of all splits, memorization and detection of the current epoch."""
        observed, clean, status = self.labels.train, self.dataset.train.targets, self.label_status
        num_classes, names = self.dataset.num_classes, self.dataset.class_names
        test = self._predict(task, self.test, self.dataset.test.targets, boundary=True)
        self._counts.append(test["counts"].tolist())
        self.test_by_epoch.append(compress_masks(test["predicted"]))
        validation = None
        if len(self.labels.validation):
            clean_validation = self.dataset.validation.targets
            validation = self._predict(task, self.validation, self.labels.validation, clean_targets=clean_validation)
            self.validation_by_epoch.append(compress_masks(validation["predicted"]))
        prediction = task.training_predictions().cpu().numpy()
        label_quality = self._label_quality(task)
        return {
            **score_mask_predictions(prediction, clean, observed, status, num_classes, self._first_class),
            # A result is a non-empty dictionary; without a validation split, `and` passes its None on to these
            # fields.
            "noisy_val_score": validation and mean_iou(validation["counts"], self._first_class),
            "noisy_val_loss": validation and validation["loss"],
            "clean_val_score": validation and mean_iou(validation["clean_counts"], self._first_class),
            "test_score": mean_iou(test["counts"], self._first_class),
            "test_loss": test["loss"],
            "noise_auroc": metrics.noise_auroc(label_quality, self._sampled_status == IN_DISTRIBUTION),
            "detectors": self._score_detectors(task) if stage == "train" else {},
            "diagnostics": mask_diagnostics(test["counts"], test["boundary"], names, self._first_class)
            | early_learning(prediction, clean, observed, status, names)
            | self._score_corrections(task),
            "warnings": self._correction_warnings(task),
        }

    def finalize(self, task: Learner) -> None:
        """Keep label quality, corrected labels and predictions of the trained stack."""
        corrected = self.prepared.stack.corrected_labels(task, task.training_set)
        labels = task.training_set.targets if corrected is None else corrected
        self._corrects = corrected is not None and bool((corrected != task.training_set.targets).any())
        test = self._predict(task, self.test, self.dataset.test.targets, final=True)
        self._final = {
            # Half precision, because there is one value for every pixel of the training set.
            "label_quality": self.prepared.stack.label_quality(task, task.training_set).half().cpu().numpy(),
            "corrected_labels": labels.to(torch.uint8).cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "sampled": self._label_quality(task),
            **test,
        }

    def summary(self) -> dict[str, Any]:
        """Return calibration on the test split, accuracy of corrected pixels, and detection by label quality."""
        clean, observed, corrected = self.dataset.train.targets, self.labels.train, self._final["corrected_labels"]
        return {
            "calibration_error": self._final["calibration_error"],
            "correction_accuracy": mask_correction_accuracy(corrected, clean, observed),
            "detection": score_detection(self._final["sampled"], self._sampled_status),
        }

    def samples(self) -> Samples:
        """Return one record per pixel."""
        train, final = self.dataset.train, self._final
        return Samples(
            train.index,
            self.labels.train,
            train.targets,
            final["label_quality"],
            final["prediction"],
            final["corrected_labels"],
        )

    def evidence(self) -> MaskEvidence:
        """Return the predictions from which the scores of the run follow."""
        dataset, final = self.dataset, self._final
        test, validation, prediction, corrected = (
            np.frombuffer(data, dtype=np.uint8)
            for data in (
                b"".join(self.test_by_epoch),
                b"".join(self.validation_by_epoch),
                compress_masks(final["prediction"]),
                compress_masks(final["corrected_labels"]),
            )
        )
        return MaskEvidence(
            test_index=dataset.test.index,
            test_by_epoch=test,
            validation_index=dataset.validation.index,
            validation_by_epoch=validation,
            train_index=dataset.train.index,
            label_quality=final["sampled"],
            prediction=prediction,
            corrected_labels=corrected,
        )

    def save(self, record: RunRecord, folder: Path) -> None:
        """Write masks of the training and test split, counts by epoch, and figures."""
        samples = {name: values for name, values in vars(self.samples()).items() if name != "detectors"}
        np.savez_compressed(folder / "samples.npz", **samples)
        test = self.dataset.test
        np.savez_compressed(
            folder / "predictions.npz",
            index=test.index,
            target=test.targets,
            predicted=self._final["predicted"],
            counts_by_epoch=np.array(self._counts),
        )
        np.savez_compressed(folder / EVIDENCE_FILE, **vars(self.evidence()))
        # The noisy masks of a stack that corrects nothing are not corrected ones.
        if self.prepared.spec.execution.save_corrected_masks and self._corrects:
            # No stack corrects the validation split; with its observed masks, the folder covers all that training sees.
            masks = {"train": self._final["corrected_labels"], "validation": self.labels.validation}
            write_masks(self.dataset, masks, folder / "corrected")
        plot_class_curves(record, self.dataset.class_names, folder / "classes.png")
        plot_masks(self.dataset, self.samples(), record.title, folder / "masks.png")

    def detectors(self, task: Learner) -> dict[str, DetectorScores]:
        """Return scores and flags of the stack's detectors for the sampled pixels."""
        pixels = self._sampled_pixels
        return {
            name: DetectorScores(
                detector.score.reshape(-1)[pixels], detector.flagged.reshape(-1)[pixels], detector.mixture
            )
            for name, detector in super().detectors(task).items()
        }

    def _score_detectors(self, task: Learner) -> dict[str, dict[str, float | None]]:
        """Score the stack's detectors on the sampled pixels."""
        return score_detectors(self.detectors(task), self._sampled_status, self.roc_curves)

    def _score_corrections(self, task: Learner) -> dict[str, float]:
        """Score the corrected masks, if the stack corrects labels."""
        labels = self.prepared.stack.corrected_labels(task, task.training_set)
        if labels is None:
            return {}
        corrected = labels.to(torch.uint8).cpu().numpy()
        clean, num_classes = self.dataset.train.targets, self.dataset.num_classes
        return score_corrected_masks(corrected, clean, self.label_status, num_classes, self._first_class)

    def _correction_warnings(self, task: Learner) -> list[str]:
        """Return warnings about the masks that `execution.save_corrected_masks` asks for, after the last epoch."""
        if not self.prepared.spec.execution.save_corrected_masks or task.current_epoch + 1 < task.budget.epochs:
            return []
        labels = self.prepared.stack.corrected_labels(task, task.training_set)
        if labels is None or not bool((labels != task.training_set.targets).any()):
            return ["execution.save_corrected_masks: the stack corrected no pixel, so no masks are written"]
        layout = self.dataset.mask_layout
        if layout is not None and any(placement.enlarges for placement in layout.placements):
            return [
                "execution.save_corrected_masks: images were enlarged, so that corrected masks in the size of the source hold "
                "fewer pixels than those in samples.npz"
            ]
        return []

    def _label_quality(self, task: Learner) -> NDArray[np.float32]:
        """Return the (K,) label quality of the sampled pixels."""
        label_quality = self.prepared.stack.label_quality(task, task.training_set).reshape(-1)
        # Selected on the device, because all pixels in float32 may exceed the memory of the host.
        return label_quality[torch.from_numpy(self._sampled_pixels).to(label_quality.device)].float().cpu().numpy()

    def _predict(
        self,
        task: Learner,
        inputs: Any,
        targets: NDArray[np.uint8],
        boundary: bool = False,
        final: bool = False,
        clean_targets: NDArray[np.uint8] | None = None,
    ) -> dict[str, Any]:
        """Predict masks batch by batch, and reduce them on the device.

        Args:
            task: trained networks.
            inputs: images of one split.
            targets: (N, H, W) classes with which predictions are compared.
            boundary: whether to count boundary pixels.
            final: whether to measure calibration.
            clean_targets: (N, H, W) clean classes of the same images.

        Returns:
            ``counts``, ``clean_counts`` and ``boundary`` of `evaluation.segmentation`, ``loss``, the cross-entropy in nats,
            and ``predicted``, (N, H, W) classes; if ``final``, also ``calibration_error``.
        """
        num_classes, device = self.dataset.num_classes, task.device
        # Integer counts are exact in any order of summation, and stay on the device until the last batch.
        counts, clean_counts = torch.zeros(2, num_classes, num_classes, dtype=torch.int64, device=device)
        boundaries = torch.zeros(3, num_classes, dtype=torch.int64, device=device)
        # Float64, because a float32 sum over millions of pixels would lose the terms of confident predictions.
        loss, num_labeled = torch.zeros((), dtype=torch.float64), 0
        predictions, gaps = [], np.zeros(CALIBRATION_BINS)
        width = boundary_width(*targets.shape[1:])
        for rows, probabilities in task.predict_batches(inputs):
            batch_targets = torch.from_numpy(targets[rows]).to(device)
            labeled, predicted = batch_targets != IGNORED, probabilities.max(1).indices
            counts += pair_counts(batch_targets, predicted, num_classes)
            if clean_targets is not None:
                clean_counts += pair_counts(torch.from_numpy(clean_targets[rows]).to(device), predicted, num_classes)
            if boundary:
                boundaries += boundary_counts(predicted, batch_targets, num_classes, width)
            # Pixels without a label get any class here, and are dropped right after.
            classes = batch_targets.long().clamp_max(num_classes - 1)[:, None]
            target_probability = probabilities.gather(1, classes).squeeze(1)[labeled]
            loss += -target_probability.clamp_min(metrics.MIN_PROBABILITY).log().double().sum().cpu()
            num_labeled += len(target_probability)
            predictions.append(predicted.to(torch.uint8).cpu().numpy())
            if final:
                confidence = probabilities.amax(1)[labeled].double().cpu().numpy()
                correct = (predicted == batch_targets)[labeled].cpu().numpy()
                gaps += metrics.calibration_gaps(confidence, correct, CALIBRATION_BINS)
        reduced = {
            "counts": counts.cpu().numpy(),
            "clean_counts": clean_counts.cpu().numpy(),
            "boundary": boundaries.cpu().numpy(),
            "loss": float(loss) / max(num_labeled, 1),
            "predicted": np.concatenate(predictions),
        }
        if final:
            # A bin's weight n_b / N times its mean gap is the sum of its gaps over N, so that the bin counts cancel.
            reduced["calibration_error"] = float(np.abs(gaps).sum() / max(num_labeled, 1))
        return reduced

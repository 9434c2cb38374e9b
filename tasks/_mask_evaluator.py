"""The judge of tasks that give each pixel one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from noisybench.data.label_statistics import intersection_over_union
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION, UNKNOWN_STATUS
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import score_detectors
from noisybench.records.evidence import DetectorScores, Samples
from noisybench.records.schema import RunRecord
from noisybench.tasks._mask_plots import class_curves, mask_page
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun
from noisybench.utils.seeds import Stream

SAMPLED = 50_000
"""Pixels on which detection is measured; with as many, an AUROC is known to about 0.003."""

BOUNDARY = 0.02
"""Width of the boundary for the boundary IoU, as a share of the image's diagonal (Cheng et al. 2021)."""

BINS = 15


class SegmentationEvaluator(Evaluator):
    """Scores masks: IoU by class, Dice, boundary IoU, what became of wrong pixels by class, detection and calibration."""

    metric = "miou"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        self._counts: list[list[list[int]]] = []
        self._final: dict[str, Any] = {}
        self._first = 0 if prepared.spec.task.parameters["background"] else 1
        labelled = np.flatnonzero(self.label_status != UNKNOWN_STATUS)
        chosen = Stream("sampled pixels", self.labels.hash).permutation(len(labelled))[:SAMPLED]
        self._sampled = labelled[np.sort(chosen)]
        self._sampled_states = self.label_status.reshape(-1)[self._sampled]

    def state_dict(self) -> dict[str, Any]:
        """What was kept so far."""
        return {**super().state_dict(), "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what an interrupted run has kept."""
        super().load_state_dict(state)
        self._counts = state["counts"]

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Scores of all splits, what became of wrong pixels, and detection."""
        observed, clean = self.labels.train, self.dataset.train.targets
        tested = self._tested(task, self.test, self.dataset.test.targets, edges=True)
        self._counts.append(tested["counts"].tolist())
        held_out = None
        if len(self.labels.validation):
            held_out = self._tested(
                task, self.validation, self.labels.validation, others=self.dataset.validation.targets
            )
        predicted = task.training_predictions().cpu().numpy()
        label_quality = self._label_quality(task)
        wrong = self.label_status == IN_DISTRIBUTION
        detection = metrics.noise_auroc(label_quality, self._sampled_states == IN_DISTRIBUTION)
        facts = self._facts(tested) | self._early_learning(predicted, wrong)
        if not wrong.any():
            memorized_fraction = recovered_fraction = None
        else:
            memorized_fraction, recovered_fraction = (
                metrics.fraction((predicted == each)[wrong]) for each in (observed, clean)
            )
        return {
            "train_score": self._score(
                self.dataset.target_kind.transition_counts(observed, predicted, self.dataset.num_classes)
            ),
            "noisy_val_score": held_out and self._score(held_out["counts"]),
            "noisy_val_loss": held_out and held_out["loss"],
            "clean_val_score": held_out and self._score(held_out["clean_counts"]),
            "test_score": self._score(tested["counts"]),
            "test_loss": tested["loss"],
            "memorized_fraction": memorized_fraction,
            "recovered_fraction": recovered_fraction,
            "noise_auroc": detection,
            "detectors": self._score_detectors(task) if stage == "train" else {},
            "diagnostics": facts | self._corrected(task),
        }

    def finalize(self, task: Learner) -> None:
        """Store label quality, corrected labels and predictions of the trained stack."""
        corrected = self.prepared.stack.corrected_labels(task, task.training_set)
        tested = self._tested(task, self.test, self.dataset.test.targets, final=True)
        self._final = {
            "label_quality": self.prepared.stack.label_quality(task, task.training_set).half().cpu().numpy(),
            "corrected_labels": (task.training_set.targets if corrected is None else corrected)
            .to(torch.uint8)
            .cpu()
            .numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "sampled": self._label_quality(task),
            **tested,
        }

    def summary(self) -> dict[str, Any]:
        """Calibration on the test split, what became of corrected pixels, and detection by label quality."""
        clean, observed, labels = self.dataset.train.targets, self.labels.train, self._final["corrected_labels"]
        corrected = (labels != observed) & self.dataset.target_kind.is_labeled(clean)
        return {
            "calibration_error": self._final["calibration_error"],
            "correction_accuracy": metrics.fraction((labels == clean)[corrected]),
            "detection": metrics.score_detection(self._final["sampled"], self._sampled_states),
        }

    def samples(self) -> Samples:
        """One record per pixel."""
        train, final = self.dataset.train, self._final
        return Samples(
            train.index,
            self.labels.train,
            train.targets,
            final["label_quality"],
            final["prediction"],
            final["corrected_labels"],
        )

    def save(self, record: RunRecord, folder: Path) -> None:
        """Masks of the training and test split, counts by epoch, and pictures."""
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
        if self.prepared.spec.execution.save_corrected_masks:
            self._save_corrected(folder / "corrected")
        names = self.dataset.class_names
        class_curves(record, names, folder / "classes.png")
        mask_page(self.dataset, self.samples(), record.title, folder / "masks.png")

    def _save_corrected(self, folder: Path) -> None:
        from PIL import Image

        folder.mkdir()
        names, train = self.dataset.source_names, self.dataset.train
        for row, mask in zip(train.index, self._final["corrected_labels"], strict=True):
            Image.fromarray(mask).save(folder / f"{names[row] if names else row}.png")

    def detectors(self, task: Learner) -> dict[str, DetectorScores]:
        """What the stack's detectors say of the sampled pixels."""
        found = super().detectors(task)
        return {
            name: DetectorScores(
                each.score.reshape(-1)[self._sampled], each.flagged.reshape(-1)[self._sampled], each.mixture
            )
            for name, each in found.items()
        }

    def _score_detectors(self, task: Learner) -> dict[str, dict[str, float | None]]:
        """Score the stack's detectors on the sampled pixels."""
        return score_detectors(self.detectors(task), self._sampled_states, self.roc_curves)

    def _label_quality(self, task: Learner) -> NDArray[np.float32]:
        """Return the (K,) label quality of the sampled pixels."""
        found = self.prepared.stack.label_quality(task, task.training_set).reshape(-1)
        return found[torch.from_numpy(self._sampled).to(found.device)].float().cpu().numpy()

    def _score(self, counts: NDArray[np.int64]) -> float:
        """Mean IoU of the classes that count and occur."""
        iou = intersection_over_union(counts)[self._first :]
        return 0.0 if np.isnan(iou).all() else float(np.nanmean(iou))

    def _tested(
        self,
        task: Learner,
        inputs: Any,
        targets: NDArray[np.uint8],
        edges: bool = False,
        final: bool = False,
        others: NDArray[np.uint8] | None = None,
    ) -> dict[str, Any]:
        """Counts of pairs (row: target, column: predicted), of boundaries where asked for, and the cross-entropy in nats.

        With other targets of the same images, the counts with these as well.
        """
        classes = self.dataset.num_classes
        counts, clean_counts = torch.zeros(2, classes, classes, dtype=torch.int64, device=task.device)
        boundaries = torch.zeros(3, classes, dtype=torch.int64, device=task.device)
        loss, labelled = torch.zeros((), dtype=torch.float64), 0
        predictions, bins = [], np.zeros(BINS)
        width = max(1, round(BOUNDARY * float(np.hypot(*targets.shape[1:]))))
        for place, probabilities in task.predict_batches(inputs):
            wanted = torch.from_numpy(targets[place]).to(task.device)
            valid, predicted = wanted != IGNORED, probabilities.max(1).indices
            pairs = wanted[valid].long() * classes + predicted[valid]
            counts += torch.bincount(pairs, minlength=classes**2).view(classes, classes)
            if others is not None:
                other = torch.from_numpy(others[place]).to(task.device)
                further = other[other != IGNORED].long() * classes + predicted[other != IGNORED]
                clean_counts += torch.bincount(further, minlength=classes**2).view(classes, classes)
            if edges:
                boundaries += boundary_counts(predicted, wanted, classes, width)
            chosen = probabilities.gather(1, wanted.long().clamp_max(classes - 1)[:, None]).squeeze(1)[valid]
            loss += -chosen.clamp_min(1e-12).log().double().sum().cpu()
            labelled += len(pairs)
            if final:
                predictions.append(predicted.to(torch.uint8).cpu().numpy())
                confidence = probabilities.amax(1)[valid].double().cpu().numpy()
                right = (predicted == wanted)[valid].cpu().numpy()
                bins += metrics.calibration_gaps(confidence, right, BINS)
        found = {
            "counts": counts.cpu().numpy(),
            "clean_counts": clean_counts.cpu().numpy(),
            "edges": boundaries.cpu().numpy(),
            "loss": float(loss) / max(labelled, 1),
        }
        if final:
            found |= {
                "predicted": np.concatenate(predictions),
                "calibration_error": float(np.abs(bins).sum() / max(labelled, 1)),
            }
        return found

    def _facts(self, tested: dict[str, Any]) -> dict[str, float]:
        """Scores of the test split by class, and other means."""
        counts, names = tested["counts"], self.dataset.class_names
        iou = intersection_over_union(counts)
        dice = 2 * iou / (1 + iou)
        both, predicted, wanted = tested["edges"]
        union = predicted + wanted - both
        edges = np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)
        found = {f"iou.{name}": float(value) for name, value in zip(names, iou, strict=True) if not np.isnan(value)}
        for name, values in (("dice", dice), ("boundary_iou", edges)):
            if not np.isnan(values[self._first :]).all():
                found[name] = float(np.nanmean(values[self._first :]))
        return found | {
            "pixel_accuracy": float(np.trace(counts) / max(counts.sum(), 1)),
            "miou_with_background": float(np.nanmean(iou)),
        }

    def _early_learning(self, predicted: NDArray[np.uint8], wrong: NDArray[np.bool_]) -> dict[str, float]:
        """IoU by class of predictions with the clean (`learned`) and the wrong labels (`memorized_fraction`) on wrong pixels."""
        found: dict[str, float] = {}
        if not wrong.any():
            return found
        classes, names = self.dataset.num_classes, self.dataset.class_names
        for kind, labels in (("learned", self.dataset.train.targets), ("memorized", self.labels.train)):
            pairs = labels[wrong].astype(np.int64) * classes + predicted[wrong]
            counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
            iou = intersection_over_union(counts)
            found |= {
                f"{kind}.{name}": float(each) for name, each in zip(names, iou, strict=True) if not np.isnan(each)
            }
        return found

    def _corrected(self, task: Learner) -> dict[str, float]:
        """Where the stack corrects: mean IoU of its labels with the clean ones, and the share of wrong ones it has right."""
        labels = self.prepared.stack.corrected_labels(task, task.training_set)
        if labels is None:
            return {}
        clean, corrected = self.dataset.train.targets, labels.to(torch.uint8).cpu().numpy()
        wrong = self.label_status == IN_DISTRIBUTION
        found = {
            "label_miou": self._score(
                self.dataset.target_kind.transition_counts(clean, corrected, self.dataset.num_classes)
            )
        }
        share = metrics.fraction((corrected == clean)[wrong])
        return found if share is None else {**found, "corrected_fraction": share}


def boundary_counts(predicted: Tensor, wanted: Tensor, classes: int, width: int) -> Tensor:
    """(3, C) pixels of each class's boundary: in both, in the prediction, in the target.

    A boundary is what erosion by a square of ``width`` pixels on each side takes from a class; at the image's edge, and at
    pixels without a label, a class ends. These count nowhere.

    Args:
        predicted: (B, H, W) classes.
        wanted: (B, H, W) uint8 classes and `IGNORED`.
        classes: C.
        width: in pixels.
    """
    valid, edges = wanted != IGNORED, []
    for labels in (predicted, wanted):
        # On its class's boundary is who has another class, or the image's edge, within the width.
        own = functional.pad(labels.float()[:, None], (1, 1, 1, 1), value=-1.0)
        window = (2 * width + 1, 1, width)
        highest, lowest = functional.max_pool2d(own, *window), -functional.max_pool2d(-own, *window)
        edges.append((((highest != own) | (lowest != own))[:, 0, 1:-1, 1:-1] & valid, labels.long()))
    (first, predicted_class), (second, wanted_class) = edges
    both = first & second & (predicted_class == wanted_class)
    parts = ((both, wanted_class), (first, predicted_class), (second, wanted_class))
    return torch.stack([torch.bincount(labels[chosen], minlength=classes) for chosen, labels in parts])

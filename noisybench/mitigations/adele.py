"""ADELE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.targets import IGNORED
from noisybench.mitigations._mask_correction import (
    MIN_IOU,
    MIN_POINTS,
    MIN_REMAINING_AREA,
    correct_masks,
    fit_curve,
    multi_scale_divergence,
    predict_views,
    rescale,
    resize_scores,
)
from noisybench.nn.features import capture_activations
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class ADELE(LossWrapper):
    """Correct the masks of each class once the network begins to memorize it (adaptive early-learning correction).

    For every class, the IoU between the network's predictions in training and the observed masks is recorded in each
    epoch, and a saturating curve a (1 - exp(-b e^c)) is fitted to it (Liu et al. 2022). Once its slope has fallen by
    `onset_slope_drop` since the first epoch, the class counts as memorized, and labels are replaced by predictions with a
    confidence above `confidence_threshold`: mean probabilities over `scales` and their mirror images, without
    augmentation. No pixel is changed to a class that the mask of its image lacks. The second, independent element is
    `consistency`: the Jensen-Shannon divergence between predictions for rescaled inputs, added to the loss at each scale.

    The published code has two variants. `match=both` requires the class of the label to be memorized as well as the
    predicted one, and corrections accumulate (SegTHOR, every tenth epoch). `match=prediction` requires the predicted
    class only, and fills unlabeled pixels (VOC, every epoch, from the observed masks). The background always counts as
    memorized. A class with an IoU below 0.1 is not corrected, nor is one whose fit does not converge, which the row
    reports. `fixed_onset` corrects all classes from
    one epoch on, which is the plain label update to compare with. Rows report how many observed pixels of each class have
    another label, and the fraction of its area that each class keeps, with a warning below a half; the last row warns if
    no label was corrected.

    Corrected masks use one byte per pixel, and are restored with a checkpoint.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="IoU(e) ≈ a · (1 - exp(-b · e^c))",
        reference="https://github.com/Kangningthu/ADELE",
        commit="7195bd0af39be79c533d67dd7eab7f9bfd6a4285",
        license="MIT",
        compared=(
            "fitted curves, corrected masks by both rules, Jensen-Shannon divergence of three scales with its gradient and "
            "gate, and pooled IoU"
        ),
        difference="5.9e-7 in the fits, 1.0e-7 in the divergence, 2.3e-8 in its gradient; no corrected pixel differs",
        golden=("adele",),
        deviations=(
            Deviation(
                "the code divides logits by 3 in the cross-entropy with consistency; here the temperature is 1",
                "the paper has no such temperature, and it changes the loss with the number of scales",
                "for a margin of 6 nats over 3 other classes the loss is 0.007 instead of 0.34 nats",
            ),
            Deviation(
                "the code keeps the mean probability within [0.001, 0.999] in the divergence; here it is not clamped",
                "the clamped value is no divergence: it can be negative, and its gradient stops",
                "at most 9e-4 nats per pixel at logits of standard deviation 8",
            ),
            Deviation(
                "the code averages the divergence over all pixels; here over those with a label",
                "pixels that augmentation has filled in hold no image",
                "the weight of the consistency changes by the fraction of pixels without a label",
            ),
            Deviation(
                "the code fits at n times spaced evenly from 0 to n epochs; here at 1, 2, ..., n",
                "the network has been trained for a whole epoch when the first IoU is known",
                "the onset is 1.0 epoch earlier on average, 4 at most, on 60 noisy curves",
            ),
            Deviation(
                "the SegTHOR code leaves out epochs before an increase by 0.1 between epochs; here by 0.05, counted from 0 "
                "before the first epoch",
                "a class that is learned in the first epoch has no such increase, and is never corrected by that code",
                "no onset for 7 of 60 noisy curves instead of 24",
            ),
            Deviation(
                "the VOC code counts unlabeled pixels as objects when it protects small ones; here they do not count",
                "unlabeled borders of an object would hide that the object itself vanishes",
                "2 of 1,407 random images are corrected differently",
            ),
            Deviation(
                "the VOC code can refine predictions with a conditional random field before a correction; here it is absent",
                "the SegTHOR code has none, and its parameters are those of photographs",
                "not measured",
            ),
        ),
    )

    correct: bool = parameter(True, help="Use the first element, the correction of labels")
    consistency: float = parameter(
        0.0,
        ge=0,
        low=0.0,
        high=2.0,
        help="Weight of the second element, the consistency between scales; 1 in the paper",
    )
    confidence_threshold: float = parameter(
        0.8, ge=0, le=1, low=0.5, high=0.9, help="Confidence above which a prediction replaces a label"
    )
    onset_slope_drop: float = parameter(
        0.9, gt=0, lt=1, low=0.8, high=0.95, help="Relative decrease of the slope at which memorization begins"
    )
    match: Literal["both", "prediction"] = parameter(
        "both", help="Classes that must be memorized for a correction: label and prediction, or the prediction only"
    )
    correction_interval: int = parameter(
        10, ge=1, low=1, high=10, help="Number of epochs between corrections after the onset of a class"
    )
    cumulative: bool = parameter(True, help="Correct the corrected labels again, instead of the observed ones")
    fixed_onset: int | None = parameter(
        None, ge=1, help="Epoch from which on all classes are corrected; by default the fit of each class decides"
    )
    scales: list[float] = parameter([0.7, 1.0, 1.5], help="Scales of the inputs for both elements")
    flip: bool = parameter(True, help="Average predictions over mirror images before a correction")
    consistency_min_confidence: float = parameter(
        0.8,
        ge=0,
        le=1,
        help="Smallest confidence of an image's most confident labeled pixel for the consistency to count",
    )
    protect_small_objects: bool = parameter(True, help="Keep the labels of an image whose objects would almost vanish")

    @property
    def requirements(self) -> Requirements:
        """State that is summed in data-parallel training."""
        return Requirements(distributed_state={"counts": "sum"})

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both elements, both variants, and a fixed onset."""
        eager = {"confidence_threshold": 0.3}
        return (
            {**eager, "fixed_onset": 1, "correction_interval": 1},
            {**eager, "fixed_onset": 2, "match": "prediction", "cumulative": False, "scales": [1.0], "flip": False},
            {"consistency": 1.0, "correct": False, "scales": [1.0, 1.5]},
        )

    def check(self, network: Any, budget: Any, examples: int) -> list[str]:
        """Check that there are scales, and that a correction can precede the last epoch."""
        if not self.scales or min(self.scales) <= 0:
            return [f"scales: must be numbers above 0, such as [0.7, 1, 1.5], but got {self.scales}"]
        if self.consistency or not self.correct:
            return []
        # Labels are corrected at the end of an epoch, and a curve needs a minimum number of epochs.
        first = MIN_POINTS if self.fixed_onset is None else self.fixed_onset
        if first < budget.epochs:
            return []
        return [
            f"the first correction is possible after epoch {first}, but the budget has {budget.epochs} epochs, so no "
            "network would be trained on corrected labels; train longer, or lower fixed_onset"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Start from the observed labels, with an empty history of each class."""
        # A copy, because corrections are written in place and the observed labels are still needed as a reference.
        self.state["labels"] = training_set.targets.clone()
        # Integer counts can be summed over data-parallel processes without rounding, in any order.
        self.state["counts"] = torch.zeros(training_set.num_classes**2, dtype=torch.int64)
        self.state["curves"] = torch.zeros(0, training_set.num_classes)
        self.state["onsets"] = torch.full((training_set.num_classes,), -1, dtype=torch.int64)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's loss on corrected labels, at one scale or at all with their divergence."""
        labels = self.state["labels"].view(-1)[batch.index]
        if batch.has_label is None:
            corrected = batch.with_labels(labels.long(), None)
        else:
            has_label = labels != IGNORED if batch.in_image is None else (labels != IGNORED) & batch.in_image
            corrected = batch.with_labels(labels.long().masked_fill(~has_label, 0), has_label)
        if not self.consistency:
            # The scores of the loss are reused for the IoU, so that no second forward pass is needed.
            with capture_activations(task.networks[0], inputs=False) as captured:
                losses = inner_loss(corrected)
            self._count(batch, captured[0])
            return losses
        scale_losses, scores, size = [], [], batch.inputs.shape[2:]
        for scale in self.scales:
            views = {name: rescale(view, scale) for name, view in batch.views.items()}
            # Scores are resized once, for the loss and for the divergence.
            with capture_activations(
                task.networks[0], inputs=False, transform=lambda output: resize_scores(output.float(), size)
            ) as captured:
                scale_losses.append(inner_loss(corrected.with_views(views)))
            scores.append(captured[0])
        # The curve is measured at the scale closest to 1, so that it is comparable with a run without consistency.
        self._count(batch, scores[int(np.argmin(np.abs(np.array(self.scales) - 1)))])
        # Pixels without a label, such as those that augmentation has filled in, do not make an image confident.
        labeled = None if corrected.has_label is None else corrected.has_label.view(len(scores[0]), *size)
        divergence = multi_scale_divergence(scores, self.consistency_min_confidence, labeled)
        return torch.stack(scale_losses).mean(0) + self.consistency * divergence.flatten()

    def _count(self, batch: Batch, scores: Tensor) -> None:
        """Count pairs of observed and predicted classes of this step."""
        classes = batch.num_classes
        # On maps, `max` is many times as fast as `argmax`.
        predicted = resize_scores(scores.detach(), batch.inputs.shape[2:]).max(1).indices.flatten()
        # Against the observed labels: with corrected ones, a correction would raise the IoU that decides the onset.
        pairs = batch.observed * classes + predicted
        if batch.has_label is not None:
            pairs = pairs[batch.has_label]
        self.state["counts"] += torch.bincount(pairs, minlength=classes**2)

    def on_epoch_start(self, task: Learner) -> None:
        """Reset the counts."""
        self.state["counts"].zero_()

    def on_epoch_end(self, task: Learner) -> None:
        """Add a point to the curve of each class, detect onsets, and correct."""
        classes = task.training_set.num_classes
        epoch = task.current_epoch + 1
        counts = self.state["counts"].view(classes, classes).cpu().numpy()
        # IoU of counts pooled over the epoch; a class in neither labels nor predictions has none (0 / 0).
        point = torch.from_numpy(intersection_over_union(counts)).nan_to_num()
        self.state["curves"] = torch.cat([self.state["curves"], point.to(self.state["curves"])[None]])
        new_onset = self._detect_onsets(task, epoch)
        is_due = new_onset or epoch % self.correction_interval == 0
        if self.correct and is_due and bool((self.state["onsets"] >= 0).any()):
            self._correct(task)
        if self.correct:
            self._report_corrections(task, epoch == task.budget.epochs)

    def _report_corrections(self, task: Learner, is_last: bool) -> None:
        """Report how many pixels of each class have another label now; warn in the last epoch if there are none."""
        observed = task.training_set.targets
        changed = observed[(self.state["labels"] != observed) & (observed != IGNORED)]
        counts = torch.bincount(changed.long(), minlength=task.training_set.num_classes).tolist()
        self.diagnostics |= {
            f"corrected_pixels.{name}": float(count)
            for name, count in zip(task.training_set.class_names, counts, strict=True)
        }
        if not is_last or bool((self.state["labels"] != observed).any()):
            return
        num_onsets = int((self.state["onsets"] >= 0).sum())
        if not num_onsets:
            self.warnings.append("memorization began in no class, so no label was corrected")
        else:
            self.warnings.append(
                f"no label was corrected: memorization began in {num_onsets} classes, but in no pixel of theirs was a "
                f"prediction of another class more confident than {self.confidence_threshold:g} and allowed"
            )

    def _detect_onsets(self, task: Learner, epoch: int) -> bool:
        """Record the classes whose memorization begins in this epoch, and return True if there are any."""
        names, new_onset = task.training_set.class_names, False
        curves, onsets = self.state["curves"].cpu().numpy(), self.state["onsets"]
        # The background has no onset of its own: it always counts as memorized.
        for label in range(1 if task.training_set.has_background else 0, curves.shape[1]):
            name = names[label]
            self.diagnostics[f"training_iou.{name}"] = float(curves[-1, label])
            curve = None if self.fixed_onset is not None else fit_curve(curves[:, label])
            if curve is not None:
                self.diagnostics |= {f"fit_{key}.{name}": value for key, value in vars(curve).items()}
            elif self.fixed_onset is None and len(curves) >= MIN_POINTS and curves[:, label].max() >= MIN_IOU:
                self.warnings.append(
                    f"no curve fits the training IoU of {name}, so its onset cannot be detected in epoch {epoch}"
                )
            onset = self.fixed_onset if curve is None else curve.onset(self.onset_slope_drop, epoch)
            # An onset is final: the curve is fitted again in every epoch, and a later fit may move it.
            if onsets[label] < 0 and onset is not None and epoch >= onset:
                onsets[label], new_onset = epoch, True
            if onsets[label] >= 0:
                self.diagnostics[f"onset.{name}"] = float(onsets[label])
        return new_onset

    @torch.no_grad()
    def _correct(self, task: Learner) -> None:
        """Correct the labels of memorized classes, some images at a time."""
        data, labels = task.training_set, self.state["labels"]
        memorized = self.state["onsets"] >= 0
        if data.has_background:
            memorized[0] = True
        # Starting from the observed labels instead lets a later prediction withdraw an earlier correction.
        base = labels if self.cumulative else data.targets
        before = torch.bincount(labels[labels != IGNORED].long(), minlength=data.num_classes)
        num_changed, network, size = 0, task.networks[0], task.eval_batch_size(data.inputs)
        training = network.training
        # In training mode, predictions would depend on the images that share a batch, and update running statistics.
        network.eval()
        for start in range(0, len(data), size):
            rows = slice(start, start + size)
            confidence, predicted = predict_views(network, task.normalize(data.inputs[rows]), self.scales, self.flip)
            corrected = correct_masks(
                base[rows],
                predicted,
                confidence,
                memorized.to(base.device),
                self.confidence_threshold,
                self.match,
                data.targets[rows],
                self.protect_small_objects,
                data.has_background,
            )
            num_changed += int((corrected != labels[rows]).sum())
            labels[rows] = corrected
        network.train(training)
        after = torch.bincount(labels[labels != IGNORED].long(), minlength=data.num_classes)
        self.diagnostics["changed_pixels"] = float(num_changed)
        for label, name in enumerate(data.class_names):
            if before[label]:
                area_kept = float(after[label] / before[label])
                self.diagnostics[f"area_kept.{name}"] = area_kept
                if area_kept < MIN_REMAINING_AREA:
                    self.warnings.append(f"the correction leaves {area_kept:.0%} of the area of {name}")

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the corrected masks."""
        return self.state["labels"]

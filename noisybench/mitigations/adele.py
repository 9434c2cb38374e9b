"""ADELE: adaptive early-learning correction for masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.data.label_statistics import intersection_over_union
from noisybench.data.targets import IGNORED
from noisybench.mitigations._mask_correction import (
    FEWEST,
    FLOOR,
    VANISHED,
    corrected,
    fit_curve,
    multi_scale_divergence,
    rescaled,
    sized,
)
from noisybench.nn.features import captured
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class ADELE(LossWrapper):
    """Corrects the labels of each class from the epoch on in which the network begins to memorise it (Liu et al. 2022).

    For every class the IoU of the network's predictions in training with the observed masks is followed through the epochs, and
    a saturating curve a (1 - exp(-b t**c)) fitted to it. Once its slope has fallen by `slope_drop` since the first epoch, the
    class counts as memorised from then on, and labels are replaced by predictions with a confidence above
    `confidence`: mean probabilities over `scales` and their mirror images, without augmentation. Nothing becomes a class that
    its image's mask lacks. A second, separate element is `consistency`: predictions for rescaled inputs are held together
    by the Jensen-Shannon divergence, beside the objective at each scale.

    The published code has two forms. `both`: the class that is replaced must be memorised as well as the predicted one, and
    corrections add up (their SegTHOR code, every tenth epoch). `single`: the predicted one alone, and unlabelled
    pixels are filled (their VOC code, every epoch, from the observed masks anew). The background always counts as
    memorised. Differences: temperature 1 everywhere; the curve starts at 0 before the first epoch, and a class
    that rises in the first one is not trimmed away, as it would be in the SegTHOR code; a class below an IoU of 0.1 is left
    alone; so is one whose fit does not converge (the row says so). `onset` gives all classes one common epoch
    instead, which is the plain label update to compare with. Rows tell the area that classes keep, and warn below a half.

    Corrected masks take a byte per pixel, and are restored with a checkpoint.
    """

    tasks = ("segmentation",)

    correct: bool = parameter(True, help="the first element: labels are corrected")
    consistency: float = parameter(0.0, ge=0, low=0.0, high=2.0, help="weight of the second element; the paper has 1")
    confidence: float = parameter(0.8, ge=0, le=1, low=0.5, high=0.9, help="above which a prediction replaces a label")
    slope_drop: float = parameter(
        0.9, gt=0, lt=1, low=0.8, high=0.95, help="fall of the slope at which memorising begins"
    )
    rule: Literal["both", "single"] = parameter(
        "both", help="whose class must be memorised: label and prediction, or this alone"
    )
    every: int = parameter(10, ge=1, low=1, high=10, help="epochs between corrections after a class's onset")
    accumulate: bool = parameter(True, help="correct corrected labels; else begin with the observed ones each time")
    onset: int | None = parameter(
        None, ge=1, help="a common epoch from which on all classes are corrected, instead of the fit"
    )
    scales: list[float] = parameter([0.7, 1.0, 1.5], help="of the inputs, for both elements")
    flip: bool = parameter(True, help="average over mirror images as well before correcting")
    gate: float = parameter(
        0.8, ge=0, le=1, help="consistency counts for images with a pixel at least as confident as this"
    )
    guard: bool = parameter(True, help="an image whose objects would all but vanish keeps its labels")

    @property
    def requirements(self) -> Requirements:
        """State that is summed over devices."""
        return Requirements(distributed_state={"counts": "sum"})

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Both elements and rules, and a common onset."""
        return (
            {"onset": 1, "every": 1, "confidence": 0.3},
            {"onset": 2, "rule": "single", "accumulate": False, "confidence": 0.3, "scales": [1.0], "flip": False},
            {"consistency": 1.0, "correct": False, "scales": [1.0, 1.5]},
        )

    def check(self, network: Any, budget: Any, examples: int) -> list[str]:
        """There are scales."""
        if not self.scales or min(self.scales) <= 0:
            return [f"scales: needs numbers above 0, such as [0.7, 1, 1.5], but got {self.scales}"]
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """No label is corrected yet."""
        self.state["labels"] = training_set.targets.clone()
        self.state["counts"] = torch.zeros(training_set.num_classes**2, dtype=torch.int64)
        self.state["curves"] = torch.zeros(0, training_set.num_classes)
        self.state["onsets"] = torch.full((training_set.num_classes,), -1, dtype=torch.int64)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """The rest of the stack on the corrected labels, at one scale or at all, with the divergence between them."""
        labels = self.state["labels"].view(-1)[batch.index]
        if batch.has_label is None:
            given = batch.with_labels(labels.long(), None)
        else:
            valid = labels != IGNORED if batch.in_image is None else (labels != IGNORED) & batch.in_image
            given = batch.with_labels(labels.long().masked_fill(~valid, 0), valid)
        if not self.consistency:
            with captured(task.networks[0], inputs=False) as seen:
                losses = inner_loss(given)
            self._count(task, batch, seen[0])
            return losses
        found, maps, size = [], [], batch.inputs.shape[2:]
        for scale in self.scales:
            views = {name: rescaled(each, scale) for name, each in batch.views.items()}
            # Brought to the size of the masks here, for the objective and the divergence together.
            with captured(task.networks[0], inputs=False, through=lambda scores: sized(scores.float(), size)) as seen:
                found.append(inner_loss(given.with_views(views)))
            maps.append(seen[0])
        self._count(task, batch, maps[int(np.argmin(np.abs(np.array(self.scales) - 1)))])
        divergence = multi_scale_divergence(maps, self.gate)
        return torch.stack(found).mean(0) + self.consistency * divergence.flatten()

    def _count(self, task: Learner, batch: Batch, scores: Tensor) -> None:
        """Pairs of observed and predicted classes of this step."""
        classes = batch.num_classes
        # Of maps, `max` is many times as fast as `argmax`.
        predicted = sized(scores.detach(), batch.inputs.shape[2:]).max(1).indices.flatten()
        pairs = batch.observed * classes + predicted
        if batch.has_label is not None:
            pairs = pairs[batch.has_label]
        self.state["counts"] += torch.bincount(pairs, minlength=classes**2)

    def on_epoch_start(self, task: Learner) -> None:
        """Nothing was predicted in this epoch yet."""
        self.state["counts"].zero_()

    def on_epoch_end(self, task: Learner) -> None:
        """Add a point to each class's curve, look for onsets, and correct."""
        classes = task.training_set.num_classes
        epoch = task.current_epoch + 1
        counts = self.state["counts"].view(classes, classes).cpu().numpy()
        point = torch.from_numpy(intersection_over_union(counts)).nan_to_num()
        self.state["curves"] = torch.cat([self.state["curves"], point.to(self.state["curves"])[None]])
        came_on = self._onsets(task, epoch)
        if self.correct and (came_on or epoch % self.every == 0) and bool((self.state["onsets"] >= 0).any()):
            self._correct(task)

    def _onsets(self, task: Learner, epoch: int) -> bool:
        """Record which classes begin to be memorised now. Returns whether any does."""
        names, came_on = task.training_set.class_names, False
        curves, onsets = self.state["curves"].cpu().numpy(), self.state["onsets"]
        for label in range(1, curves.shape[1]):
            name = names[label]
            self.diagnostics[f"training_iou.{name}"] = float(curves[-1, label])
            fitted = None if self.onset is not None else fit_curve(curves[:, label])
            if fitted is not None:
                self.diagnostics |= {f"fit_{key}.{name}": value for key, value in vars(fitted).items()}
            elif self.onset is None and len(curves) >= FEWEST and curves[:, label].max() >= FLOOR:
                self.warnings.append(f"no curve fits the training IoU of {name}, so it is not judged in epoch {epoch}")
            starts = self.onset
            if fitted is not None:
                starts = fitted.onset(self.slope_drop, epoch)
            if onsets[label] < 0 and starts is not None and epoch >= starts:
                onsets[label], came_on = epoch, True
            if onsets[label] >= 0:
                self.diagnostics[f"onset.{name}"] = float(onsets[label])
        return came_on

    @torch.no_grad()
    def _correct(self, task: Learner) -> None:
        """Correct the labels of the classes that are memorised, portion by portion."""
        data, labels = task.training_set, self.state["labels"]
        active = torch.cat([torch.ones_like(self.state["onsets"][:1], dtype=torch.bool), self.state["onsets"][1:] >= 0])
        base = labels if self.accumulate else data.targets
        before = torch.bincount(labels[labels != IGNORED].long(), minlength=data.num_classes)
        changed, network = 0, task.networks[0]
        training = network.training
        network.eval()
        for start in range(0, len(data), task.eval_batch_size(data.inputs)):
            place = slice(start, start + task.eval_batch_size(data.inputs))
            confidence, predicted = self._confident(task, task.normalize(data.inputs[place]))
            found = corrected(
                base[place],
                predicted,
                confidence,
                active.to(base.device),
                self.confidence,
                self.rule,
                data.targets[place],
                self.guard,
            )
            changed += int((found != labels[place]).sum())
            labels[place] = found
        network.train(training)
        after = torch.bincount(labels[labels != IGNORED].long(), minlength=data.num_classes)
        self.diagnostics["changed_pixels"] = float(changed)
        for label, name in enumerate(data.class_names):
            if before[label]:
                kept = float(after[label] / before[label])
                self.diagnostics[f"area_kept.{name}"] = kept
                if kept < VANISHED:
                    self.warnings.append(f"the correction leaves {kept:.0%} of the area of {name}")

    def _confident(self, task: Learner, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W) greatest mean probability and its class, over scales and mirror images."""
        size = images.shape[2:]
        total: Tensor | None = None
        for scale in self.scales:
            for mirror in (False, True) if self.flip else (False,):
                given = rescaled(images, scale)
                scores = task.networks[0](given.flip(3) if mirror else given)
                found = sized((scores.flip(3) if mirror else scores).float(), size).softmax(1)
                total = found if total is None else total.add_(found)
        assert total is not None
        confidence, predicted = (total / (len(self.scales) * (2 if self.flip else 1))).max(1)
        return confidence, predicted.to(torch.uint8)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The corrected masks."""
        return self.state["labels"]

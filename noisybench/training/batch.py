"""Batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional


@dataclass
class Batch:
    """One step's examples, on the training device.

    Attributes:
        views: independently augmented (B, C, H, W) float tensors of the same examples, by their names in `VIEWS`; of traces,
            what a network reads, which is no tensor.
        observed: (B,) int64 observed targets.
        index: (B,) int64 positions in the training set.
        num_classes: number of classes.
        soft: (B, C) target probabilities where a mitigation has replaced the observed targets.
        part: which part of the epoch it belongs to, where a mitigation planned the epoch.
        valid: (B,) bool, which of the labels there are; None for all. Others are zero, and count nowhere.
        inside: (B,) bool, which pixels are of the image, where augmentation shows what is beyond it; None for all.

    Where pixels have labels, each is an example of its own here: B counts pixels, image by image, while views stay
    (images, C, H, W), and the index is that of the image times the pixels of one plus that of the pixel.
    """

    views: dict[str, Any]
    observed: Tensor
    index: Tensor
    num_classes: int
    soft: Tensor | None = None
    part: int = 0
    valid: Tensor | None = None
    inside: Tensor | None = None

    @property
    def inputs(self) -> Any:
        """The weak view."""
        return self.views["weak"]

    @property
    def targets(self) -> Tensor:
        """(B, C) target probabilities: the soft ones, else one-hot observed targets."""
        if self.soft is not None:
            return self.soft
        return functional.one_hot(self.observed, self.num_classes).to(self.inputs.dtype)

    def with_targets(self, soft: Tensor, views: dict[str, Any] | None = None) -> Batch:
        """The same batch with other target probabilities, and other inputs where given."""
        return replace(self, soft=soft, views=self.views if views is None else views)

    def with_views(self, views: dict[str, Any]) -> Batch:
        """The same batch with other inputs."""
        return replace(self, views=views)

    def share(self, rank: int, count: int) -> Batch:
        """The examples of one of so many devices: of pixels, those of whole images."""
        images = len(self.inputs)
        low, high = images * rank // count, images * (rank + 1) // count
        labels = slice(low * len(self.observed) // images, high * len(self.observed) // images)

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[labels]

        return replace(
            self,
            views={name: view[low:high] for name, view in self.views.items()},
            observed=self.observed[labels],
            index=self.index[labels],
            soft=cut(self.soft),
            valid=cut(self.valid),
            inside=cut(self.inside),
        )

    @property
    def labelled(self) -> Tensor | int:
        """How many labels there are."""
        return len(self.observed) if self.valid is None else self.valid.sum()

    def relabelled(self, observed: Tensor, valid: Tensor | None) -> Batch:
        """The same batch with other labels in the place of the observed ones."""
        return replace(self, observed=observed, valid=valid)


VIEWS = {
    "weak": "the budget's augmentation; always there",
    "weak_2": "a second draw of it",
    "strong": "resized crop and one operation of RandAugment",
    "contrastive": "resized crop, flip, colour jitter, grey",
}
"""The views that a mitigation may ask for."""


@dataclass
class BatchPlan:
    """One step of an epoch that a mitigation plans itself.

    Attributes:
        index: (B,) int64 positions in the training set.
        part: handed on to the batch.
    """

    index: Tensor
    part: int = 0


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """(B,) cross-entropy in nats of (B, C) logits against the batch's targets, hard or soft."""
    return functional.cross_entropy(logits, batch.observed if batch.soft is None else batch.soft, reduction="none")


def probabilities_in_float32(logits: Tensor) -> Tensor:
    """(B, C) softmax in single precision, also where the network ran in bfloat16."""
    return logits.float().softmax(1)

"""Batches: the examples of one optimizer step, as tasks draw them and mitigations receive them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.training.views import View


@dataclass(frozen=True)
class Mixing:
    """Pairs of examples from which those of a batch were mixed.

    Attributes:
        inputs: (B, ...) inputs before they were mixed, in the order of the batch's index.
        partner: (B,) int64 position in the batch of the example that each one is mixed with.
        weight: weight of the example itself, in [0, 1]; the partner has the rest.

    Example:
        >>> mixing = Mixing(torch.zeros(2, 1), partner=torch.tensor([1, 0]), weight=0.75)
        >>> mixing.mix(torch.tensor([0.0, 1.0]))
        tensor([0.2500, 0.7500])
    """

    inputs: Any
    partner: Tensor
    weight: float

    def mix(self, values: Tensor) -> Tensor:
        """Return each row of (B, ...) values, mixed with that of its partner."""
        return values.lerp(values[self.partner], 1 - self.weight)


@dataclass
class Batch:
    """The examples of one optimizer step, on the training device.

    In dense tasks every pixel (or token) is an example of its own. Then B counts the labels, image by image, while the
    views keep the shape (images, C, H, W), and the index of a pixel is that of its image times the number of pixels of
    an image plus its position in the image.

    Attributes:
        views: independently augmented (B, C, H, W) float tensors of the same examples, by name or `PolicyView`. In
            tasks on traces, the token batch that a network reads.
        observed: (B,) int64 observed targets.
        index: (B,) int64 positions in the training set.
        num_classes: number of classes.
        soft: (B, C) target probabilities, if a mitigation has replaced the observed targets.
        phase: number given by a mitigation that plans the epoch itself, for instance that of the network to train.
        has_label: (B,) bool, True where there is a label, or None if all have one. Missing labels are stored as zero and
            must be ignored.
        in_image: (B,) bool, False for pixels that augmentation has filled in, or None if there are none.
        mixing: how a mitigation has mixed the examples, or None if they are not mixed.

    Example:
        >>> batch = Batch({"weak": torch.zeros(2, 1, 4, 4)}, torch.tensor([1, 0]), torch.tensor([5, 8]), num_classes=2)
        >>> batch.targets.tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        >>> batch.with_targets(torch.full((2, 2), 0.5)).targets.tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    views: dict[View, Any]
    observed: Tensor
    index: Tensor
    num_classes: int
    soft: Tensor | None = None
    phase: int = 0
    has_label: Tensor | None = None
    in_image: Tensor | None = None
    mixing: Mixing | None = None

    @property
    def inputs(self) -> Any:
        """The weak view."""
        return self.views["weak"]

    @property
    def targets(self) -> Tensor:
        """(B, C) target probabilities: the soft targets, or else the one-hot observed targets."""
        if self.soft is not None:
            return self.soft
        return functional.one_hot(self.observed, self.num_classes).to(self.inputs.dtype)

    @property
    def num_labels(self) -> Tensor | int:
        """Number of labels in the batch."""
        # With missing labels the count stays on the device; a Python number would make the host wait.
        return len(self.observed) if self.has_label is None else self.has_label.sum()

    def with_targets(self, soft: Tensor) -> Batch:
        """Return the batch with (B, C) target probabilities."""
        return replace(self, soft=soft)

    def mixed(self, partner: Tensor, weight: float) -> Batch:
        """Return the batch with each example mixed with a partner: all views, and the target probabilities.

        Args:
            partner: (B,) int64 positions in the batch.
            weight: weight of the example itself, in [0, 1].
        """
        mixing = Mixing(self.inputs, partner, weight)
        # All views share partner and weight, so that they remain views of the same mixed example.
        views = {name: mixing.mix(view) for name, view in self.views.items()}
        return replace(self, soft=mixing.mix(self.targets), views=views, mixing=mixing)

    def with_views(self, views: dict[View, Any]) -> Batch:
        """Return the batch with other views of its examples."""
        return replace(self, views=views)

    def with_labels(self, observed: Tensor, has_label: Tensor | None) -> Batch:
        """Return the batch with (B,) other observed targets, and with the mask of those that exist."""
        return replace(self, observed=observed, has_label=has_label)

    def shard(self, rank: int, world_size: int) -> Batch:
        """Return the examples that one of several processes trains on; pixels of one image stay together.

        Example:
            >>> views = {"weak": torch.zeros(5, 1, 4, 4)}
            >>> batch = Batch(views, torch.zeros(5, dtype=torch.int64), torch.arange(5), num_classes=2)
            >>> [batch.shard(rank, 2).index.tolist() for rank in range(2)]
            [[0, 1], [2, 3, 4]]
        """
        images = len(self.inputs)
        # Adjacent processes compute the same bound, so that every image belongs to exactly one of them.
        low, high = images * rank // world_size, images * (rank + 1) // world_size
        # Labels are ordered image by image, so that a range of images is a range of labels.
        labels = slice(low * len(self.observed) // images, high * len(self.observed) // images)

        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[labels]

        return replace(
            self,
            views={name: view[low:high] for name, view in self.views.items()},
            observed=self.observed[labels],
            index=self.index[labels],
            soft=cut(self.soft),
            has_label=cut(self.has_label),
            in_image=cut(self.in_image),
        )

    def to(self, device: torch.device) -> Self:
        """Return the batch itself: a task draws it on the training device, so that a `Trainer` has nothing to move."""
        return self


@dataclass
class BatchPlan:
    """Examples of one optimizer step, in the plan of an epoch.

    Attributes:
        index: (B,) int64 positions in the training set.
        phase: number that is passed on to the batch.

    Example:
        >>> BatchPlan(torch.tensor([4, 2]), phase=1)
        BatchPlan(index=tensor([4, 2]), phase=1)
    """

    index: Tensor
    phase: int = 0


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Return the (B,) cross-entropy in nats of (B, C) logits against the batch's targets, hard or soft.

    Example:
        >>> batch = Batch({"weak": torch.zeros(1, 1, 2, 2)}, torch.tensor([0]), torch.tensor([0]), num_classes=2)
        >>> cross_entropy(torch.zeros(1, 2), batch)
        tensor([0.6931])
    """
    # Class indices avoid the (B, C) one-hot targets where no mitigation has replaced them.
    return functional.cross_entropy(logits, batch.observed if batch.soft is None else batch.soft, reduction="none")


def probabilities_in_float32(logits: Tensor) -> Tensor:
    """Return the (B, C, ...) softmax in single precision, even if the network ran in bfloat16.

    Example:
        >>> probabilities_in_float32(torch.zeros(1, 2, dtype=torch.bfloat16))
        tensor([[0.5000, 0.5000]])
    """
    # bfloat16 has 8 significant bits: all probabilities above about 0.998 would be rounded to one.
    return logits.float().softmax(1)

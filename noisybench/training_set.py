"""What mitigations and tasks see of the data: the training set without the truth, and batches of it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.dataset import LazyImages

if TYPE_CHECKING:
    from noisybench.traces.formats import TraceFormat


class LazyTensor:
    """(N, C, H, W) uint8 images on disk, read portion by portion: ``images[slice or index tensor]`` is a tensor."""

    def __init__(self, images: LazyImages) -> None:
        self._images = images
        self.shape = torch.Size(images.shape)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = index.cpu().numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self._images[rows])


@dataclass
class HeldOut:
    """A validation split with (M,) observed targets, as wrong as those of the training set, to choose settings by."""

    inputs: Tensor | LazyTensor
    targets: Tensor


@dataclass
class TrainingSet:
    """All that a mitigation sees of the training data: no clean target, noise kind or rate is in it.

    Attributes:
        inputs: (N, C, H, W) uint8, or float32 where they are features; a tensor, or what is indexed like one where the
            images do not fit in memory.
        targets: (N,) int64 observed targets, or (N, H, W) uint8 masks.
        num_classes: number of classes.
        held_out: the noisy validation split, where there is one.
        class_names: of the classes, where they are known.
        traces: how the characters of traces are to be read, where targets are traces.
    """

    inputs: Tensor | LazyTensor
    targets: Tensor
    num_classes: int
    held_out: HeldOut | None = None
    class_names: tuple[str, ...] = ()
    traces: TraceFormat | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> int:
        """Number of labels: one for each example, or one for each pixel; indices of batches are below it."""
        return self.targets.numel()

    @functools.cached_property
    def inputs_digest(self) -> str:
        """SHA-256 over all inputs."""
        digest = hashlib.sha256(repr(tuple(self.inputs.shape)).encode())
        for start in range(0, len(self), 4096):
            digest.update(self.inputs[start : start + 4096].cpu().numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def targets_digest(self) -> str:
        """SHA-256 over the observed targets."""
        return hashlib.sha256(self.targets.cpu().numpy().tobytes()).hexdigest()

    def place(self, device: torch.device) -> None:
        """Copy targets to the training device once, and inputs where they take at most half of its free memory."""
        self.targets = self.targets.to(device)
        if isinstance(self.inputs, LazyTensor) or device.type == "cpu":
            return
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        if self.inputs.nbytes < free / 2:
            self.inputs = self.inputs.to(device)


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
class Planned:
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

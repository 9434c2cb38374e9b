"""The training set as tasks and mitigations see it: inputs and observed targets, without any clean target."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.data.lazy import MemmapImages

if TYPE_CHECKING:
    from noisybench.data.traces.formats import TraceFormat

CHUNK_SIZE = 4096
"""Number of inputs that are hashed at a time."""


class DiskTensor:
    """(N, C, H, W) uint8 images on disk; ``images[slice or index tensor]`` reads some of them into a tensor."""

    def __init__(self, images: MemmapImages) -> None:
        self._images = images
        self.shape = torch.Size(images.shape)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        # Memory-mapped arrays take NumPy indices only.
        rows = index.cpu().numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self._images[rows])


@dataclass
class ValidationSet:
    """A validation split whose (M,) observed targets are as noisy as those of the training set, for model selection."""

    inputs: Tensor | DiskTensor
    targets: Tensor


@dataclass
class TrainingSet:
    """The data that a mitigation sees; clean targets, label status and noise rates are not part of it.

    Attributes:
        inputs: (N, C, H, W) uint8 images or float32 features: a tensor, or a `DiskTensor` if they do not fit in memory.
        targets: (N,) int64 observed targets, (N, H, W) uint8 masks, or (N, T) tokens of traces.
        num_classes: number of classes.
        validation: noisy validation split, or None.
        class_names: names of the classes, or an empty tuple if they are unknown.
        traces: format of the traces, if targets are traces.
        has_background: class 0 of masks is the background.

    Example:
        >>> data = TrainingSet(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1]), num_classes=2)
        >>> len(data), data.num_labels
        (3, 3)
        >>> masks = TrainingSet(data.inputs, torch.zeros(3, 8, 8, dtype=torch.uint8), num_classes=2)
        >>> len(masks), masks.num_labels
        (3, 192)
    """

    inputs: Tensor | DiskTensor
    targets: Tensor
    num_classes: int
    validation: ValidationSet | None = None
    class_names: tuple[str, ...] = ()
    traces: TraceFormat | None = None
    has_background: bool = True

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_labels(self) -> int:
        """Number of labels: one per example, or one per pixel or token. Indices of a batch are below it."""
        return self.targets.numel()

    @functools.cached_property
    def inputs_digest(self) -> str:
        """SHA-256 of all inputs."""
        # The shape is hashed as well, because equal bytes in another shape are other data.
        # Chunks bound the memory for inputs on disk.
        digest = hashlib.sha256(repr(tuple(self.inputs.shape)).encode())
        for start in range(0, len(self), CHUNK_SIZE):
            digest.update(self.inputs[start : start + CHUNK_SIZE].cpu().numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def targets_digest(self) -> str:
        """SHA-256 of the observed targets."""
        return hashlib.sha256(self.targets.cpu().numpy().tobytes()).hexdigest()

    def move_to(self, device: torch.device) -> None:
        """Move the targets to the training device, and the inputs if they take at most half of its free memory."""
        self.targets = self.targets.to(device)
        if isinstance(self.inputs, DiskTensor) or device.type == "cpu":
            return
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        # The other half is left to weights, activations and the state of the optimizer.
        if self.inputs.nbytes < free / 2:
            self.inputs = self.inputs.to(device)

"""What mitigations and tasks see of the data: the training set without the truth, and batches of it."""

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


class DiskTensor:
    """(N, C, H, W) uint8 images on disk, read portion by portion: ``images[slice or index tensor]`` is a tensor."""

    def __init__(self, images: MemmapImages) -> None:
        self._images = images
        self.shape = torch.Size(images.shape)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = index.cpu().numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self._images[rows])


@dataclass
class ValidationSet:
    """A validation split with (M,) observed targets, as wrong as those of the training set, to choose settings by."""

    inputs: Tensor | DiskTensor
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

    inputs: Tensor | DiskTensor
    targets: Tensor
    num_classes: int
    held_out: ValidationSet | None = None
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
        if isinstance(self.inputs, DiskTensor) or device.type == "cpu":
            return
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        if self.inputs.nbytes < free / 2:
            self.inputs = self.inputs.to(device)

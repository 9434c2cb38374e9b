"""Dataset."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from noisybench.data.traces.formats import TraceFormat
from noisybench.data.lazy import Images, MemmapImages
from noisybench.data.targets import OOD_TARGET, Targets, to_canonical_bytes


@dataclass(frozen=True)
class RawSplit:
    """Inputs and targets as a source stores them.

    Attributes:
        inputs: (N, C, H, W) uint8, or float32 where they are features of (N, D, 1, 1); in memory, or memory-mapped where
            they would not fit.
        targets: (N,) int64 class indices; in a training part also `OOD_TARGET` and `UNKNOWN`, where there are given labels. Or
            (N, H, W) uint8 masks of class indices and `IGNORED`.
        given: labels that came with the examples, where these are not the targets.
        skipped: where damaged images were left out, as the user chose.
        held_out: (N,) which examples the source itself sets aside for validation.
        names: (N,) of the examples' files without suffix, where they have some.
    """

    inputs: NDArray[Any]
    targets: Targets
    noisy_targets: Targets | None = None
    skipped: tuple[str, ...] = ()
    held_out: NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.int64]:
        """The given labels, else the targets: a class for every example."""
        return self.targets if self.noisy_targets is None else self.noisy_targets


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        inputs: (N, C, H, W) uint8; lazy where a copy would not fit in memory.
        targets: (N,) int64, the best known targets; `OOD_TARGET` and `UNKNOWN` may stand among them, but not in a test split.
            Or (N, H, W) uint8 masks.
        index: (N,) int64, the row of each example in its source; label files refer to it.
        given: like the targets, labels that came with the examples, where these are not the targets.
    """

    inputs: Images
    targets: Targets
    index: NDArray[np.int64]
    noisy_targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def with_ood_images(self, rows: NDArray[np.int64], images: NDArray[Any]) -> Split:
        """The same with images of none of the classes at some positions."""
        inputs = self.inputs
        if isinstance(inputs, MemmapImages):
            inputs = inputs.with_images(rows, images)
        else:
            inputs = inputs.copy()
            inputs[rows] = images
        targets = self.targets.copy()
        targets[rows] = OOD_TARGET
        return replace(self, inputs=inputs, targets=targets)


@dataclass(frozen=True)
class Dataset:
    """Inputs with their best known targets. Test targets are never corrupted."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source_size: int
    """Rows of the source's training part, before splitting; label files without an index have as many."""
    ood_images: Images | None = None
    """Images of held-out classes, which can serve as out-of-distribution images."""
    skipped: tuple[str, ...] = ()
    """Damaged images that the user chose to leave out."""
    shifted: Mapping[str, Split] = field(default_factory=dict)
    """Further test splits of the same classes from other distributions, by name."""
    source_names: tuple[str, ...] = ()
    """Of the source's rows, where they came from files."""
    traces: TraceFormat | None = None
    """How the characters of traces are to be read, where targets are traces; classes are characters then."""

    @property
    def num_classes(self) -> int:
        """Number of classes C; targets are in [0, C)."""
        return len(self.class_names)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over classes, inputs, targets and source rows of all three splits."""
        digest = hashlib.sha256("\x1f".join(self.class_names).encode())
        for split in (self.train, self.validation, self.test, *self.shifted.values()):
            digest.update(repr(split.inputs.shape).encode())
            for start in range(0, len(split), 4096):
                digest.update(split.inputs[start : start + 4096].tobytes())
            for array in (split.targets, split.index, split.noisy_targets):
                if array is not None:
                    digest.update(to_canonical_bytes(array))
        return digest.hexdigest()

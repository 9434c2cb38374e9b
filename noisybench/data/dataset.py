"""Datasets: inputs with their best known targets, in fixed and hashed train, validation and test splits."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.lazy import Images, MemmapImages
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import OOD_TARGET, TargetKind, Targets, target_kind
from noisybench.data.texts import content_bytes, is_text, texts_of
from noisybench.errors import UserError

if TYPE_CHECKING:
    import pandas
    from torch.utils.data import TensorDataset

    from noisybench.data.masks.layout import MaskLayout
    from noisybench.data.masks.masks import MaskReader
    from noisybench.data.traces.formats import TraceFormat

HASH_CHUNK = 4096
"""Number of images that are hashed at a time."""


@dataclass(frozen=True)
class RawSplit:
    """Inputs and targets as a dataset source reads them.

    Attributes:
        inputs: (N, C, H, W) uint8 images, (N, D, 1, 1) float32 features or (N, 1, 1, 1) texts; in memory, or
            memory-mapped if they would not fit.
        targets: (N,) int64 classes, (N, H, W) uint8 masks or (N, T) tokens. Classes may be `OOD_TARGET` or
            `UNKNOWN_TARGET` in a training split that has `noisy_targets`.
        noisy_targets: labels that come with the data, if they differ from the targets.
        skipped_files: files that were excluded because they could not be read.
        validation_mask: (N,) mask of the examples that the source reserves for validation.
        names: file name of each example without suffix, if it comes from a file.
        notes: facts about the reading that a user should know.
        groups: (N,) group of each example as text, such as its patient; examples of a group never cross splits.
        fields: fields of a text example by name that its reader does not use, which exports keep; empty without any.
        mask_layout: source image of each mask and its place there, if masks come from files.
        instances: (N, H, W) uint16 number of the object of each pixel, 0 for none, if masks have instances.
    """

    inputs: NDArray[Any]
    targets: Targets
    noisy_targets: Targets | None = None
    skipped_files: tuple[str, ...] = ()
    validation_mask: NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()
    notes: tuple[ReadingNote, ...] = ()
    groups: NDArray[np.str_] | None = None
    fields: tuple[Mapping[str, Any], ...] = ()
    mask_layout: MaskLayout | None = None
    instances: NDArray[np.uint16] | None = None

    @property
    def labels(self) -> Targets:
        """Noisy labels if there are any, else the targets: a class for every example."""
        return self.targets if self.noisy_targets is None else self.noisy_targets


@dataclass(frozen=True, repr=False)
class Split:
    """One split of a dataset.

    Attributes:
        inputs: (N, C, H, W) uint8 images, on disk if a copy would not fit in memory; or features or texts.
        targets: best known targets: (N,) int64 classes, (N, H, W) uint8 masks or (N, T) tokens. Classes may be
            `OOD_TARGET` or `UNKNOWN_TARGET`, but not in a test split.
        index: (N,) int64 row of each example in its source; label files refer to it.
        noisy_targets: labels that come with the data, if they differ from the targets.
        fields: fields of a text example by name that its reader does not use, which exports keep; empty without any.
        instances: (N, H, W) uint16 number of the object of each pixel, 0 for none, if masks have instances.

    Examples:
        >>> images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
        >>> split = Split(images, targets=np.array([0, 1, 1]), index=np.arange(3))
        >>> split
        3 examples: uint8 inputs (1, 8, 8), classes
        >>> split.with_ood_images(np.array([2]), images[:1]).targets
        array([ 0,  1, -1])
    """

    inputs: Images
    targets: Targets
    index: NDArray[np.int64]
    noisy_targets: Targets | None = None
    fields: tuple[Mapping[str, Any], ...] = ()
    instances: NDArray[np.uint16] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"{len(self)} examples: {_describe_inputs(self.inputs)}, {target_kind(self.targets).name}"

    def to_torch(self) -> TensorDataset:
        """Return the inputs and targets as a data set of torch.

        Raises:
            UserError: the inputs are texts, which are no tensors.
        """
        import torch
        from torch.utils.data import TensorDataset

        if is_text(self.inputs[:1]):
            raise UserError("dataset: texts are no tensors; use to_frame")
        inputs = self.inputs[:]
        # Features of one value for each channel have no height and width outside of the harness.
        if inputs.dtype.kind == "f" and inputs.shape[2:] == (1, 1):
            inputs = inputs[:, :, 0, 0]
        return TensorDataset(torch.from_numpy(inputs.copy()), torch.from_numpy(self.targets.copy()))

    def to_frame(self, class_names: Sequence[str] | None = None) -> pandas.DataFrame:
        """Return the examples as a data frame: features or texts, `target`, and `noisy_target` if there is one.

        Args:
            class_names: names to write in place of class indices.

        Raises:
            UserError: the examples are images with masks, or traces, which do not fit into columns.
        """
        import pandas

        if self.targets.ndim > 1:
            raise UserError("dataset: masks and traces do not fit into a data frame; use inputs and targets")
        inputs = self.inputs[:]
        columns: dict[str, Any] = {"text": texts_of(inputs)} if is_text(inputs) else {}
        if inputs.dtype.kind == "f" and inputs.shape[2:] == (1, 1):
            columns = {f"feature_{number}": inputs[:, number, 0, 0] for number in range(inputs.shape[1])}
        elif not columns:
            # One object for each image, because a frame has one value in each cell.
            columns = {"image": list(inputs)}
        labels = {"target": self.targets, "noisy_target": self.noisy_targets}
        for name, targets in labels.items():
            if targets is not None:
                columns[name] = targets if class_names is None else [_class_name(each, class_names) for each in targets]
        return pandas.DataFrame(columns, index=pandas.Index(self.index, name="index"))

    def with_ood_images(self, rows: NDArray[np.int64], images: NDArray[Any]) -> Split:
        """Return the split with out-of-distribution images in some rows.

        Args:
            rows: (K,) positions in the split.
            images: (K, C, H, W) uint8.
        """
        # Splits are shared between datasets, so neither the images nor the targets may change in place.
        inputs = self.inputs
        if isinstance(inputs, MemmapImages):
            inputs = inputs.with_images(rows, images)
        else:
            inputs = inputs.copy()
            inputs[rows] = images
        targets = self.targets.copy()
        targets[rows] = OOD_TARGET
        return replace(self, inputs=inputs, targets=targets)


@dataclass(frozen=True, repr=False)
class Dataset:
    """Inputs with their best known targets; test targets are never corrupted.

    Examples:
        >>> images = np.zeros((6, 1, 8, 8), dtype=np.uint8)
        >>> def split(*rows: int) -> Split:
        ...     return Split(images[list(rows)], np.array(rows) % 2, np.array(rows))
        >>> dataset = Dataset("toy", split(0, 1), split(2, 3), split(4, 5), ("cat", "dog"), source_size=6)
        >>> dataset.num_classes, dataset.target_kind.name
        (2, 'classes')
        >>> dataset.hash[:8]
        '946e7709'
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source_size: int
    """Number of training examples in the source, before splitting; a label file without an index has as many rows."""
    ood_images: Images | None = None
    """Images of the classes in `ood_classes`, which can serve as out-of-distribution images."""
    skipped_files: tuple[str, ...] = ()
    """Files that were excluded because they could not be read (`on_error=skip`)."""
    notes: tuple[ReadingNote, ...] = ()
    """Facts about the reading that a user should know."""
    shifted_tests: Mapping[str, Split] = field(default_factory=dict)
    """Further test splits of the same classes from other distributions, by name."""
    source_names: tuple[str, ...] = ()
    """File name of each source row without suffix, if examples come from files."""
    test_source_size: int | None = None
    """Number of examples of the source's own test split, whose rows `test.index` counts; None if the test split was drawn."""
    test_names: tuple[str, ...] = ()
    """File name of each row of the source's own test split, if examples come from files."""
    mask_reader: MaskReader | None = None
    """Reading of mask files in the way of the source, for other masks of the same images."""
    has_background: bool = True
    """Whether class 0 of masks is the background; without one, noise, methods and scores treat all classes alike."""
    mask_layout: MaskLayout | None = None
    """Source image of the mask of each source row and its place there, if masks come from files."""
    trace_format: TraceFormat | None = None
    """Format of chain-of-thought traces, if targets are traces; classes are then the characters of its vocabulary."""

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(getattr(self, name)):,} {name}" for name in ("train", "validation", "test"))
        targets = "traces" if self.trace_format is not None else f"{self.num_classes} classes"
        return f"{self.name}: {sizes}; {targets}; {_describe_inputs(self.train.inputs)}"

    @property
    def num_classes(self) -> int:
        """Number of classes C; targets are in [0, C)."""
        return len(self.class_names)

    @functools.cached_property
    def target_kind(self) -> TargetKind:
        """Kind of the targets: classes, masks or tokens."""
        return target_kind(self.train.targets)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over class names, inputs, targets and source rows of all splits, and answers beside traces,
        and instances beside masks."""
        # The separator cannot occur in ordinary names, so ("ab", "c") and ("a", "bc") have different hashes.
        digest = hashlib.sha256("\x1f".join(self.class_names).encode())
        for split in (self.train, self.validation, self.test, *self.shifted_tests.values()):
            # Bytes alone do not show the shape: 8x6 and 6x8 images may have the same ones.
            digest.update(repr(split.inputs.shape).encode())
            # In chunks, so that images on disk are never in memory at once.
            for start in range(0, len(split), HASH_CHUNK):
                digest.update(content_bytes(split.inputs[start : start + HASH_CHUNK]))
            digest.update(self.target_kind.to_canonical_bytes(split.targets))
            digest.update(split.index.astype("<i8").tobytes())
            if split.noisy_targets is not None:
                digest.update(self.target_kind.to_canonical_bytes(split.noisy_targets))
            if split.instances is not None:
                digest.update(split.instances.astype("<u2").tobytes())
        if self.trace_format is not None and self.trace_format.gold_answers:
            digest.update(repr(sorted(self.trace_format.gold_answers.items())).encode())
        return digest.hexdigest()


def _describe_inputs(inputs: Images) -> str:
    """Return the type and the shape of one input."""
    if inputs.dtype.kind == "T":
        return "text inputs"
    return f"{inputs.dtype} inputs {tuple(inputs.shape[1:])}"


def _class_name(target: int, class_names: Sequence[str]) -> str | None:
    return class_names[target] if target >= 0 else None

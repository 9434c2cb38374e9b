"""Base class of datasets of images with segmentation masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks import read_pairs
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.places import read_text


class MaskSource(DatasetSource):
    """Images with masks, from files."""

    tasks = ("segmentation",)

    size: int | None = parameter(
        None,
        ge=8,
        help="Side in pixels to which images are resized and cropped at the center (masks: nearest neighbor)",
        always_in_label=True,
    )
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of images or masks that cannot be used: `raise` an error, or `skip` and record them"
    )

    def read_examples(
        self, files: Sequence[tuple[Path, ...]], num_classes: int, values: Mapping[int, int] | None = None
    ) -> RawSplit:
        """Return the examples of image files with their masks.

        Args:
            files: image, mask and, if there is one, noisy mask of each example.
            num_classes: number of classes.
            values: class of each value in the mask files, for values that are not class indices.

        Raises:
            UserError: there are no files, or some cannot be used.
        """
        if not files:
            raise UserError("dataset: there are no images with masks")
        pairs = read_pairs(files, self.size, self.on_error, values, num_classes)
        names = tuple(files[row][0].stem for row in pairs.kept)
        return RawSplit(pairs.images, pairs.masks, pairs.noisy_masks, pairs.skipped_files, names=names)


def download_with_torchvision(name: str, folder: Path, allowed: bool, download: Callable[[], object]) -> None:
    """Download a dataset.

    Args:
        name: name of the dataset in messages.
        folder: where its files belong.
        allowed: value of the parameter `download`.
        download: calls torchvision.

    Raises:
        UserError: downloads are not allowed, or this one fails.
    """
    if not allowed:
        raise UserError(f"dataset.root: {folder} is missing; put it there, or set dataset.download=true")
    try:
        download()
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"dataset: {name} could not be downloaded ({reason}); download it on another machine and put it at {folder}"
        ) from None


def read_stems(path: Path) -> list[str]:
    """Return the file stems from a list with one image per line; only the first column counts.

    Raises:
        UserError: the list is missing or empty.
    """
    if not path.is_file():
        raise UserError(f"dataset: the list {path} is missing")
    stems = [Path(line.split()[0]).stem for line in read_text(path, "dataset").splitlines() if line.strip()]
    if not stems:
        raise UserError(f"dataset: the list {path} is empty")
    return stems


def append_validation(train: RawSplit, validation: RawSplit | None) -> RawSplit:
    """Return the training examples followed by the source's own validation examples.

    If names occur in both, those of validation examples get the prefix `val/`.

    Raises:
        UserError: only one of both has noisy masks.
    """
    if validation is None:
        return train
    if (train.noisy_targets is None) != (validation.noisy_targets is None):
        raise UserError("dataset: only one of the training and validation splits has noisy masks; add the others")
    sizes = (len(train.targets), len(validation.targets))
    # Names identify examples, for instance as names of files, so they must not occur twice.
    has_duplicates = bool(set(train.names) & set(validation.names))
    names = tuple(f"val/{name}" for name in validation.names) if has_duplicates else validation.names
    noisy_targets = (
        None
        if train.noisy_targets is None or validation.noisy_targets is None
        else np.concatenate([train.noisy_targets, validation.noisy_targets])
    )
    return RawSplit(
        np.concatenate([train.inputs, validation.inputs]),
        np.concatenate([train.targets, validation.targets]),
        noisy_targets,
        train.skipped_files + validation.skipped_files,
        np.repeat([False, True], sizes),
        train.names + names,
    )

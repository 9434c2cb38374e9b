"""What sets of images with masks have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks import read_pairs
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError


class MaskSource(DatasetSource):
    """Images with masks, from files."""

    tasks = ("segmentation",)

    size: int | None = parameter(
        None,
        ge=8,
        help="resize and crop at the centre to size x size pixels; masks by nearest pixels",
        always_in_label=True,
    )
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of damaged or missing images: `raise` an error, or `skip` and record them"
    )

    def decoded(
        self, files: Sequence[tuple[Path, ...]], classes: int, values: Mapping[int, int] | None = None
    ) -> RawSplit:
        """Examples of image files with their masks, and with noisy ones where three files are given.

        Raises:
            UserError: there are none, or some cannot be used.
        """
        if not files:
            raise UserError("dataset: there is no image with a mask")
        pairs = read_pairs(files, self.size, self.on_error, values, classes)
        names = tuple(files[row][0].stem for row in pairs.kept)
        return RawSplit(pairs.images, pairs.masks, pairs.noisy_masks, pairs.skipped_files, names=names)


def read_stems(path: Path) -> list[str]:
    """Stems from a list with a line for each image; of several columns and paths, the first one's stem.

    Raises:
        UserError: the file is missing or empty.
    """
    if not path.is_file():
        raise UserError(f"dataset: the list {path} is missing")
    stems = [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]
    if not stems:
        raise UserError(f"dataset: the list {path} is empty")
    return stems


def joined(first: RawSplit, second: RawSplit | None) -> RawSplit:
    """A training part with the source's own validation part after it; names that both have get `val/` there."""
    if second is None:
        return first
    if (first.noisy_targets is None) != (second.noisy_targets is None):
        raise UserError("dataset: noisy masks are there for one of training and validation part only; add the others")
    held_out = np.concatenate([np.zeros(len(first.targets), dtype=bool), np.ones(len(second.targets), dtype=bool)])
    clash = set(first.names) & set(second.names)
    names = tuple(f"val/{each}" for each in second.names) if clash else second.names
    given = (
        None
        if first.noisy_targets is None or second.noisy_targets is None
        else np.concatenate([first.noisy_targets, second.noisy_targets])
    )
    return RawSplit(
        np.concatenate([first.inputs, second.inputs]),
        np.concatenate([first.targets, second.targets]),
        given,
        first.skipped_files + second.skipped_files,
        held_out,
        first.names + names,
    )

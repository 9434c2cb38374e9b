"""What data sets of crawled images have in common: a folder, lists of files with labels, and damaged images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import read_files
from noisybench.data.source import DatasetSource
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class WebImages(DatasetSource):
    """A folder of crawled images whose labels are noisy as they come."""

    root: Path | None = parameter(None, help="the folder")
    size: int = parameter(224, ge=4, help="resize and crop at the centre to size x size pixels")
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of damaged or missing images: `raise` an error, or `skip` and record them"
    )

    @property
    def folder(self) -> Path:
        """The folder.

        Raises:
            UserError: it is not given, or not there.
        """
        if self.root is None:
            raise UserError("dataset.root: give the folder that holds the images, e.g. dataset.root=data/web")
        root = self.root.expanduser()
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: there is no such folder")
        return root

    def decoded(self, files: Sequence[Path], targets: Sequence[int], given: Sequence[int] | None = None) -> RawSplit:
        """Examples of image files; what is skipped loses its labels as well.

        Args:
            files: the images.
            targets: best known classes, `OOD_TARGET` or `UNKNOWN_TARGET` where there is none.
            given: labels as they came, for a training part.
        """
        images = read_files(files, self.size, self.on_error)
        kept = images.kept
        labels = None if given is None else np.array(given, dtype=np.int64)[kept]
        return RawSplit(images.images, np.array(targets, dtype=np.int64)[kept], labels, images.skipped_files)

    def noisy(self, files: Sequence[Path], given: Sequence[int]) -> RawSplit:
        """A training part of which nobody knows the classes."""
        return self.decoded(files, [UNKNOWN_TARGET] * len(files), given)


def read_list(path: Path, separator: str | None = None) -> list[tuple[str, int]]:
    """Lines of a file name and a class number.

    Args:
        path: the list.
        separator: between both, by default blanks; names may contain it.

    Raises:
        UserError: the list is missing or empty, or a line is not of that form.
    """
    if not path.is_file():
        raise UserError(f"dataset.root: the list {path} is missing; it comes with the data set, fetch it as well")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.rstrip().rpartition(separator or " ")
        if not line.strip():
            continue
        if not name.strip() or not label.strip().isdigit():
            raise UserError(f"{path}, line {number}: expected a file name and a class number, but got {line[:80]!r}")
        rows.append((name.strip(), int(label)))
    if not rows:
        raise UserError(f"dataset.root: the list {path} is empty; fetch it again")
    return rows


def write_images(folder: Path, names: Sequence[str], size: int = 8) -> None:
    """Write small random JPEG images, for the examples of the contract test."""
    from PIL import Image

    for name in names:
        pixels = (Stream("web example", name).uniform(size, size, 3) * 256).astype(np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, format="jpeg")


def write_list(path: Path, rows: Sequence[tuple[str, Any]], separator: str = " ") -> None:
    """Write lines of a file name and a class number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}{separator}{label}\n" for name, label in rows))

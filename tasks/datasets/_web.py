"""Base class of crawled datasets: a folder, lists of files with labels, and possibly damaged images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import read_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.examples import class_images
from noisybench.data.images.unread_files import data_files_below, unread_files
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.tasks.datasets._images import ImageSource
from noisybench.utils.places import expand_user, read_text
from noisybench.utils.seeds import Stream

LabeledFile = tuple[Path, int]
"""Image file and class index."""


class WebImages(ImageSource):
    """A folder of crawled images with real-world label noise."""

    root: Path | None = parameter(None, help="Folder with the images")
    size: int = parameter(224, ge=4, help="Side in pixels to which images are resized and cropped at the center")

    @property
    def folder(self) -> Path:
        """Folder with the images.

        Raises:
            UserError: it is not set, or does not exist.
        """
        if self.root is None:
            raise UserError("dataset.root: set the folder that contains the images, e.g. dataset.root=data/web")
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        return root

    def read_examples(
        self, files: Sequence[Path], targets: Sequence[int], noisy_labels: Sequence[int] | None = None
    ) -> RawSplit:
        """Return the examples of image files; skipped images lose their labels as well.

        Args:
            files: the images.
            targets: best known classes, `OOD_TARGET` or `UNKNOWN_TARGET`.
            noisy_labels: labels that come with the images, for a training split.
        """
        decoded = read_files(files, self.size, self.on_error, self.decoding_rules)
        kept = decoded.kept
        noisy_targets = None if noisy_labels is None else np.array(noisy_labels, dtype=np.int64)[kept]
        return RawSplit(
            decoded.images,
            np.array(targets, dtype=np.int64)[kept],
            noisy_targets,
            decoded.skipped_files,
            notes=decoded.notes,
        )

    def unread_notes(self, *folders: Path) -> tuple[ReadingNote, ...]:
        """Return the note about files below folders that look like data and are no images."""
        files = [file for folder in folders for file in data_files_below(folder)]
        return unread_files((file for file in files if not file.name.lower().endswith(IMAGE_SUFFIXES)), self.folder)

    def read_clean(self, rows: Sequence[LabeledFile]) -> RawSplit:
        """Return a split whose labels are correct."""
        return self.read_examples([file for file, _ in rows], [label for _, label in rows])

    def read_noisy(self, rows: Sequence[LabeledFile], notes: tuple[ReadingNote, ...] = ()) -> RawSplit:
        """Return a training split with noisy labels and unknown classes, and with further notes."""
        labels = [label for _, label in rows]
        split = self.read_examples([file for file, _ in rows], [UNKNOWN_TARGET] * len(rows), labels)
        return replace(split, notes=notes + split.notes)


def read_list(path: Path, separator: str | None = None) -> list[tuple[str, int]]:
    """Read lines of a file name and a class index.

    Args:
        path: the list.
        separator: text between both, a space by default; names may contain it.

    Raises:
        UserError: the list is missing or empty, or a line has another format.
    """
    if not path.is_file():
        raise UserError(f"dataset.root: the list {path} is missing; it is part of the dataset, download it as well")
    rows = []
    for number, line in enumerate(read_text(path, "dataset.root").splitlines(), 1):
        name, _, label = line.rstrip().rpartition(separator or " ")
        if not line.strip():
            continue
        if not name.strip() or not (label.strip().isdecimal() and len(label.strip()) < 10):
            raise UserError(f"{path}, line {number}: expected a file name and a class index, but got {line[:80]!r}")
        rows.append((name.strip(), int(label)))
    if not rows:
        raise UserError(f"dataset.root: the list {path} is empty; download it again")
    return rows


def relative_names(files: Sequence[LabeledFile], folder: Path) -> tuple[str, ...]:
    """Return the paths of files relative to the folder that contains them."""
    # By length, because `relative_to` would take seconds for a million files.
    start = len(str(folder)) + 1
    return tuple(str(file)[start:] for file, _ in files)


def write_images(folder: Path, labels: Sequence[tuple[str, int]], num_classes: int, size: int = 8) -> None:
    """Write small JPEG images for contract tests, brighter for higher labels."""
    from PIL import Image

    for name, label in labels:
        pixels = class_images(Stream("web example", name), np.array([label]), num_classes, (size, size, 3))[0]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, format="jpeg")


def write_list(path: Path, rows: Sequence[tuple[str, Any]], separator: str = " ") -> None:
    """Write lines of a file name and a class index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}{separator}{label}\n" for name, label in rows))

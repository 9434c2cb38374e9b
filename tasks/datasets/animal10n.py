"""ANIMAL-10N: five pairs of similar animals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import LabeledFile, WebImages, write_images
from noisybench.utils.file_listing import FileTree, Source

CLASSES = (
    "cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig",
)  # fmt: skip


class Animal10N(WebImages):
    """ANIMAL-10N: 50,000 crawled images of ten confusable animals, about 8 % of them mislabeled (Song et al. 2019).

    Reads the raw images: `training/` and `testing/` with files named `LABEL_NUMBER.jpg`, at the root or in `raw_image/`.
    The incorrect training labels are unknown; use it with noise=real_world.
    """

    license = License(
        "not stated",
        "https://dm.kaist.ac.kr/datasets/animal-10n/",
        "registration",
        "the authors send a link on request",
    )
    size: int = parameter(64, ge=4, help="Side in pixels to which images are resized and cropped at the center")

    def data_files(self) -> Mapping[str, Source]:
        """Return the images of both splits."""
        if self.root is None:
            return {}
        return {part: FileTree(self._part_folder(part), IMAGE_SUFFIXES) for part in ("training", "testing")}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the labels from the file names, and decode every image once."""
        parts = ("training", "testing")
        train, test = (self._labeled_files(part) for part in parts)
        notes = self.unread_notes(*map(self._part_folder, parts))
        return self.read_noisy(train, notes), self.read_clean(test), CLASSES

    def _part_folder(self, part: str) -> Path:
        candidates = [self.folder / part, self.folder / "raw_image" / part]
        folder = next((candidate for candidate in candidates if candidate.is_dir()), None)
        if folder is None:
            raise UserError(
                f"dataset.root: {self.folder} has no folder {part}/; expected the unpacked raw images of ANIMAL-10N"
            )
        return folder

    def _labeled_files(self, part: str) -> list[LabeledFile]:
        folder, rows = self._part_folder(part), []
        for file in image_files(folder):
            label = re.match(r"(\d+)_", file.name)
            if label is None or int(label[1]) >= len(CLASSES):
                raise UserError(f"{file}: expected a name such as 3_01234.jpg, with a label from 0 to 9")
            rows.append((file, int(label[1])))
        if not rows:
            raise UserError(f"dataset.root: {folder} contains no images")
        return rows

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write six training images and two test images of each animal."""
        write_images(folder / "training", [(f"{row % 10}_{row:05}.jpg", row % 10) for row in range(60)], 10)
        write_images(folder / "testing", [(f"{row % 10}_{row:05}.jpg", row % 10) for row in range(20)], 10)
        return {"root": str(folder), "size": 8}

"""Five pairs of animals that look alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import image_files
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, write_images

ANIMALS = (
    "cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig",
)  # fmt: skip


class Animal10N(WebImages):
    """ANIMAL-10N: 50,000 crawled images of ten confusable animals, about 8 % of them wrongly labelled (Song et al. 2019).

    Reads the raw images: `training/` and `testing/` with files named `LABEL_NUMBER.jpg`, at the root or in `raw_image/`.
    Nobody knows which training labels are wrong; use it with noise=real_world.
    """

    size: int = parameter(64, ge=4, help="resize and crop at the centre to size x size pixels")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read labels off the files' names and decode every image once."""
        train, test = (self._split(part) for part in ("training", "testing"))
        return (
            self.noisy([file for file, _ in train], [label for _, label in train]),
            self.decoded([file for file, _ in test], [label for _, label in test]),
            ANIMALS,
        )

    def _split(self, part: str) -> list[tuple[Path, int]]:
        folders = [self.folder / part, self.folder / "raw_image" / part]
        folder = next((each for each in folders if each.is_dir()), None)
        if folder is None:
            raise UserError(
                f"dataset.root: {self.folder} has no folder {part}/; give the unpacked raw images of ANIMAL-10N"
            )
        rows = []
        for file in image_files(folder):
            label = re.match(r"(\d+)_", file.name)
            if label is None or int(label[1]) >= len(ANIMALS):
                raise UserError(f"{file}: expected a name such as 3_01234.jpg, with a label from 0 to 9")
            rows.append((file, int(label[1])))
        if not rows:
            raise UserError(f"dataset.root: {folder} holds no image")
        return rows

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Six images of each animal to train on and two to test."""
        write_images(folder / "training", [f"{row % 10}_{row:05}.jpg" for row in range(60)])
        write_images(folder / "testing", [f"{row % 10}_{row:05}.jpg" for row in range(20)])
        return {"root": str(folder), "size": 8}

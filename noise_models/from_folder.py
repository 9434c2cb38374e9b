"""Masks that the user brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.masks import read_mask
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class FromFolder(NoiseModel):
    """Observed masks from a folder of PNG files, named as the images: pseudo-labels, or those of other annotators.

    Pixels of 255 have no label. A mask of another size than the dataset's is brought to it as the dataset's own were.
    """

    stream_name = "FromFolder"
    tasks = ("segmentation",)
    convention = "masks as given; the realised rate is measured against the dataset's own"
    requires_clean_labels = False

    path: Path | None = parameter(None, help="folder with a mask for each training image, STEM.png")

    example_classes = ("background", "disc", "square", "ring")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Masks that lack their first row."""
        from PIL import Image

        place = folder / "masks"
        place.mkdir(exist_ok=True)
        for split in (dataset.train, dataset.validation):
            for row, mask in zip(split.index, split.targets, strict=True):
                changed = mask.copy()
                changed[0][changed[0] != IGNORED] = 0
                Image.fromarray(changed).save(place / f"{dataset.source_names[row]}.png")
        return {"path": str(place)}

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """The given masks of this split."""
        if self.path is None or not self.path.expanduser().is_dir():
            raise UserError(f"noise.path: give a folder of masks, e.g. noise.path=pseudo-labels, but got {self.path}")
        if not dataset.source_names:
            raise UserError(f"noise: the images of {dataset.name} have no names that masks could be found by")
        folder, problems = self.path.expanduser(), []
        found = np.full_like(split.targets, IGNORED)
        for row, source in enumerate(split.index):
            file = folder / f"{dataset.source_names[source]}.png"
            try:
                found[row] = read_mask(file, split.targets.shape[1:])
            except UserError as error:
                problems += error.problems
            wrong = found[row][(found[row] != IGNORED) & (found[row] >= dataset.num_classes)]
            if len(wrong):
                problems.append(f"{file}: holds the value {wrong[0]}, but there are {dataset.num_classes} classes")
        if problems:
            more = [f"… and {len(problems) - 10} more"] if len(problems) > 10 else []
            raise UserError(*(f"noise.path: {each}" for each in problems[:10]), *more)
        return found

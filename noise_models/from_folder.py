"""Noisy masks provided by the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.images.cache import problem_list
from noisybench.data.masks.masks import MaskReader
from noisybench.data.masks.meaning import check_objects
from noisybench.data.masks.pairs import match_masks
from noisybench.data.masks.values import MASK_SUFFIXES
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source, list_files
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

MAX_LISTED = 10
"""Largest number of problems that an error message lists."""


class FromFolder(NoiseModel):
    """Read observed masks from a folder of files with the names of the images, such as pseudo-labels.

    Values or colors, names and sizes are read as those of the dataset's own masks. Without declared values, pixels of value
    255 have no label. A mask has the size of its image, and takes the same geometric path as the dataset's own masks; or it
    has the size of the examples already (`dataset.size`), unless images are cut into tiles.
    """

    stream_name = "FromFolder"
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="masks are read by name and compared with their files; a missing mask, a value beyond the classes and a "
        "size that differs are covered by tests",
    )
    tasks = ("segmentation",)
    convention = "masks provided by the user; the actual noise rate is measured against the dataset's own masks"
    requires_clean_labels = False

    path: Path | None = parameter(None, help="Folder with a mask NAME.png for each training and validation image")

    example_classes = ("background", "disc", "square", "ring")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write masks without their first row of objects."""
        from PIL import Image

        masks = folder / "masks"
        masks.mkdir(exist_ok=True)
        for split in (dataset.train, dataset.validation):
            for row, mask in zip(split.index, split.targets, strict=True):
                changed = mask.copy()
                changed[0][changed[0] != IGNORED] = 0
                file = masks / f"{dataset.source_names[row]}.png"
                file.parent.mkdir(exist_ok=True)
                Image.fromarray(changed).save(file)
        return {"path": str(masks)}

    def data_files(self) -> Mapping[str, Source]:
        """Return the masks."""
        return {} if self.path is None else {"path": FileTree(self.path, MASK_SUFFIXES)}

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return the masks of the split from the folder."""
        if self.path is None or not expand_user(self.path).is_dir():
            raise UserError(
                f"noise.path: must be a folder of masks, e.g. noise.path=pseudo-labels, but got {self.path}"
            )
        if not dataset.source_names:
            raise UserError(
                f"noise: masks are found by the names of images, but the images of {dataset.name} have none"
            )
        folder = expand_user(self.path)
        reader = dataset.mask_reader or MaskReader()
        files = list_files(folder, MASK_SUFFIXES)
        has_suffix = any(file.stem.endswith(reader.suffix) for file in files)
        suffix = reader.suffix if has_suffix else ""
        # Among the names of all images, so that an image never takes the mask of another one in a different folder.
        layout = dataset.mask_layout
        names = dataset.source_names if layout is None else layout.names
        distinct = list(dict.fromkeys(names))
        masks = dict(zip(distinct, match_masks(distinct, folder, suffix, "noise.path").files, strict=True))
        problems: list[str] = []
        # Masks that cannot be read stay unlabeled and pass the check of classes, so that each file is listed once.
        observed = np.full_like(split.targets, IGNORED)
        for row, source_row in enumerate(split.index):
            name = names[source_row]
            file = masks[name] or folder / f"{name}{suffix}.png"
            try:
                placement = None if layout is None else layout.placements[source_row]
                observed[row] = reader.read(file, split.targets.shape[1:], placement)
            except UserError as error:
                problems += error.problems
            invalid = observed[row][(observed[row] != IGNORED) & (observed[row] >= dataset.num_classes)]
            if len(invalid):
                problems.append(f"{file}: contains the value {invalid[0]}, but there are {dataset.num_classes} classes")
        if problems:
            raise problem_list([f"noise.path: {problem}" for problem in problems], MAX_LISTED)
        check_objects(observed, split.targets, f"noise.path: {folder}")
        return observed

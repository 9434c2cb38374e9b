"""Parquet files of images in the Hugging Face schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.arrays import class_labels
from noisybench.data.dataset import RawSplit
from noisybench.data.images import read_parquet
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream


class Parquet(DatasetSource):
    """Images in parquet files: a column `img` or `image` of structs {bytes, path} and an integer column `label`.

    Row groups are read one at a time and images are decoded once, so little memory is needed. Class names come from
    `class_names`, from the metadata of the file, or are the label numbers.
    """

    own_files = True
    train: Path | None = parameter(None, help="File with the training images")
    test: Path | None = parameter(None, help="File with the test images (default: held out by `test_fraction`)")
    label: str = parameter("label", help="Name of the label column", access="value")
    class_names: list[str] | None = parameter(
        None, help="Names of the classes in the order of their indices", access="value"
    )
    size: int | None = parameter(
        None, ge=4, help="Side in pixels to which images are resized and cropped at the center"
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded images."""
        if self.train is None:
            raise UserError(
                "dataset.train: set the parquet file with the training images, e.g. dataset.train=train.parquet"
            )
        train, metadata_names = self._read_split(expand_user(self.train), "dataset.train")
        test = self._read_split(expand_user(self.test), "dataset.test")[0] if self.test else None
        names = (
            self.class_names or metadata_names or [str(index) for index in range(int(train.targets.max(initial=0)) + 1)]
        )
        return train, test, tuple(names)

    def _read_split(self, path: Path, location: str) -> tuple[RawSplit, list[str] | None]:
        decoded, table = read_parquet(path, location, self.size, self.label)
        targets = class_labels(table[self.label].to_numpy(), f"{location}: the column `{self.label}` of {path}")
        return RawSplit(decoded.images, targets), _class_names(table.schema.metadata, self.label)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write small PNG images of four classes to both files."""
        import io

        import pyarrow
        import pyarrow.parquet
        from PIL import Image

        for split, count in (("train", 80), ("test", 24)):
            rows = []
            for number in range(count):
                data = io.BytesIO()
                pixels = (Stream("parquet example", split, number).uniform(8, 8, 3) * 256).astype(np.uint8)
                Image.fromarray(pixels).save(data, format="png")
                rows.append({"bytes": data.getvalue(), "path": f"{number}.png"})
            table = pyarrow.table({"img": rows, "label": [number % 4 for number in range(count)]})
            pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
        return {"train": str(folder / "train.parquet"), "test": str(folder / "test.parquet")}


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """Return the class names that the Hugging Face datasets library stores in the schema metadata, if any."""
    try:
        # Files of other writers lack this entry or fill it differently, and the names are optional.
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None

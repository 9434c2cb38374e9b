"""Parquet files of images with the usual hub schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import read_parquet
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class Parquet(DatasetSource):
    """Images in parquet: a column `img` or `image` of structs {bytes, path} and an integer column `label`.

    Row groups are read one after the other and images decoded once, so memory stays small. Class names come from
    the file's own metadata, from `class_names`, or are the label numbers.
    """

    train: Path | None = parameter(None, help="the file with the training images")
    test: Path | None = parameter(None, help="the file with the test images; held out by test_fraction where not given")
    label: str = parameter("label", help="name of the label column")
    class_names: list[str] | None = parameter(None, help="names of the classes in the order of their numbers")
    size: int | None = parameter(None, ge=4, help="resize and crop at the centre to size x size pixels")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded ones."""
        if self.train is None:
            raise UserError(
                "dataset.train: give the parquet file with the training images, e.g. dataset.train=train.parquet"
            )
        train, stated = self._split(self.train.expanduser(), "dataset.train")
        test = self._split(self.test.expanduser(), "dataset.test")[0] if self.test else None
        names = self.class_names or stated or [str(number) for number in range(int(train.targets.max()) + 1)]
        return train, test, tuple(names)

    def _split(self, path: Path, place: str) -> tuple[RawSplit, list[str] | None]:
        decoded, table = read_parquet(path, place, self.size, self.label)
        try:
            targets = table[self.label].to_numpy().astype(np.int64)
        except (ValueError, TypeError):
            raise UserError(f"{place}: the column `{self.label}` of {path} must hold whole numbers") from None
        return RawSplit(decoded.images, targets), _class_names(table.schema.metadata, self.label)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Small PNG images of four classes in both files."""
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
    """Class names as the datasets library of the usual hub stores them in a schema's metadata."""
    try:
        return list(json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None

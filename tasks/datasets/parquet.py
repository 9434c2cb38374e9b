"""Parquet files of images, such as those of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.label_columns import LabelColumn
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.parquet_columns import class_names_of, label_column
from noisybench.data.parquet_files import find_parquet, missing_shards, split_folder
from noisybench.data.parquet_images import ParquetImages, join_parquet_images, open_parquet_images
from noisybench.data.split_names import ROLES, Role
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._images import ImageSource
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user, shown
from noisybench.utils.seeds import Stream

Files = dict[Role, tuple[Path, ...]]
"""Files of each split."""


class Parquet(LabeledSource, ImageSource):
    """Images in parquet files: a column of structs {bytes, path}, of binary values, or of paths, and a column of labels.

    `root` is a folder with files of several splits, such as a dataset of the Hugging Face Hub; `train`, `validation` and
    `test` are each a file, a list, a pattern, or a folder of shards. Columns are found by their types, or named. Row groups
    are read one at a time and images are decoded once, so little memory is needed.
    """

    own_files = True
    root: Path | None = parameter(None, help="Folder with the files of all splits")
    train: Path | list[Path] | None = parameter(
        None, help="File with the training images, a list or a pattern of files, or a folder of shards"
    )
    validation: Path | list[Path] | None = parameter(
        None, help="Files with the validation images (default: held out by `validation_fraction`)"
    )
    test: Path | list[Path] | None = parameter(
        None, help="Files with the test images (default: held out by `test_fraction`)"
    )
    image: str | None = parameter(
        None, help="Name of the column with the images (default: found by its type)", access="value"
    )
    label: str | None = parameter(
        None, help="Name of the column with the labels (default: `label`, or the only one that can be)", access="value"
    )
    group: str | None = parameter(
        None, help="Name of a column, such as the patient, whose examples stay in one split", access="value"
    )
    size: int | None = parameter(
        None, ge=4, help="Side in pixels to which images are resized and cropped at the center"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the parquet files of all splits, and the image files to which they refer."""
        files, _ = self._files()
        named: dict[str, Source] = {}
        for role, paths in files.items():
            missing = [path for path in paths if not path.is_file()]
            referenced = () if missing else self._open(role, paths).referenced_files()
            named |= {role if len(paths) == 1 else f"{role}.{number}": path for number, path in enumerate(paths)}
            named |= {f"{role}.images.{number}": path for number, path in enumerate(referenced)}
        return named

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded images."""
        files, notes = self._files()
        if not files:
            raise UserError(
                "dataset.train: set the parquet files with the training images, e.g. dataset.train=train.parquet, or "
                "dataset.root to a folder with the files of all splits"
            )
        if "train" not in files:
            raise UserError(
                f"dataset.train: set the training images as well; there are only those for {', '.join(files)}"
            )
        if "test" not in files and "validation" in files:
            files["test"] = files.pop("validation")
            text = "The validation split is the test split, because there is no other"
            notes += (ReadingNote("validation_as_test", text, len(files["test"])),)
        opened = {role: self._open(role, files[role]) for role in ROLES if role in files}
        tables = {role: self._read_table(images) for role, images in opened.items()}
        labels = self.match_labels({role: column for role, (column, _) in tables.items()})
        groups = {role: rows for role, (_, rows) in tables.items()}
        train = self._split([role for role in opened if role != "test"], opened, labels.targets, groups)
        test = self._split(["test"], opened, labels.targets, groups) if "test" in opened else None
        return replace(train, notes=notes + labels.notes + train.notes), test, labels.class_names

    def _files(self) -> tuple[Files, tuple[ReadingNote, ...]]:
        """Return the files of each split; none if nothing is given."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        if self.root is not None:
            both = [name for name, value in given.items() if value]
            if both:
                raise UserError(f"dataset: root and {both[0]} are given; set either root, or the files of each split")
            folder = split_folder(expand_user(self.root), "dataset.root")
            others = [shown(file.relative_to(expand_user(self.root))) for file in folder.others]
            notes = reading_note("unread_files", "Files whose names stand for no split were not read", others)
            return dict(folder.splits), notes
        files = {role: find_parquet(value, f"dataset.{role}", role) for role in ROLES if (value := given[role])}
        # Folders and patterns are complete; listed files may be a part on purpose.
        missing = [name for role, paths in files.items() for name in missing_shards(paths, f"dataset.{role}")]
        return files, reading_note("missing_shards", "Only some of the shards of a set are listed; others are", missing)

    def _open(self, role: Role, files: tuple[Path, ...]) -> ParquetImages:
        location = "dataset.root" if self.root is not None else f"dataset.{role}"
        return open_parquet_images(files, location, self.image)

    def _read_table(self, images: ParquetImages) -> tuple[LabelColumn, NDArray[np.str_] | None]:
        """Return the labels and the groups of one split."""
        where = f"{images.location}: {shown(images.files[0])}"
        if self.group is not None and self.group not in images.schema.names:
            raise UserError(f"{where} has no column `{self.group}`; {nearest(self.group, images.schema.names)}")
        others = [images.image] if self.group is None else [images.image, self.group]
        name = label_column(images.schema, where, self.label, others)
        table = images.read_columns([name] if self.group in (None, name) else [name, self.group])
        location = f"{images.location}: the column `{name}` of {shown(images.files[0])}"
        column = self.label_column(table[name], location, class_names_of(images.schema, name))
        return column, None if self.group is None else _groups(table[self.group], f"{where}: the column `{self.group}`")

    def _split(
        self,
        roles: Sequence[Role],
        opened: Mapping[Role, ParquetImages],
        targets: Mapping[str, NDArray[np.int64]],
        groups: Mapping[Role, NDArray[np.str_] | None],
    ) -> RawSplit:
        """Decode the images of the examples with a label; those of the validation split are marked."""
        # Decoded together, so that they are one array on disk.
        images = join_parquet_images([opened[role] for role in roles])
        classes = np.concatenate([targets[role] for role in roles])
        labeled = np.flatnonzero(classes >= 0)
        decoded = images.decode(self.size, self.on_error, labeled, self.decoding_rules)
        rows = labeled[decoded.kept]
        names = images.names()
        members = [values for role in roles if (values := groups[role]) is not None]
        return RawSplit(
            decoded.images,
            classes[rows],
            skipped_files=decoded.skipped_files,
            notes=decoded.notes,
            names=tuple(names[row] for row in rows) if names else (),
            groups=np.concatenate(members)[rows] if members else None,
            validation_mask=rows >= len(opened["train"]) if "validation" in roles else None,
        )

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


def _groups(column: Any, location: str) -> NDArray[np.str_]:
    """Return the group of each row as text."""
    if column.null_count:
        raise UserError(f"{location} has {column.null_count} rows without a group; give every example one")
    return np.array([str(value) for value in column.to_pylist()])

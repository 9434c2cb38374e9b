"""Parquet files of images, such as those of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import class_images
from noisybench.data.labels.columns import LabelColumn
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.parquet.columns import SPLIT_COLUMNS, class_names_of, label_column, split_rows
from noisybench.data.parquet.files import find_parquet, missing_shards, split_folder
from noisybench.data.parquet.images import ParquetImages, join_parquet_images, open_parquet_images
from noisybench.data.splits.names import ROLES, Role
from noisybench.errors import UserError, nearest
from noisybench.tasks.datasets._images import ImageSource
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user, shown
from noisybench.utils.seeds import Stream
from noisybench.utils.text import printable

Files = dict[Role, tuple[Path, ...]]
"""Files of each split."""


@dataclass(frozen=True)
class _Part:
    """Examples of one split: rows of files, with their labels and groups."""

    images: ParquetImages
    rows: NDArray[np.int64]
    label: str
    labels: LabelColumn
    groups: NDArray[np.str_] | None


class Parquet(LabeledSource, ImageSource):
    """Images in parquet files: a column of structs {bytes, path}, of binary values, or of paths, and a column of labels.

    `root` is a folder with files of several splits, such as a dataset of the Hugging Face Hub; `train`, `validation` and
    `test` are each a file, a list, a pattern, or a folder of shards. Columns are found by their types, or named. Row groups
    are read one at a time and images are decoded once, so little memory is needed.
    """

    license = License("not applicable", access="own files")
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
    split: str | None = parameter(
        None,
        help="Name of the column with the split of each row, if files do not (default: `split`, if there is one)",
        access="value",
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
            referenced = () if missing else self._open(role, paths).references()
            named |= {role if len(paths) == 1 else f"{role}.{number}": path for number, path in enumerate(paths)}
            named |= {f"{role}.images.{number}": files for number, files in enumerate(referenced)}
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
        parts: dict[Role, _Part] = {}
        label = self.label
        for role, paths in files.items():
            parts |= self._parts(role, paths, label, divide=len(files) == 1)
            # A test file without labels must not offer another of its columns.
            label = parts["train"].label
        if "test" not in parts and "validation" in parts:
            parts["test"] = parts.pop("validation")
            text = "The validation split is the test split, because there is no other"
            notes += (ReadingNote("validation_as_test", text, len(parts["test"].rows)),)
        labels = self.match_labels({role: parts[role].labels for role in ROLES if role in parts})
        train = self._split([role for role in ("train", "validation") if role in parts], parts, labels.targets)
        test = self._split(["test"], parts, labels.targets) if "test" in parts else None
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

    def _parts(self, role: Role, files: tuple[Path, ...], label: str | None, divide: bool) -> dict[Role, _Part]:
        """Return the examples of some files by split: those of a column of splits, if the files have no splits."""
        images = self._open(role, files)
        where, columns = f"{images.location}: {shown(images.files[0])}", images.schema.names
        for column in (self.group, self.split):
            if column is not None and column not in columns:
                raise UserError(f"{where} has no column `{column}`; {nearest(column, columns)}")
        splits: dict[Role, NDArray[np.int64]] = {role: np.arange(len(images))}
        split_column = self.split or next((name for name in SPLIT_COLUMNS if name in columns), None)
        used = [] if split_column is None else [split_column]
        if split_column is not None and (divide or self.split is None):
            values = images.read_columns([split_column])[split_column]
            found = split_rows(values, f"{where}: the column `{split_column}`", required=self.split is not None)
            used = used if found else []
            splits = found if found and divide and len(found) > 1 else splits
        if role == "test" and label is not None and label not in columns:
            raise self._without_labels(f"{where} has no column `{label}`")
        label = label_column(images.schema, where, label, [images.image, *used, *filter(None, [self.group])])
        table = images.read_columns(list(dict.fromkeys([label, *filter(None, [self.group])])))
        unread = [name for name in columns if name not in (images.image, label, self.group, *used) and name[:2] != "__"]
        groups = None if self.group is None else _groups(table[self.group], f"{where}: the column `{self.group}`")
        location = f"{images.location}: the column `{label}` of {shown(images.files[0])}"
        if role == "test" and _has_no_label(table[label]):
            raise self._without_labels(f"{location} has no label in any of its {len(images)} rows")
        labels = self.label_column(table[label], location, class_names_of(images.schema, label))
        text = f"Columns of {shown(images.files[0])} were not read"
        labels = replace(labels, notes=(*labels.notes, *reading_note("unread_columns", text, map(printable, unread))))
        parts: dict[Role, _Part] = {}
        for name, rows in splits.items():
            part = replace(labels, codes=labels.codes[rows], notes=() if parts else labels.notes)
            parts[name] = _Part(images, rows, label, part, None if groups is None else groups[rows])
        return parts

    def _without_labels(self, problem: str) -> UserError:
        """Return an error about a test split whose labels are not published, as on the Hugging Face Hub."""
        cure = (
            "leave dataset.test out"
            if self.root is None
            else f"set dataset.train={shown(self.root)} instead of dataset.root"
        )
        return UserError(
            f"{problem}, so nothing can be tested; {cure} to draw the test split from the training examples"
        )

    def _split(
        self, roles: Sequence[Role], parts: Mapping[Role, _Part], targets: Mapping[str, NDArray[np.int64]]
    ) -> RawSplit:
        """Decode the images of the examples with a label, in the order of the files; those for validation are marked."""
        sources = list({id(parts[role].images): parts[role].images for role in roles}.values())
        # Decoded together, so that they are one array on disk.
        images = join_parquet_images(sources)
        starts = dict(zip(map(id, sources), np.cumsum([0, *map(len, sources)]), strict=False))
        rows = np.concatenate([starts[id(parts[role].images)] + parts[role].rows for role in roles])
        classes = np.concatenate([targets[role] for role in roles])
        validation = np.concatenate([np.full(len(parts[role].rows), role == "validation") for role in roles])
        labeled = np.argsort(rows)
        labeled = labeled[classes[labeled] >= 0]
        decoded = images.decode(self.size, self.on_error, rows[labeled], self.decoding_rules)
        kept = labeled[decoded.kept]
        names = images.names()
        groups = [values for role in roles if (values := parts[role].groups) is not None]
        return RawSplit(
            decoded.images,
            classes[kept],
            skipped_files=decoded.skipped_files,
            notes=decoded.notes,
            names=tuple(names[row] for row in rows[kept]) if names else (),
            groups=np.concatenate(groups)[kept] if groups else None,
            validation_mask=validation[kept] if "validation" in roles else None,
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
            images = class_images(Stream("parquet example", split), np.arange(count) % 4, 4, (8, 8, 3))
            for number, pixels in enumerate(images):
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, format="png")
                rows.append({"bytes": data.getvalue(), "path": f"{number}.png"})
            table = pyarrow.table({"img": rows, "label": [number % 4 for number in range(count)]})
            pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
        return {"train": str(folder / "train.parquet"), "test": str(folder / "test.parquet")}


def _has_no_label(column: Any) -> bool:
    """Return True if all values are missing, or -1, which the library `datasets` writes for unpublished labels."""
    import pyarrow.types as types

    values = set(column.unique().to_pylist()) if types.is_integer(column.type) or types.is_null(column.type) else {0}
    return values <= {None, -1}


def _groups(column: Any, location: str) -> NDArray[np.str_]:
    """Return the group of each row as text."""
    if column.null_count:
        raise UserError(f"{location} has {column.null_count} rows without a group; give every example one")
    return np.array([str(value) for value in column.to_pylist()])

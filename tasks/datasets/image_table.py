"""Folders of image files with a table of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files, read_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.examples import class_images
from noisybench.data.labels.class_labels import COMMON_UNLABELED, ClassLabels, match_classes
from noisybench.data.labels.columns import LabelColumn
from noisybench.data.labels.image_table import FileTable, find_table, read_file_table
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import Role
from noisybench.errors import UserError
from noisybench.tasks.datasets._images import ImageSource
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user, shown
from noisybench.utils.seeds import Stream


@dataclass(frozen=True)
class _Examples:
    """Files of one split with their labels, as read from the table."""

    rows: NDArray[np.int64]
    column: LabelColumn


class ImageTable(LabeledSource, ImageSource):
    """Image files in a folder, flat or nested, and a table with the class of each.

    The table (`.csv`, `.tsv` or `.parquet`) has a column of file names, such as `file`, `image` or `id`, with or without
    folders and suffixes, and a column of labels; or one column of 0 and 1 for each class. A column such as `split` with
    train, validation and test, or folders of these names, decide the splits; without either they are drawn. Examples of
    one `group`, such as a patient, stay in one split.
    """

    license = License("not applicable", access="own files")
    own_files = True
    root: Path | None = parameter(None, help="Folder with the images (default: the folder of the table)")
    table: Path | None = parameter(None, help="Table of file names and labels (default: the only table in `root`)")
    file: str | None = parameter(None, help="Column with the file names (default: found by its name)", access="value")
    label: str | None = parameter(
        None, help="Column with the labels (default: found by its name, or the only other one)", access="value"
    )
    split: str | None = parameter(
        None, help="Column with the split of each image (default: `split`, if there is one)", access="value"
    )
    group: str | None = parameter(
        None, help="Column, such as the patient, whose examples stay in one split (default: found by its name)",
        access="value",
    )  # fmt: skip
    size: int | None = parameter(
        None, ge=4, help="Side in pixels to which images are resized and cropped at the center"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the table and the images of the folder."""
        if self.root is None and self.table is None:
            return {}
        root, table = self._locations()
        return {"table": table, "images": FileTree(root, IMAGE_SUFFIXES)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode every image once; later runs map the decoded images."""
        root, path = self._locations()
        files = image_files(root)
        if not files:
            raise UserError(f"dataset.root: {shown(root)} contains no images ({', '.join(IMAGE_SUFFIXES)})")
        names = [file.relative_to(root).as_posix() for file in files]
        table = read_file_table(path, names, self.on_error, self.file, self.label, self.split, self.group)
        examples = {role: self._examples(table, rows) for role, rows in table.splits.items()}
        notes = list(table.notes)
        if "test" not in examples and "validation" in examples:
            examples["test"] = examples.pop("validation")
            text = "The validation split is used for testing, because there is no test split"
            notes.append(ReadingNote("validation_as_test", text, len(examples["test"].rows)))
        labels, more = self._match(table, examples)
        unlisted = [names[row] for row in np.setdiff1d(np.arange(len(files)), table.files).tolist()]
        notes += [
            *more,
            *reading_note("unread_files", f"Images that {path.name} does not list were not read", unlisted),
        ]
        train = self._split(
            [role for role in ("train", "validation") if role in examples], table, examples, labels, files
        )
        train = replace(train, notes=(*notes, *labels.notes, *train.notes))
        train = replace(train, skipped_files=table.missing + train.skipped_files, names=_relative(train.names, root))
        if "test" not in examples:
            return train, None, labels.class_names
        test = self._split(["test"], table, examples, labels, files)
        return train, replace(test, names=_relative(test.names, root)), labels.class_names

    def _locations(self) -> tuple[Path, Path]:
        """Return the folder of the images and the table."""
        if self.root is None and self.table is None:
            raise UserError(
                "dataset.root: set the folder with the images, e.g. dataset.root=images, and dataset.table to the table with "
                "their classes, unless it is the only table in that folder"
            )
        table = None if self.table is None else expand_user(self.table)
        root = table.parent if self.root is None and table is not None else expand_user(self.root or Path())
        if not root.is_dir():
            raise UserError(f"dataset.root: {shown(root)}: folder not found")
        return root, table or find_table(root)

    def _examples(self, table: FileTable, rows: NDArray[np.int64]) -> _Examples:
        values = table.labels[rows] if isinstance(table.labels, np.ndarray) else [table.labels[row] for row in rows]
        return _Examples(rows, self.table_column(values, table.location))

    def _match(
        self, table: FileTable, examples: Mapping[Role, _Examples]
    ) -> tuple[ClassLabels, tuple[ReadingNote, ...]]:
        """Return the class indices; integers with gaps are the names of classes, which is noted."""
        columns: dict[str, LabelColumn] = {role: part.column for role, part in examples.items()}
        used = sorted({value for column in columns.values() for value in column.used})
        integers = all(column.kind == "integers" and column.width is None for column in columns.values())
        meaning, notes = self.integer_labels or "auto", tuple[ReadingNote, ...]()
        # -1 and 255 may stand for no label, which the user has to say.
        is_clear = set(used) != set(map(str, range(len(used)))) and not set(used) & set(map(str, COMMON_UNLABELED))
        if integers and meaning == "auto" and not self.class_names and is_clear:
            meaning = "names"
            text = f"{table.location}: labels are integers that do not count from 0, and each is the name of a class"
            notes = (ReadingNote("integer_names", text, len(used)),)
        class_names = self.class_names or table.class_names
        return match_classes(columns, class_names, self.allow_empty_classes, meaning, self.unlabeled), notes

    def _split(
        self,
        roles: list[Role],
        table: FileTable,
        examples: Mapping[Role, _Examples],
        labels: ClassLabels,
        files: list[Path],
    ) -> RawSplit:
        """Decode the images of the examples with a label; those of the validation split are marked."""
        rows = np.concatenate([examples[role].rows for role in roles])
        classes = np.concatenate([labels.targets[role] for role in roles])
        labeled = np.flatnonzero(classes >= 0)
        # In the order of the file names, which does not depend on that of the table.
        labeled = labeled[np.argsort(table.files[rows[labeled]], kind="stable")]
        listed = [files[row] for row in table.files[rows[labeled]]]
        decoded = read_files(listed, self.size, self.on_error, self.decoding_rules)
        kept = labeled[decoded.kept]
        is_validation = np.repeat(
            [role == "validation" for role in roles], [len(examples[role].rows) for role in roles]
        )
        return RawSplit(
            decoded.images,
            classes[kept],
            skipped_files=decoded.skipped_files,
            notes=decoded.notes,
            names=tuple(str(listed[position]) for position in decoded.kept),
            groups=None if table.groups is None else table.groups[rows[kept]],
            validation_mask=is_validation[kept] if "validation" in roles else None,
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write small PNG files of three classes to a flat folder, and a table of their names without suffixes."""
        from PIL import Image

        lines = ["id,label"]
        for number, pixels in enumerate(class_images(Stream("table example"), np.arange(120) % 3, 3, (9, 12, 3))):
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
            lines.append(f"{number:03},{('circle', 'square', 'star')[number % 3]}")
        (folder / "labels.csv").write_text("\n".join([*lines, ""]))
        return {"root": str(folder), "size": 8}


def _relative(names: tuple[str, ...], root: Path) -> tuple[str, ...]:
    return tuple(Path(name).relative_to(root).as_posix() for name in names)

"""Tables of texts and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.labels.columns import NO_LABEL
from noisybench.data.labels.text_table import TextTable as Table
from noisybench.data.labels.text_table import read_text_table
from noisybench.data.notes import ReadingNote
from noisybench.data.texts import text_inputs
from noisybench.errors import UserError
from noisybench.tasks.datasets._labels import LabeledSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user


class TextTable(LabeledSource):
    """A table (`.csv`, `.tsv`, `.jsonl` or `.parquet`) with a text and a class in each row, and optionally one for testing.

    Texts are classified by their features: `noisybench embed TABLE --backbone minilm -o features.npz`, then
    `dataset=features`. A column such as `split` with train, validation and test decides the splits; without one they are
    drawn. Examples of one `group`, such as an author, stay in one split.
    """

    license = License("not applicable", access="own files")
    own_files = True
    tasks = ("transfer",)
    path: Path | None = parameter(None, help="Table of texts and labels")
    test: Path | None = parameter(None, help="Table of the test split, with the same columns")
    text: str | None = parameter(None, help="Column with the texts (default: found by its name)", access="value")
    label: str | None = parameter(
        None, help="Column with the labels (default: found by its name, or the only other one)", access="value"
    )
    split: str | None = parameter(
        None, help="Column with the split of each text (default: `split`, if there is one)", access="value"
    )
    group: str | None = parameter(
        None, help="Column, such as the author, whose examples stay in one split (default: found by its name)",
        access="value",
    )  # fmt: skip
    on_error: Literal["raise", "skip"] = parameter(
        "raise", help="Treatment of rows without a text: stop with an error, or leave them out"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the tables."""
        return {name: file for name, file in (("path", self.path), ("test", self.test)) if file is not None}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the texts with a label."""
        if self.path is None:
            raise UserError("dataset.path: set the table of texts and labels, e.g. dataset.path=reviews.csv")
        table = self._read_table(self.path, "dataset.path")
        parts = {role: (table, rows) for role, rows in table.splits.items()}
        notes = list(table.notes)
        if self.test is not None:
            if "test" in parts:
                raise UserError(
                    "dataset.test: the table of dataset.path has test rows of its own; remove dataset.test, or these rows"
                )
            test = self._read_table(self.test, "dataset.test")
            notes += test.notes
            parts["test"] = test, np.arange(len(test.texts))
        if "test" not in parts and "validation" in parts:
            parts["test"] = parts.pop("validation")
            text = "The validation split is used for testing, because there is no test split"
            notes.append(ReadingNote("validation_as_test", text, len(parts["test"][1])))
        columns = {
            role: self.table_column([rows.labels[row] for row in found], rows.location)
            for role, (rows, found) in parts.items()
        }
        labels = self.match_labels(columns)
        classes = np.full(len(table.texts), NO_LABEL)
        for role in ("train", "validation"):
            if role in parts:
                classes[parts[role][1]] = labels.targets[role]
        train = _split(table, np.flatnonzero(classes >= 0), classes)
        if "validation" in parts:
            is_validation = np.isin(np.flatnonzero(classes >= 0), parts["validation"][1])
            train = replace(train, validation_mask=is_validation)
        train = replace(train, notes=(*notes, *labels.notes))
        if "test" not in parts:
            return train, None, labels.class_names
        test, rows = parts["test"]
        classes = np.full(len(test.texts), NO_LABEL)
        classes[rows] = labels.targets["test"]
        return train, _split(test, np.flatnonzero(classes >= 0), classes), labels.class_names

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write sentences that contain the name of their class."""
        names = ("cat", "dog", "horse")
        lines = [
            f'{number},"{number} pictures, each of a {names[number % 3]}",{names[number % 3]}' for number in range(120)
        ]
        (folder / "sentences.csv").write_text("\n".join(["id,text,label", *lines, ""]))
        return {"path": str(folder / "sentences.csv")}

    def _read_table(self, path: Path, parameter: str) -> Table:
        return read_text_table(
            expand_user(path), parameter, self.on_error, self.text, self.label, self.split, self.group
        )


def _split(table: Table, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> RawSplit:
    """Return some rows of a table with their class indices."""
    return RawSplit(
        text_inputs([table.texts[row] for row in rows]),
        classes[rows],
        names=tuple(table.names[row] for row in rows) if table.names else (),
        groups=None if table.groups is None else table.groups[rows],
    )

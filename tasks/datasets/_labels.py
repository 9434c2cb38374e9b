"""Base class of datasets whose files hold a column of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from noisybench.config.parameters import parameter
from noisybench.data.labels.class_labels import ClassLabels, match_classes
from noisybench.data.labels.class_names import INTEGER
from noisybench.data.labels.columns import LabelColumn, read_label_column
from noisybench.data.source import DatasetSource


class LabeledSource(DatasetSource):
    """Examples with one class each, whose labels are matched by name."""

    class_names: list[str] | None = parameter(
        None, help="Names of the classes in the order of their indices", access="value"
    )
    unlabeled: str | int | None = parameter(
        None, help="Label of examples without a class, such as -1, which are left out of training", access="value"
    )
    integer_labels: Literal["indices", "names"] | None = parameter(
        None,
        help="Meaning of integer labels: class `indices` that count from 0, or `names`, each different integer being a class "
        "(default: indices without gaps, unless `class_names` contains them)",
    )
    soft_labels: Literal["argmax"] | None = parameter(
        None, help="Treatment of class probabilities: `argmax` takes the most probable class (default: an error)"
    )
    allow_empty_classes: bool = parameter(False, help="Permission for classes without training examples")

    def label_column(self, values: Any, location: str, names: Sequence[str] | None = None) -> LabelColumn:
        """Read one column of labels.

        Args:
            values: labels as an array, or as a column of pandas or pyarrow.
            location: name of the column for messages.
            names: class names that the file gives for integers.

        Raises:
            UserError: a label has no single meaning.
        """
        return read_label_column(values, location, names, self.unlabeled, self.soft_labels or "refuse")

    def table_column(self, values: Any, location: str) -> LabelColumn:
        """Read one column of labels of a table that is read as text, whose whole numbers are integers.

        Args:
            values: labels as text, or an (N, C) array of numbers for each class.
            location: name of the column for messages.

        Raises:
            UserError: a label has no single meaning.
        """
        column = self.label_column(values, location)
        if column.kind == "text" and all(INTEGER.fullmatch(text) and str(int(text)) == text for text in column.used):
            return replace(column, kind="integers")
        return column

    def match_labels(self, columns: Mapping[Any, LabelColumn], names: Sequence[str] | None = None) -> ClassLabels:
        """Return the class indices of all splits.

        Args:
            columns: labels of each split; ``train`` is required.
            names: class names that the source declares, unless the user does.

        Raises:
            UserError: labels have no single meaning, or splits do not have the same classes.
        """
        return match_classes(
            columns,
            self.class_names or names,
            self.allow_empty_classes,
            self.integer_labels or "auto",
            self.unlabeled,
        )

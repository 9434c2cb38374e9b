"""Table of the declared parameters of mitigations and noise models; `python -m tests.golden.declared_parameters` writes it."""

from __future__ import annotations

import csv
import typing
from pathlib import Path
from typing import Any

from noisybench.config.registry import list_entries
from noisybench.config.validation import alternatives

TABLE = Path(__file__).parent / "data" / "declared_parameters.csv"

COLUMNS = ("default", "allowed", "always_in_label", "in_identity")
"""What is frozen of a parameter; the last two decide the names of label sets and which runs are the same."""

Declarations = dict[tuple[str, str], tuple[str, ...]]
"""Texts of the columns, by component and parameter."""


def present_declarations() -> Declarations:
    """Return the declarations of the code."""
    return {
        (name, parameter): (
            repr(declared.default),
            declared.describe_range() or _choices(annotation),
            str(declared.always_in_label),
            str(declared.in_identity),
        )
        for kind in ("mitigations", "noise_models")
        for name, entry in sorted(list_entries(kind).items())
        if entry.module.startswith("noisybench.")
        for parameter, (annotation, declared) in entry.schema.fields.items()
    }


def frozen_declarations() -> Declarations:
    """Return the declarations of the table."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {
            (row["component"], row["parameter"]): tuple(row[column] for column in COLUMNS)
            for row in csv.DictReader(file)
        }


def _choices(annotation: Any) -> str:
    values = (value for part in alternatives(annotation) for value in _literals(part))
    return " | ".join(map(repr, values))


def _literals(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


if __name__ == "__main__":
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("component", "parameter", *COLUMNS))
        writer.writerows((*key, *value) for key, value in present_declarations().items())

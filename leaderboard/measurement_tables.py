"""Tables of measurements: one row per run as CSV, and the tables that ship with noisybench.

A store has complete records; installed users also have the tables of the folder `measured`, one for each submitted entry, written
by `noisybench leaderboard summarize`. Both become the same `Measurement`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import itertools
import json
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from noisybench.errors import UserError
from noisybench.leaderboard.measurements import Measurement, measure_valid
from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.records.codes import Code, as_code, shared_code
from noisybench.records.schema import RunRecord
from noisybench.utils.cells import plain_cell, read_rows, text_of_cell, write_rows

SHIPPED = "shipped"
"""Name of the measurements that ship with noisybench, where the name of a suite is expected."""

SIGNIFICANT_DIGITS = 7
"""Digits of the numbers in a table of measurements; more than any rank or test can depend on."""
DIAGNOSTIC_DIGITS = 5
"""Digits of the diagnostics, which are only shown."""

SHARED = ("shared", "above")
"""Part of a code in place of those that all stacks share, if they are those of the row above."""

REPEATED = "^"
"""Cell of `REPEATED_COLUMNS` with the value of the row above."""
REPEATED_COLUMNS = (
    "stack", "privileged", "warnings", "method", "version", "torch", "device", "status", "entry", "protocol_differences",
)  # fmt: skip
"""Columns in which most rows have the value of the row above."""

SETTING_COLUMNS = tuple(field.name for field in dataclasses.fields(SettingDescription))
RUN_COLUMNS = tuple(
    field.name
    for field in dataclasses.fields(Measurement)
    if field.name not in ("setting", "run_id", "today", "record")
)
COLUMNS = (*SETTING_COLUMNS, *RUN_COLUMNS)
"""Columns of a table of measurements."""


def to_csv(measurements: Iterable[Measurement]) -> str:
    """Return measurements as a CSV table that `from_csv` reads; records and run identifiers are left out.

    A row leaves out what it shares with the row above: setting, code of all stacks, names of diagnostics, and texts of the run.

    Example:
        >>> from_csv(to_csv(builtin_measurements())) == builtin_measurements()
        True
    """
    return write_rows(COLUMNS, _to_rows(measurements))


def _to_rows(measurements: Iterable[Measurement]) -> Iterator[list[str]]:
    above: SettingDescription | None = None
    shared: Code = ()
    names: list[str] = []
    cells: dict[str, str] = {}
    for measurement in measurements:
        setting = {} if measurement.setting == above else vars(measurement.setting)
        run = {column: getattr(measurement, column) for column in RUN_COLUMNS}
        above, code = measurement.setting, shared_code(measurement.code)
        if code and code == shared:
            run["code"] = (SHARED, *(part for part in measurement.code if part not in code))
        shared = code
        if measurement.diagnostics and names == [*dict(measurement.diagnostics)]:
            run["diagnostics"] = tuple(("", number) for _, number in measurement.diagnostics)
        names = [*dict(measurement.diagnostics)]
        before, cells = cells, {column: _to_cell(column, run[column]) for column in RUN_COLUMNS}
        repeated = {column for column in REPEATED_COLUMNS if cells[column] and cells[column] == before.get(column)}
        yield [
            *(_to_cell(column, setting.get(column)) for column in SETTING_COLUMNS),
            *(REPEATED if column in repeated else cell for column, cell in cells.items()),
        ]


def _to_cell(column: str, value: Any) -> str:
    if column == "code":
        return " ".join(f"{component}={digest}" for component, digest in value)
    if column == "diagnostics":
        rounded = [(name, float(f"{number:.{DIAGNOSTIC_DIGITS}g}")) for name, number in value]
        numbers = dict(rounded) if any(name for name, _ in rounded) else [number for _, number in rounded]
        return json.dumps(numbers, separators=(",", ":")) if rounded else ""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{SIGNIFICANT_DIGITS}g}"
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":")) if value else ""
    text = str(value)
    # A text of such signs alone has one more in the table, so that it is not read as a repetition.
    return plain_cell(text + REPEATED if text and not text.strip(REPEATED) else text)


def from_csv(text: str) -> list[Measurement]:
    """Read a table of measurements.

    Raises:
        UserError: the columns are not `COLUMNS`, or a value has another type.
    """
    # Annotations are strings in this module (PEP 563), so `dataclasses.fields` does not have the types.
    setting_types, run_types = typing.get_type_hints(SettingDescription), typing.get_type_hints(Measurement)
    settings: dict[SettingDescription, SettingDescription] = {}
    setting: SettingDescription | None = None
    shared: Code = ()
    names: list[str] = []
    cells: dict[str, str] = {}
    measurements = []
    for line, row in enumerate(read_rows(text, COLUMNS, "measurements"), 2):
        try:
            if setting is None or any(row[name] for name in SETTING_COLUMNS):
                setting = SettingDescription(
                    **{name: _from_cell(name, row[name], setting_types[name]) for name in SETTING_COLUMNS}
                )
            cells = {name: _repeat(name, row[name], cells) for name in RUN_COLUMNS}
            run = {name: _from_cell(name, cell, run_types[name]) for name, cell in cells.items()}
            if SHARED in run["code"]:
                run["code"] = as_code({**dict(shared), **dict(run["code"][1:])})
            shared = shared_code(run["code"])
            if "" in dict(run["diagnostics"]):
                run["diagnostics"] = tuple(zip(names, (number for _, number in run["diagnostics"]), strict=True))
            names = [*dict(run["diagnostics"])]
        except (ValueError, TypeError) as error:
            raise UserError(f"line {line} of the table of measurements cannot be read: {error}") from None
        # Runs of one setting share its description, as they do in memory.
        measurements.append(Measurement(setting=settings.setdefault(setting, setting), **run))
    return measurements


def _repeat(column: str, text: str, above: dict[str, str]) -> str:
    """Return the text of a cell, which the row above may have."""
    if text != REPEATED or column not in REPEATED_COLUMNS:
        return text
    if column not in above:
        raise ValueError(f"{column} is that of the row above, but there is none")
    return above[column]


def _from_cell(column: str, text: str, kind: Any) -> Any:
    if column == "code":
        pairs = (item.rpartition("=") for item in text.split())
        return tuple((component, digest) for component, _, digest in pairs)
    if column == "diagnostics":
        numbers = json.loads(text or "{}")
        if not isinstance(numbers, dict | list):
            raise ValueError(f"diagnostics {text!r} are no JSON object of names and numbers")
        named = numbers.items() if isinstance(numbers, dict) else [("", number) for number in numbers]
        return tuple((str(name), float(number)) for name, number in named)
    if isinstance(kind, types.UnionType):  # the optional numbers
        return float(text) if text else None
    if typing.get_origin(kind) is tuple:
        values = json.loads(text) if text else []
        # JSON has no tuples, but settings are keys of a dictionary and must be hashable.
        return tuple(tuple(value) if isinstance(value, list) else value for value in values)
    if kind is str:
        # The apostrophe that `plain_cell` writes before text that a spreadsheet would read as a formula.
        return text_of_cell(text if text.strip(REPEATED) else text.removesuffix(REPEATED))
    return kind(text)


@functools.cache
def _builtin() -> tuple[Measurement, ...]:
    folder = importlib.resources.files("noisybench.leaderboard") / "measured"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(itertools.chain.from_iterable(from_csv(file.read_text(encoding="utf-8")) for file in files))


def builtin_measurements() -> list[Measurement]:
    """Return the measurements that ship with noisybench.

    Example:
        >>> sorted({measurement.version for measurement in builtin_measurements()})
        ['0.2.0']
    """
    # A copy, so that a caller that changes its list does not change the cached one.
    return list(_builtin())


def with_builtin(records: Iterable[RunRecord]) -> list[Measurement]:
    """Return the measurements that ship with noisybench, followed by those of a store's records.

    Of runs with the same setting, stack and seed, tables show the last one, which is the user's own.

    Example:
        >>> with_builtin([]) == builtin_measurements()
        True
    """
    return [*builtin_measurements(), *measure_valid(records)[0]]

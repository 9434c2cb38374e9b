"""Measurements: the numbers of finished runs that tables, ranks and advice read, and the tables that ship with noisybench.

A store has complete records; installed users also have the tables of the folder `measured`, one for each submitted entry with
one row per run, written by `noisybench leaderboard summarize`. Both become the same `Measurement`.
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
from dataclasses import dataclass
from typing import Any

from noisybench.errors import UserError
from noisybench.leaderboard.installed_code import InstalledCode
from noisybench.leaderboard.protocol import run_differences
from noisybench.leaderboard.published import literature_method
from noisybench.leaderboard.setting_description import SettingDescription, describe_setting
from noisybench.records.codes import Code, as_code, shared_code
from noisybench.records.schema import RunRecord
from noisybench.records.selection import select_by_all
from noisybench.utils.cells import plain_cell, read_rows, text_of_cell, write_rows

SHIPPED = "shipped"
"""Name of the measurements that ship with noisybench, where the name of a suite is expected."""

SIGNIFICANT_DIGITS = 7
"""Digits of the numbers in a table of measurements; more than any rank or test can depend on."""
DIAGNOSTIC_DIGITS = 5
"""Digits of the diagnostics, which are only shown."""

SHARED = ("shared", "above")
"""Part of a code in place of those that all stacks share, if they are those of the row above."""

Diagnostics = tuple[tuple[str, float], ...]
"""Names and values, which unlike a dictionary can be hashed."""


@dataclass(frozen=True)
class Measurement:
    """Numbers of one finished run. Scores and fractions are in [0, 1], and None if not measured.

    Attributes:
        setting: dataset, label set and budget.
        stack: stack of mitigations with their parameters.
        seed: seed of the run.
        privileged: privileged information that the stack uses.
        last: score by the selection rule `last`; `last10`, `noisy_val`, `label_wave` and `oracle` likewise.
        validation: score on the noisy validation labels after the last epoch.
        validation_size: number of these labels.
        balanced_last: balanced accuracy by the selection rule `last`, and so on. None for tasks without one class per example.
        worst_class_recall: lowest recall of a class on the test targets at the end.
        noise_auroc: AUROC of the final label quality against incorrect labels.
        ood_auroc: AUROC of the final label quality against OOD images.
        diagnostics: names and values of the diagnostics after the last epoch, see `EpochRow.diagnostics`, sorted by name.
        memorized_fraction: fraction of mislabeled examples that the final network predicts as their incorrect label.
        memorized_chance: expected value of this fraction for a network that has memorized no example.
        missed_at_true_rate: fraction of mislabeled examples that are missed if as many are flagged by the final label quality.
        calibration_error: expected calibration error of the final test predictions.
        wall_seconds: wall-clock seconds of the run.
        warnings: different warnings that its mitigations reported, in order.
        method: stack as a key of `published.METHODS`.
        version: version of noisybench that measured it.
        torch: version of PyTorch.
        device: CPU or GPU.
        code: digest of the source of each component; empty if it was not recorded, as by version 0.1.
        finished: end of the run in milliseconds since 1970; 0 if unknown.
        status: verification of the submission it comes from; ``local`` for runs of the user's own store.
        entry: name of that submission; empty for local runs.
        protocol_differences: differences from the usual protocol of a published benchmark, see `protocol.run_differences`.
        run_id: identifier of the tracked run; empty for submitted runs.
        today: code that a run of the same settings has with the installed sources; empty if unknown.
        record: complete record, if it is available; it has curves and detectors.
    """

    setting: SettingDescription
    stack: str
    seed: int
    privileged: tuple[str, ...]
    last: float | None
    last10: float | None
    noisy_val: float | None
    label_wave: float | None
    oracle: float | None
    validation: float | None
    validation_size: int
    balanced_last: float | None
    balanced_last10: float | None
    balanced_noisy_val: float | None
    balanced_label_wave: float | None
    balanced_oracle: float | None
    worst_class_recall: float | None
    noise_auroc: float | None
    ood_auroc: float | None
    diagnostics: Diagnostics
    memorized_fraction: float | None
    memorized_chance: float | None
    missed_at_true_rate: float | None
    calibration_error: float | None
    wall_seconds: float
    warnings: tuple[str, ...]
    method: str
    version: str
    torch: str
    device: str
    code: Code = ()
    finished: int = 0
    status: str = "local"
    entry: str = ""
    protocol_differences: tuple[str, ...] = ()
    run_id: str = ""
    # Not compared, as the record below: what is installed is no property of the measurement.
    today: Code = dataclasses.field(default=(), compare=False)
    # Not compared: the same measurement read from a table has no record.
    record: RunRecord | None = dataclasses.field(default=None, compare=False, repr=False)

    def score(self, rule: str) -> float | None:
        """Return the score by a selection rule."""
        value: float | None = getattr(self, rule)
        return value

    def diagnostic(self, name: str) -> float | None:
        """Return a diagnostic after the last epoch; None if the run has no such diagnostic."""
        return dict(self.diagnostics).get(name)

    @property
    def mean_shift_accuracy(self) -> float | None:
        """Final accuracy on test sets under distribution shift, mean over the sets."""
        return self.diagnostic("mean_shift_accuracy")

    @property
    def origin(self) -> str:
        """Verification, submission and version of a submitted run; empty for local runs."""
        return f"{self.status} ({self.entry}, version {self.version})" if self.entry else ""


def measure(
    record: RunRecord, status: str = "local", entry: str = "", installed: InstalledCode | None = None
) -> Measurement:
    """Return the numbers of a finished run, with its record.

    Args:
        record: finished run.
        status: verification of the submission that it comes from.
        entry: name of that submission.
        installed: code of the installed sources, for `Measurement.today`.
    """
    final, environment = record.rows[-1], record.environment
    return Measurement(
        setting=describe_setting(record),
        stack=record.stack,
        seed=record.seed,
        privileged=tuple(record.privileged),
        **select_by_all(record),
        validation=final.noisy_val_score,
        validation_size=record.manifest["dataset"]["sizes"]["validation"],
        **{f"balanced_{rule}": score for rule, score in select_by_all(record, balanced=True).items()},
        worst_class_recall=min((recall for recall in record.test_recall if recall is not None), default=None),
        noise_auroc=record.detection.auroc,
        ood_auroc=record.detection.ood_auroc,
        diagnostics=tuple(sorted(final.diagnostics.items())),
        memorized_fraction=final.memorized_fraction,
        memorized_chance=final.memorized_chance,
        missed_at_true_rate=record.detection.missed_at_true_rate,
        calibration_error=record.calibration_error,
        wall_seconds=record.cost.wall_seconds,
        warnings=tuple(dict.fromkeys(warning for row in record.rows for warning in row.warnings)),
        method=literature_method(record),
        version=environment.get("noisybench", "?"),
        torch=environment.get("torch", "?"),
        device=environment.get("device", "?"),
        code=as_code(record.code),
        finished=final.time,
        status=status,
        entry=entry,
        protocol_differences=run_differences(record),
        run_id=record.run_id,
        today=installed.of(record) if installed else (),
        record=record,
    )


def measure_valid(
    records: Iterable[RunRecord], installed: InstalledCode | None = None
) -> tuple[list[Measurement], list[dict[str, str]]]:
    """Return the numbers of finished runs with the code that they would have today, and the runs that have none."""
    installed = installed or InstalledCode()
    measurements, excluded = list[Measurement](), list[dict[str, str]]()
    for record in records:
        try:
            measurements.append(measure(record, installed=installed))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A record that was written by hand or by another program may lack a value that tables show.
            why = f"the record of run {record.run_id} is unusable ({type(error).__name__}: {error})"
            excluded.append({"what": record.title, "why": why})
    return measurements, excluded


def without_record(measurement: Measurement) -> Measurement:
    """Return a measurement without its record, which takes most of its memory."""
    return dataclasses.replace(measurement, record=None)


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

    A row leaves out the values that it shares with the row above: setting, code of all stacks, and names of diagnostics.

    Example:
        >>> from_csv(to_csv(builtin_measurements())) == builtin_measurements()
        True
    """
    return write_rows(COLUMNS, _to_rows(measurements))


def _to_rows(measurements: Iterable[Measurement]) -> Iterator[list[str]]:
    above: SettingDescription | None = None
    shared: Code = ()
    names: list[str] = []
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
        yield [
            *(_to_cell(column, setting.get(column)) for column in SETTING_COLUMNS),
            *(_to_cell(column, run[column]) for column in RUN_COLUMNS),
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
    return plain_cell(str(value))


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
    measurements = []
    for line, row in enumerate(read_rows(text, COLUMNS, "measurements"), 2):
        try:
            if setting is None or any(row[name] for name in SETTING_COLUMNS):
                setting = SettingDescription(
                    **{name: _from_cell(name, row[name], setting_types[name]) for name in SETTING_COLUMNS}
                )
            run = {name: _from_cell(name, row[name], run_types[name]) for name in RUN_COLUMNS}
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
        return text_of_cell(text)
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
        ['0.1.0', '0.2.0']
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

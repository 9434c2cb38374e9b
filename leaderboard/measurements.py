"""Measurements: the numbers of finished runs that tables, ranks and advice read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from noisybench.leaderboard.installed_code import InstalledCode
from noisybench.leaderboard.protocol import run_differences
from noisybench.leaderboard.published import literature_method
from noisybench.leaderboard.setting_description import SettingDescription, describe_setting
from noisybench.records.codes import Code, as_code
from noisybench.records.schema import RunRecord
from noisybench.records.selection import select_by_all

Diagnostics = tuple[tuple[str, float], ...]
"""Names and values, which unlike a dictionary can be hashed."""

_PERCENTAGE = re.compile(r"(?<![\w.,-])(?:(\d+(?:\.\d+)?) to )?(\d+(?:\.\d+)?)(?= ?%)")


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
        diagnostics: names and values of the diagnostics after the last epoch, see `EpochRow.diagnostics`, sorted by name;
            without those of single classes of masks, which are many.
        memorized_fraction: fraction of mislabeled examples that the final network predicts as their incorrect label.
        memorized_chance: expected value of this fraction for a network that has memorized no example.
        missed_at_true_rate: fraction of mislabeled examples that are missed if as many are flagged by the final label quality.
        calibration_error: expected calibration error of the final test predictions.
        wall_seconds: wall-clock seconds of the run.
        warnings: different warnings that its mitigations reported, in order, see `join_warnings`.
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
        diagnostics=_overall_diagnostics(record),
        memorized_fraction=final.memorized_fraction,
        memorized_chance=final.memorized_chance,
        missed_at_true_rate=record.detection.missed_at_true_rate,
        calibration_error=record.calibration_error,
        wall_seconds=record.cost.wall_seconds,
        warnings=tuple(join_warnings(warning for row in record.rows for warning in row.warnings)),
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


def _overall_diagnostics(record: RunRecord) -> Diagnostics:
    final = record.rows[-1]
    classes = record.manifest["dataset"]["classes"] if final.metric == "miou" else ()
    of_classes = tuple(f".{name}" for name in classes)
    return tuple(sorted(item for item in final.diagnostics.items() if not item[0].endswith(of_classes)))


def join_warnings(warnings: Iterable[str]) -> dict[str, int]:
    """Return different warnings in order, with their numbers; those that differ only in percentages become one with their range.

    Example:
        >>> join_warnings(["a: 36% flagged", "a: the rate is low", "a: 18 to 20% flagged"])
        {'a: 18 to 36% flagged': 2, 'a: the rate is low': 1}
    """
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for warning in warnings:
        # Texts and, between them, both ends of ranges; a single percentage has no lower end.
        parts = _PERCENTAGE.split(warning)
        ranges = [" ".join(filter(None, ends)) for ends in zip(parts[1::3], parts[2::3], strict=True)]
        groups.setdefault(tuple(parts[::3]), []).append(ranges)
    joined = {}
    for texts, found in groups.items():
        spans = [_span(" ".join(ranges).split()) for ranges in zip(*found, strict=True)]
        joined["".join(text + span for text, span in zip(texts, [*spans, ""], strict=True))] = len(found)
    return joined


def _span(numbers: Sequence[str]) -> str:
    ordered = sorted(numbers, key=float)
    low, high = ordered[0], ordered[-1]
    return low if float(low) == float(high) else f"{low} to {high}"


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

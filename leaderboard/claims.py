"""Claims: values of a record that do not follow from a submission. They are limited to what runs can report, and listed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.leaderboard.evidence_kinds import EvidenceKind
from noisybench.records.schema import Cost, EpochRow, ProbeMetrics, ProbeRow, RunRecord

CLAIMS: dict[str, str] = {
    "cost": "seconds, memory and number of weights",
    "weights_sha256": "digest of the final weights; compared when a run is trained again",
    "environment": "versions and device",
    "auxiliary": "cost and loss of auxiliary runs",
    "probes": "scores of classifiers beside the network's own",
    "calibration_error": "calibration error of masks, whose probabilities are not submitted",
    "provenance": "number of trials of a search, and the labels that it compared",
    "rows.train_loss": "training loss",
    "rows.seconds": "seconds of each epoch",
    "rows.time": "date of each epoch",
    "rows.test_loss": "loss on the test split of masks and traces, whose probabilities are not submitted",
    "rows.noisy_val_loss": "loss on the validation split",
    "rows.prediction_changes": "changes of predicted classes from epoch to epoch, which the rule label_wave reads",
    "rows.detectors": "scores of the stack's detectors",
    "rows.diagnostics": "numbers that mitigations report, and the accuracy under distribution shift",
    "rows.warnings": "warnings of mitigations",
    "earlier rows": (
        "training score, memorized, recovered and corrected labels, test loss and detection by the label quality before the "
        "last row"
    ),
}
"""Claims that remain in a verified submission, with their meaning."""

RECOMPUTED_RECORD = frozenset({
    "identity", "spec", "settings", "code", "title", "stack", "seed", "dataset", "noise", "task", "budget", "label_set",
    "manifest", "privileged", "rows", "calibration_error", "correction_accuracy", "detection", "run_id", "format",
    "test_recall", "noisy_val_recall",
})  # fmt: skip
"""Fields of a record that are recomputed or have one allowed value."""
RECOMPUTED_ROW = frozenset({
    "epoch", "stage", "metric", "learning_rate", "test_score", "noisy_val_score", "clean_val_score",
    "test_balanced_accuracy", "noisy_val_balanced_accuracy", "memorized_chance",
})  # fmt: skip
"""Fields of every row that are recomputed or have one allowed value."""
RECOMPUTED_LAST_ROW = frozenset({
    "train_score", "memorized_fraction", "recovered_fraction", "test_loss", "noise_auroc", "id_noise_auroc", "ood_auroc",
})  # fmt: skip
"""Fields that are recomputed for the last row, and are claims before it."""

AUXILIARY_FIELDS = {"identity", "title", "wall_seconds", "device_seconds", "examples", "loss", "cached"}
DETECTOR_METRICS = frozenset({
    "noise_auroc", "id_noise_auroc", "ood_auroc", "average_precision", "precision", "recall", "balanced_accuracy",
    "ood_balanced_accuracy", "flagged_fraction", "missed_at_true_rate",
})  # fmt: skip
TRANSFER_DIAGNOSTICS = frozenset({"pretraining_accuracy"}) | {
    f"{place}.{name}"
    for place in ("backbone", "classifier_input")
    for name in ("singular_value_entropy", "largest_singular_value_ratio")
}
PHASE = "phase"
"""Diagnostic of a run with several phases; recomputed."""
_NAME = re.compile(r"[A-Za-z0-9_.+/ -]{1,80}")


def check_claims(record: RunRecord, spec: RunSpec, kind: EvidenceKind) -> list[str]:
    """Return what in the claims of a record no run of its specification can report.

    Args:
        record: record as claimed.
        spec: specification of the record.
        kind: kind of evidence of its task.
    """
    members = [member.name for member in spec.mitigations]
    problems = list(_check_rows(record, spec.budget.epochs))
    diagnostics = kind.claimed_diagnostics | kind.recomputed_diagnostics(_class_names(record))
    for number, row in enumerate(record.rows):
        problems += [f"row {number}: {problem}" for problem in _check_row(row, spec, members, kind)]
        problems += [f"row {number}: {problem}" for problem in _check_diagnostics(row, spec, members, diagnostics)]
        problems += [f"row {number}: {problem}" for problem in _check_amounts(row, diagnostics, kind)]
    problems += _outside("", vars(record), ["calibration_error"], 0, 1)
    if record.run_id:
        problems.append(f"run_id must be empty, but is {record.run_id!r}")
    if spec.is_trial:
        problems.append("it is a trial of a search, which is never ranked")
    if not re.fullmatch("[0-9a-f]{64}", record.weights_sha256):
        problems.append("weights_sha256 is no SHA-256")
    problems += _check_environment(record.environment)
    problems += _negative("cost.", vars(record.cost), list(Cost.__dataclass_fields__))
    for run in record.auxiliary:
        if set(run) != AUXILIARY_FIELDS or not all(isinstance(run[key], str) for key in ("identity", "title")):
            problems.append(f"auxiliary runs must have the fields {', '.join(sorted(AUXILIARY_FIELDS))}")
    for probe in record.probes:
        problems += [f"probe of {probe.mitigation}: {problem}" for problem in _check_probe(probe, members)]
    return problems


def _check_rows(record: RunRecord, epochs: int) -> Iterator[str]:
    """Check that there is one row per epoch, and at most one for a network that was refined afterward."""
    expected = [(epoch, "train") for epoch in range(min(epochs, len(record.rows)))]
    if len(record.rows) == epochs + 1:
        expected.append((epochs - 1, "refine"))
    if len(record.rows) not in (epochs, epochs + 1) or [(row.epoch, row.stage) for row in record.rows] != expected:
        yield f"its rows are not those of {epochs} epochs, with at most one more of the stage `refine`"


def _class_names(record: RunRecord) -> list[str]:
    """Return the names of the classes in the manifest, which is compared with that of the label set elsewhere."""
    dataset = record.manifest.get("dataset")
    names = dataset.get("classes") if isinstance(dataset, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _check_row(row: EpochRow, spec: RunSpec, members: list[str], kind: EvidenceKind) -> Iterator[str]:
    if row.metric != kind.metric:
        yield f"metric must be {kind.metric}, but is {row.metric!r}"
    fractions = (
        "train_score", "noisy_val_score", "test_score", "memorized_fraction", "recovered_fraction", "noise_auroc",
        "id_noise_auroc", "ood_auroc", "clean_val_score", "test_balanced_accuracy", "noisy_val_balanced_accuracy",
        "memorized_chance", "prediction_changes",
    )  # fmt: skip
    yield from _outside("", vars(row), fractions, 0, 1)
    # Training losses may be negative: the regularizer of ELR is.
    yield from _negative("", vars(row), ("noisy_val_loss", "test_loss", "seconds", "time", "learning_rate"))
    trained = (row.train_loss, row.learning_rate, row.prediction_changes)
    if row.stage == "refine" and (any(value is not None for value in trained) or row.seconds):
        yield "a refined network has no training loss, learning rate, prediction changes or seconds"
    if row.prediction_changes is not None and not kind.counts_changes:
        yield "prediction changes are counted only for one class per example"
    # Whether a sample of the training set was scored also depends on its size, see `class_evidence`.
    scores_all = kind.counts_changes and row.stage == "train" and spec.budget.train_eval_size is None
    if scores_all and (row.prediction_changes is None) != (row.epoch == 0):
        yield "prediction changes must be measured in every epoch but the first"
    for name, scores in row.detectors.items():
        allowed = {"correlation"} if "_with_" in name else DETECTOR_METRICS
        if not _NAME.fullmatch(name) or not set(scores) <= allowed:
            yield f"unknown detector scores `{name}`: {', '.join(sorted(set(scores) - allowed))}"
        yield from _outside(f"detectors.{name}.", scores, scores, -1 if "_with_" in name else 0, 1)
    for warning in row.warnings:
        if warning.partition(":")[0] not in (*members, "execution.save_corrected_masks"):
            yield f"a warning of no mitigation of the stack: {warning[:60]!r}"


def _check_diagnostics(row: EpochRow, spec: RunSpec, members: list[str], of_evaluator: frozenset[str]) -> Iterator[str]:
    diagnostics = row.diagnostics
    shifts = {f"shift_accuracy.{name}" for name in spec.dataset.parameters.get("test_shifts") or ()}
    shifts |= {f"shift_accuracy.width_{width}" for width in spec.dataset.parameters.get("ood_lengths") or ()}
    known = of_evaluator | {PHASE} | (TRANSFER_DIAGNOSTICS if spec.task.name == "transfer" else set())
    for name in diagnostics:
        # The names that a mitigation reports are not declared, but start with its own.
        if name not in known and name not in shifts and name.partition(".")[0] not in members:
            yield f"diagnostics of no part of the run: {name[:60]!r}"
    yield from _outside("diagnostics.", diagnostics, shifts, 0, 1)
    mean = diagnostics.get("mean_shift_accuracy")
    accuracies = [value for name, value in diagnostics.items() if name.startswith("shift_accuracy.")]
    if mean is not None and not (
        accuracies and math.isclose(mean, math.fsum(accuracies) / len(accuracies), abs_tol=1e-6)
    ):
        yield "mean_shift_accuracy is not the mean of the accuracies under shift"


def _check_amounts(row: EpochRow, of_evaluator: frozenset[str], kind: EvidenceKind) -> Iterator[str]:
    yield from _outside("diagnostics.", row.diagnostics, sorted(of_evaluator - kind.amounts), 0, 1)
    yield from _negative("diagnostics.", row.diagnostics, sorted(kind.amounts))


def _check_probe(probe: ProbeRow, members: list[str]) -> Iterator[str]:
    if probe.mitigation not in members:
        yield "no mitigation of the stack"
    lists = (probe.metrics, probe.signal_energy, probe.noise_energy, probe.chance_energy)
    if any(values is not None and len(values) != len(probe.positions) for values in lists):
        yield "its lists have other lengths than its positions"
    for metrics in (*probe.metrics, *probe.controls.values()):
        yield from _outside("", vars(metrics), list(ProbeMetrics.__dataclass_fields__), 0, 1)


def _check_environment(environment: Mapping[str, str]) -> Iterator[str]:
    for name in ("noisybench", "python", "torch", "device"):
        if name not in environment:
            yield f"environment.{name} is missing"
    for name, value in environment.items():
        if not _NAME.fullmatch(name) or not 0 < len(value) <= 200 or not value.isprintable():
            yield f"environment.{name[:60]!r} is no version or device in a few words"


def _outside(prefix: str, values: Mapping[str, Any], names: Iterable[str], low: float, high: float) -> Iterator[str]:
    for name in names:
        value = values.get(name)
        if value is not None and not low <= value <= high:
            yield f"{prefix}{name} must be from {low} to {high}, but is {value}"


def _negative(prefix: str, values: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        value = values.get(name)
        if value is not None and value < 0:
            yield f"{prefix}{name} must not be negative, but is {value}"


def claims_of(record: RunRecord, kind: EvidenceKind) -> set[str]:
    """Return the keys of `CLAIMS` that a record makes.

    Args:
        record: record as claimed.
        kind: kind of evidence of its task.
    """
    made = {"cost", "weights_sha256", "environment", *kind.claims}
    made |= {name for name in ("auxiliary", "probes") if getattr(record, name)}
    if record.spec.get("provenance") is not None:
        made.add("provenance")
    names = (
        "train_loss", "seconds", "time", "noisy_val_loss", "prediction_changes", "detectors", "warnings",
    )  # fmt: skip
    for name in names:
        # An empty mapping or list claims nothing, and neither does a number that was not measured.
        if any(getattr(row, name) not in (None, {}, []) for row in record.rows):
            made.add(f"rows.{name}")
    recomputed = kind.recomputed_diagnostics(_class_names(record)) | {PHASE}
    if any(name not in recomputed for row in record.rows for name in row.diagnostics):
        made.add("rows.diagnostics")
    return made | ({"earlier rows"} if len(record.rows) > 1 else set())

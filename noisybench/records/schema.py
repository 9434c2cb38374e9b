"""The record of a run: measured facts only. Selection, averaging and ranking are computed from it later."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RECORD_FORMAT = 4
"""Number of the layout of `RunRecord`. Records of another number are refused."""


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one run.

    Scores and fractions are in [0, 1], losses in nats, and values that were not measured are None. Under
    `Budget.train_eval_size`, scores of the training set before the last epoch are those of a sample.

    Attributes:
        epoch: epoch number, from 0.
        stage: ``train``, or ``refine`` for the row after a mitigation has changed the trained network.
        train_loss: mean training loss over the steps of the epoch.
        train_score: metric on the observed training targets after the epoch, without augmentation.
        noisy_val_score: metric on the observed validation targets, which the selection rule `noisy_val` reads.
        noisy_val_loss: cross-entropy on the observed validation targets.
        test_score: metric on the clean test targets. Training never reads it.
        test_loss: cross-entropy on the clean test targets.
        memorized_fraction: fraction of mislabeled training examples that are predicted as their incorrect label.
        recovered_fraction: fraction of mislabeled training examples that are predicted as their clean label.
        noise_auroc: AUROC of the label quality for correct against incorrect labels; out-of-distribution (OOD) examples
            count as mislabeled.
        learning_rate: learning rate at the end of the epoch.
        seconds: seconds of training in this epoch, without evaluation.
        time: end of the epoch in milliseconds since 1970.
        id_noise_auroc: `noise_auroc` for in-distribution (ID) mislabeled examples only; None without OOD examples.
        ood_auroc: AUROC of the label quality for OOD examples against correctly labeled ones.
        detectors: metrics of `evaluation.detectors.score_detector` for each detector of the stack; the key ``A_with_B``
            holds the correlation between the flags of two detectors.
        diagnostics: numbers that mitigations report as ``mitigation.name``, and those of the evaluator:
            ``corrected_fraction`` (fraction of ID mislabeled examples that the stack would correct to the clean label),
            ``kept_fraction`` and ``kept_noise_rate`` (fraction of examples that are trained on, and the noise rate among
            them, if the stack selects examples), ``shift_accuracy.NAME`` and ``mean_shift_accuracy`` (accuracy on test
            sets under distribution shift).
        warnings: messages of mitigations, for example about a fallback.
        metric: name of the score, for example ``accuracy`` or ``miou``; the task defines it.
        clean_val_score: metric on the clean validation targets, if they are known. No selection rule reads it.
        test_balanced_accuracy: mean over classes of the recall on the clean test targets; classes without a test example are
            left out, and tasks without one class per example have none. `noisy_val_balanced_accuracy` likewise for the
            observed validation targets.
        memorized_chance: expected `memorized_fraction` of a network that predicts each mislabeled example like a test
            example of the same clean class, see `evaluation.classification.memorized_by_chance`.
        prediction_changes: fraction of training examples whose predicted class differs from that of the epoch before, which
            the selection rule `label_wave` reads; None in the first epoch, after a refinement, and where a sample is scored.

    Example:
        >>> row = EpochRow(0, "train", 1.2, 0.5, 0.4, 1.3, 0.6, 1.1, None, None, None, 0.1, 2.0, 0)
        >>> row.metrics()["test_accuracy"]
        0.6
    """

    epoch: int
    stage: str
    train_loss: float | None
    train_score: float
    noisy_val_score: float | None
    noisy_val_loss: float | None
    test_score: float
    test_loss: float
    memorized_fraction: float | None
    recovered_fraction: float | None
    noise_auroc: float | None
    learning_rate: float | None
    seconds: float
    time: int
    id_noise_auroc: float | None = None
    ood_auroc: float | None = None
    detectors: dict[str, dict[str, float | None]] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    metric: str = "accuracy"
    clean_val_score: float | None = None
    test_balanced_accuracy: float | None = None
    noisy_val_balanced_accuracy: float | None = None
    memorized_chance: float | None = None
    prediction_changes: float | None = None

    def metrics(self) -> dict[str, float]:
        """Return all measured values by the name under which they are tracked, for example ``test_accuracy``."""
        skipped = ("epoch", "stage", "time", "detectors", "diagnostics", "warnings", "metric")
        values: dict[str, Any] = {
            re.sub("_score$", f"_{self.metric}", name): value
            for name, value in vars(self).items()
            if name not in skipped
        }
        for detector, scores in self.detectors.items():
            values |= {f"detector/{detector}/{name}": value for name, value in scores.items()}
        values |= {f"diagnostics/{name}": value for name, value in self.diagnostics.items()}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ProbeMetrics:
    """Metrics of one classifier of a probe, in [0, 1]; None where there are no examples to measure them on.

    Attributes:
        test_accuracy: accuracy on the clean test targets.
        noisy_val_accuracy: accuracy on the observed validation targets.
        clean_accuracy: accuracy on the clean training targets.
        noisy_accuracy: accuracy on the observed training targets.
        memorized_fraction: fraction of mislabeled training examples that are predicted as their incorrect label.
        recovered_fraction: fraction of mislabeled training examples that are predicted as their clean label.
    """

    test_accuracy: float
    noisy_val_accuracy: float | None
    clean_accuracy: float | None
    noisy_accuracy: float
    memorized_fraction: float | None
    recovered_fraction: float | None


@dataclass(frozen=True)
class ProbeRow:
    """The classifiers of one mitigation's probe, evaluated against clean labels.

    Attributes:
        mitigation: mitigation that fitted the probe.
        epochs: number of epochs trained before the probe.
        axis: quantity in which the classifiers differ, for example ``rank``.
        positions: value of that quantity for each classifier.
        metrics: metrics of each classifier, in the order of `positions`.
        controls: metrics of further classifiers, by name.
        signal_energy: fraction of the clean one-hot targets that each classifier can express.
        noise_energy: fraction of the observed targets' deviation from their mean by clean class, likewise.
        chance_energy: fraction of random targets, likewise.
        diagnostics: numbers about the features.
    """

    mitigation: str
    epochs: int
    axis: str
    positions: list[int]
    metrics: list[ProbeMetrics]
    controls: dict[str, ProbeMetrics]
    signal_energy: list[float] | None
    noise_energy: list[float] | None
    chance_energy: list[float] | None
    diagnostics: dict[str, float]

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ProbeRow:
        """Build a row from JSON-like data."""
        metrics = [ProbeMetrics(**fields) for fields in raw["metrics"]]
        controls = {name: ProbeMetrics(**fields) for name, fields in raw["controls"].items()}
        return cls(**{**raw, "metrics": metrics, "controls": controls})


@dataclass(frozen=True)
class Cost:
    """Cost of a run.

    Attributes:
        wall_seconds: seconds from the loaded data to the last record, summed over interruptions.
        train_seconds: seconds inside training steps.
        device_seconds: CPU seconds on a CPU; seconds of training and evaluation on a GPU.
        peak_memory_bytes: peak memory of the process on a CPU; peak memory allocated by PyTorch on a GPU.
        parameters: number of trained weights of all networks.
        images_per_second: training images per second of training.
    """

    wall_seconds: float
    train_seconds: float
    device_seconds: float
    peak_memory_bytes: int
    parameters: int
    images_per_second: float


@dataclass(frozen=True)
class Detection:
    """Detection of incorrect labels by the label quality; None where all labels are correct or all are incorrect.

    Examples of unknown status are ignored, and OOD images count as mislabeled.

    Attributes:
        auroc: area under the ROC curve.
        average_precision: area under the precision-recall curve for incorrect labels.
        f1: F1 score of the flags of `evaluation.metrics.flag_labels`, whose threshold needs no privileged information.
        flagged_fraction: fraction of examples that are flagged.
        id_auroc: AUROC for ID mislabeled examples against correctly labeled ones; None without OOD examples.
        ood_auroc: AUROC for OOD images against correctly labeled ones; None without OOD examples.
        roc: true positive rates at evenly spaced false positive rates from 0 to 1.
        missed_at_true_rate: fraction of mislabeled examples that are missed if as many examples are flagged as are mislabeled,
            those of lowest quality; the expected value over the order of ties.
    """

    auroc: float | None
    average_precision: float | None
    f1: float | None
    flagged_fraction: float | None
    id_auroc: float | None = None
    ood_auroc: float | None = None
    roc: list[float] | None = None
    missed_at_true_rate: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """A finished run as the leaderboard reads it. All values are JSON-like.

    Attributes:
        identity: hash of the settings, data and code.
        spec: complete specification.
        title: one-line description.
        stack: stack of mitigations with their parameters.
        seed: seed of the run.
        dataset: dataset with its parameters.
        noise: noise model with its parameters.
        label_set: SHA-256 of the label set.
        budget: hash of task and budget.
        manifest: manifest of the label set, without the matrices.
        privileged: privileged information that the stack declares.
        rows: one row per epoch.
        calibration_error: expected calibration error of the test predictions, 15 equal-width bins; None for text.
        correction_accuracy: fraction of corrected training targets that are clean, among examples of a known class.
        test_recall: recall of each class on the clean test targets at the end, in the order of the classes; None for a class
            without a test example. `noisy_val_recall` likewise for the observed validation targets. Empty for tasks
            without one class per example, or without a validation split.
        detection: detection of incorrect labels at the end.
        cost: cost of the run.
        weights_sha256: SHA-256 of the final weights, which shows whether a repeated run is bit-identical.
        environment: versions, device and commit.
        settings: hash of the settings and data: the identity without the code.
        code: digest of the source code of each part of the run, such as ``engine`` or ``mitigations.gce``.
        run_id: identifier of the tracked run; empty before it is tracked.
        auxiliary: auxiliary runs that it used, with their cost, which is included in `cost`.
        probes: classifiers that mitigations fit beside the networks' own, with their metrics.
        task: task with its parameters; empty for plain classification.
        format: `RECORD_FORMAT` of the version that wrote it.
    """

    identity: str
    spec: dict[str, Any]
    title: str
    stack: str
    seed: int
    dataset: str
    noise: str
    label_set: str
    budget: str
    manifest: dict[str, Any]
    privileged: list[str]
    rows: list[EpochRow]
    calibration_error: float | None
    correction_accuracy: float | None
    detection: Detection
    cost: Cost
    weights_sha256: str
    environment: dict[str, str]
    settings: str
    code: dict[str, str]
    run_id: str = ""
    auxiliary: list[dict[str, Any]] = field(default_factory=list)
    probes: list[ProbeRow] = field(default_factory=list)
    task: str = ""
    test_recall: list[float | None] = field(default_factory=list)
    noisy_val_recall: list[float | None] = field(default_factory=list)
    format: int = RECORD_FORMAT

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.rows[0].metric

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-like data that `from_dict` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunRecord:
        """Build a record from the data of `as_dict`.

        Raises:
            ValueError: the record has another format.

        Example:
            >>> cost = Cost(3.0, 2.0, 3.0, 10**9, 5000, 1e4)
            >>> detection = Detection(0.95, 0.9, 0.8, 0.4)
            >>> record = RunRecord("0" * 20, {}, "", "elr", 0, "digits", "clean", "", "", {}, [], [], None, None,
            ...                    detection, cost, "", {}, "", {})
            >>> RunRecord.from_dict(record.as_dict()) == record
            True
        """
        # Refused before the fields are read, since another format would fail with a confusing error or be misread.
        check_format(data)
        return cls(
            **{
                **data,
                "rows": [EpochRow(**fields) for fields in data["rows"]],
                "detection": Detection(**data["detection"]),
                "cost": Cost(**data["cost"]),
                "probes": [ProbeRow.from_dict(fields) for fields in data["probes"]],
            }
        )


def check_format(data: Mapping[str, Any]) -> None:
    """Check that the data of a record have the format of this version.

    Raises:
        ValueError: the record has another format.

    Example:
        >>> check_format({"format": RECORD_FORMAT})
        >>> check_format({"format": 1})
        Traceback (most recent call last):
        ValueError: expected record format 4, but got 1
    """
    if data.get("format") != RECORD_FORMAT:
        raise ValueError(f"expected record format {RECORD_FORMAT}, but got {data.get('format', 1)}")

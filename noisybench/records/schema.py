"""What a run leaves behind: facts only. Selecting, averaging and ranking happen later, from these."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one run. Scores and shares are in [0, 1], losses in nats, absent values are None.

    Attributes:
        epoch: number of the epoch, from 0.
        stage: ``train``, or ``refine`` for the row after a mitigation changed the trained network.
        train_loss: mean of the objective over the epoch's steps.
        train_score: the metric on the observed training targets, after the epoch, without augmentation.
        noisy_val_score: the metric on the observed validation targets; what the rule `noisy_val` reads.
        noisy_val_loss: cross-entropy there.
        clean_val_score: the metric on the clean validation targets, where they are known; read by no rule.
        test_score: the metric on the clean test targets; read by no one while training.
        test_loss: cross-entropy there.
        memorised: share of wrongly labelled training examples that are predicted as their wrong label.
        recovered: share of wrongly labelled training examples that are predicted as their clean label.
        detection_auroc: how well belief separates right from wrong labels, outsiders among the wrong ones.
        learning_rate: at the end of the epoch.
        seconds: of training in this epoch, without evaluation.
        time: end of the epoch, milliseconds since 1970.
        label_detection_auroc: the same for wrong labels of examples that have a class; None where there are no others.
        outsider_detection_auroc: the same for out-of-distribution examples against rightly labelled ones.
        detectors: by detector of the stack, what `metrics.judge` finds; `A_with_B` is the correlation of two detectors' flags.
        facts: numbers that the stack's mitigations gave, as ``mitigation.name``; `corrected`, the share of wrong labels
            on images of a class that the stack would correct to the clean one; where it selects examples, the share
            that is trained on (`kept`), and the share of wrong labels in it (`wrong_among_kept`); accuracy on test sets of
            shifted distribution (`shifted.NAME`), and their mean (`shifted`).
        notes: what they had to say, such as a fallback that was taken.
        metric: what the scores are, such as ``accuracy`` or ``miou``; the task decides.
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

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> EpochRow:
        """From JSON-like data; rows of earlier versions have the metric in the names."""
        if "test_score" in raw:
            return cls(**raw)
        return cls(**{re.sub("_accuracy$", "_score", key): value for key, value in raw.items()})

    def metrics(self) -> dict[str, float]:
        """All measured values that are present, by name; scores by that of the metric."""
        skipped = ("epoch", "stage", "time", "detectors", "diagnostics", "warnings", "metric")
        found: dict[str, Any] = {
            re.sub("_score$", f"_{self.metric}", k): v for k, v in vars(self).items() if k not in skipped
        }
        for name, measured in self.detectors.items():
            found |= {f"detector/{name}/{key}": value for key, value in measured.items()}
        found |= {f"fact/{name}": value for name, value in self.diagnostics.items()}
        return {k: v for k, v in found.items() if v is not None}


@dataclass(frozen=True)
class ProbeMetrics:
    """What one classifier of a probe is worth. Shares in [0, 1]; None of nothing.

    Attributes:
        test_accuracy: on clean test targets.
        noisy_val_accuracy: on observed validation targets.
        clean_accuracy: on the training examples' clean targets.
        noisy_accuracy: on their observed targets.
        memorised: share of wrongly labelled training examples that are predicted as their wrong label.
        recovered: share of wrongly labelled training examples that are predicted as their clean label.
    """

    test_accuracy: float
    noisy_val_accuracy: float | None
    clean_accuracy: float | None
    noisy_accuracy: float
    memorized_fraction: float | None
    recovered_fraction: float | None


@dataclass(frozen=True)
class ProbeRow:
    """The classifiers of one mitigation's probe, judged by the truth.

    Attributes:
        mitigation: whose probe.
        epochs: how many were trained.
        axis: what the classifiers differ in.
        places: along the axis.
        judged: by place.
        others: by name.
        signal_energy: by place, share of the clean one-hot targets that it can express.
        noise_energy: by place, share of the observed targets' deviation from their mean by clean class.
        chance_energy: by place, share of random targets.
        facts: numbers about the features.
    """

    mitigation: str
    epochs: int
    axis: str
    places: list[int]
    judged: list[ProbeMetrics]
    others: dict[str, ProbeMetrics]
    signal_energy: list[float] | None
    noise_energy: list[float] | None
    chance_energy: list[float] | None
    diagnostics: dict[str, float]

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ProbeRow:
        """From JSON-like data."""
        judged = [ProbeMetrics(**each) for each in raw["judged"]]
        return cls(**{**raw, "judged": judged, "others": {k: ProbeMetrics(**v) for k, v in raw["others"].items()}})


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        wall_seconds: from the data in memory to the last record, summed over interruptions.
        train_seconds: of that, inside training steps.
        device_seconds: processor seconds on a CPU, wall seconds of training and evaluation on a GPU.
        peak_memory_bytes: of the process on a CPU, allocated by torch on a GPU.
        parameters: trained weights, all networks together.
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
    """How well belief finds wrong labels; all None where every label is right or every label is wrong.

    Examples whose class nobody knows count nowhere; an image of none of the classes has a wrong label.

    Attributes:
        auroc: area under the ROC curve.
        average_precision: area under the precision-recall curve for wrong labels.
        f1: at the threshold that a two-component Gaussian mixture of -log belief chooses, without privileged data.
        flagged: share of examples beyond that threshold.
        label_auroc: of wrong labels on images of a class against right ones; None where all wrong labels are such.
        outsider_auroc: of out-of-distribution images against rightly labelled ones; None where there are none.
        roc: true positive rates at evenly spaced false positive rates from 0 to 1; None in records of earlier versions.
    """

    auroc: float | None
    average_precision: float | None
    f1: float | None
    flagged: float | None
    label_auroc: float | None = None
    outsider_auroc: float | None = None
    roc: list[float] | None = None


@dataclass(frozen=True)
class Samples:
    """One record per training example, as columns of length N.

    Attributes:
        index: row in the dataset's source.
        observed: observed target.
        clean: best known target; -1 for images of none of the classes, -2 where nobody knows.
        belief: probability that the observed target is right.
        prediction: class predicted at the end.
        correction: target that the stack would use instead.
        detectors: (N,) scores by detector of the stack, and flags as ``NAME_flagged``.
    """

    index: NDArray[np.int64]
    observed: NDArray[np.int64]
    clean: NDArray[np.int64]
    belief: NDArray[np.float32]
    prediction: NDArray[np.int64]
    correction: NDArray[np.int64]
    detectors: dict[str, NDArray[Any]] = field(default_factory=dict)

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns of a table."""
        plain = {name: values for name, values in vars(self).items() if name != "detectors"}
        return plain | {f"detector_{name}": values for name, values in self.detectors.items()}


@dataclass(frozen=True)
class DetectorScores:
    """What one detector of a stack says of the training examples at the end.

    Attributes:
        score: (N,) higher where the label is more likely wrong.
        flagged: (N,) whether it takes the label for wrong.
        mixture: weights, means and deviations of two components fitted to the score, where it has some.
    """

    score: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    mixture: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None


@dataclass(frozen=True)
class Predictions:
    """Test predictions.

    Attributes:
        index: (M,) row in the dataset's source.
        target: (M,) clean target.
        probabilities: (M, C) at the end.
        by_epoch: (M, rows) predicted class at each recorded row, so that every accuracy can be scored again.
    """

    index: NDArray[np.int64]
    target: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    by_epoch: NDArray[np.int16]


@dataclass(frozen=True)
class RunRecord:
    """A finished run as the leaderboard reads it; everything in it is JSON-like.

    Attributes:
        identity: of the specification.
        spec: the complete specification.
        title: one line.
        stack: the stack of mitigations.
        seed: of the run.
        dataset: name of the dataset.
        noise: label of the noise model with its parameters.
        label_set: SHA-256 of the label set.
        budget: hash of task and budget.
        manifest: of the label set, without the matrices.
        knowledge: declared by the stack.
        rows: one per epoch.
        calibration_error: expected calibration error of the test predictions, 15 equal-width bins; None of written text.
        correction_accuracy: share of corrected training targets that are clean, among examples of a known class.
        detection: quality of the belief.
        cost: what it took.
        weights_sha256: of the final networks, to tell whether a run was repeated to the bit.
        environment: versions, device and commit.
        run_id: of the tracked run; empty before it is tracked.
        task: the task with its parameters; empty where it has none.
        auxiliary: auxiliary runs that it used, with their cost, which is contained in `cost`.
        probes: classifiers beside the networks' own, judged by the truth.
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
    run_id: str = ""
    auxiliary: list[dict[str, Any]] = field(default_factory=list)
    probes: list[ProbeRow] = field(default_factory=list)
    task: str = ""

    @property
    def metric(self) -> str:
        """What its scores are."""
        return self.rows[0].metric

    def as_dict(self) -> dict[str, Any]:
        """JSON-like data; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunRecord:
        """The record that `as_dict` wrote."""
        rows = [EpochRow.from_dict(row) for row in data["rows"]]
        return cls(
            **{
                **data,
                "rows": rows,
                "detection": Detection(**data["detection"]),
                "cost": Cost(**data["cost"]),
                "probes": [ProbeRow.from_dict(each) for each in data.get("probes", [])],
            }
        )

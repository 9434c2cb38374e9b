"""The evaluator of tasks that predict one class per example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench.data.splits.splits import stratified
from noisybench.data.targets import IN_DISTRIBUTION
from noisybench.evaluation import metrics
from noisybench.evaluation.classification import (
    Scores,
    accuracy,
    listed_recall,
    score_final,
    score_label_quality,
    score_predictions,
    score_selection,
    score_test,
    score_validation,
)
from noisybench.evaluation.detectors import score_detectors
from noisybench.records.evidence import Predictions, Samples
from noisybench.records.schema import ProbeRow, RunRecord
from noisybench.training.divergence import divergence_error
from noisybench.training.evaluator import Evaluator, as_tensor
from noisybench.training.learner import Learner
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.roles import ProbeProvider
from noisybench.training.training_set import DiskTensor
from noisybench.utils.seeds import Stream


class ClassificationEvaluator(Evaluator):
    """Evaluator of predicted classes: accuracy, loss, memorization, detection of incorrect labels and calibration.

    Attributes:
        test_by_epoch: (M,) predicted classes of the test examples at each row.
        validation_by_epoch: (V,) predicted classes of the validation examples at each row; empty without a validation split.
        sample: positions of the training examples that are scored after every epoch but the last; None for all.
    """

    metric = "accuracy"
    supports_sample = True

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        self.sample = draw_sample(self.labels.train, prepared.spec.budget.train_eval_size, self.labels.hash)
        self.test_by_epoch: list[Tensor] = []
        self.validation_by_epoch: list[Tensor] = []
        self._train_prediction: Tensor | None = None  # of the last epoch, to count the changes of the next one
        self._test_probabilities: NDArray[np.float32] | None = None  # of the latest row of this process
        self._final: dict[str, Any] = {}

    def move_to(self, device: torch.device) -> None:
        """Copy the held-out inputs, including those of shifted test sets, to the training device."""
        super().move_to(device)
        self._shifted = {name: as_tensor(split.inputs, device) for name, split in self.dataset.shifted_tests.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the predictions collected so far."""
        return {
            **super().state_dict(),
            "test_by_epoch": self.test_by_epoch,
            "validation_by_epoch": self.validation_by_epoch,
            "train_prediction": self._train_prediction,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the predictions that an interrupted run has collected."""
        super().load_state_dict(state)
        self.test_by_epoch = list(state["test_by_epoch"])
        self.validation_by_epoch = list(state["validation_by_epoch"])
        self._train_prediction = state["train_prediction"]

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return accuracies, losses, memorization and detection of the current epoch.

        Raises:
            TrainingError: the predictions are not finite, although the weights are.
        """
        train, test, labels = self.dataset.train, self.dataset.test, self.labels
        # First, because detectors cannot rank what is not a number.
        test_probabilities, test_prediction = _predict(task, self.test)
        if not np.isfinite(test_probabilities).all():
            raise divergence_error(self.prepared.stack, task.current_epoch, "the predictions became NaN")
        # What is reported of a finished run is measured on all examples.
        is_final = stage == "refine" or task.current_epoch + 1 == task.budget.epochs
        sample = None if is_final else self.sample
        prediction, label_quality, corrected = self._predict_training_set(task, sample)
        scored: NDArray[np.int64] | slice = slice(None) if sample is None else sample
        status = self.label_status[scored]
        detectors: dict[str, Scores] = {}
        # There is one ROC curve per trained epoch; a network refined afterward would add a second one.
        changes: float | None = None
        if stage == "train":
            # The selection rule `label_wave` reads the changes; those of a sample could lead it to another epoch.
            changes = self._count_changes(prediction) if self.sample is None else None
            detectors = score_detectors(self.detectors(task), self.label_status, self.roc_curves)
        self._test_probabilities = test_probabilities
        # One entry per epoch, kept until the end and in every checkpoint: 2 bytes per prediction instead of 8.
        self.test_by_epoch.append(test_prediction.to(torch.int16))
        return {
            **score_predictions(prediction.numpy(), train.targets[scored], labels.train[scored], status),
            **self._validate(task),
            **score_test(
                test_prediction.numpy(),
                test.targets,
                train.targets,
                labels.train,
                self.label_status,
                self.dataset.num_classes,
            ),
            "test_loss": metrics.cross_entropy(test_probabilities, test.targets),
            "prediction_changes": changes,
            **score_label_quality(label_quality, status),
            "detectors": detectors,
            "diagnostics": self._correction(corrected, scored) | self._selection(task) | self._shift_accuracy(task),
        }

    def _predict_training_set(
        self, task: Learner, sample: NDArray[np.int64] | None
    ) -> tuple[Tensor, NDArray[np.float32], NDArray[np.int64] | None]:
        """Return predicted classes, label quality and corrected labels of all training examples, or of a sample."""
        stack, data = self.prepared.stack, task.training_set
        if sample is None:
            prediction, quality = task.training_predictions(), stack.label_quality(task, data)
            corrected = stack.corrected_labels(task, data)
        else:
            rows = torch.from_numpy(sample)
            probabilities = task.predict(data.inputs[rows.to(data.inputs.device)])
            prediction = probabilities.argmax(1)
            quality, corrected = stack.sampled_labels(task, data, rows.to(probabilities.device), probabilities)
        labels = None if corrected is None else corrected.cpu().numpy()
        return prediction.cpu(), quality.float().cpu().numpy(), labels

    def _count_changes(self, prediction: Tensor) -> float | None:
        """Return the fraction of training examples whose prediction differs from the last epoch; None in the first."""
        previous, self._train_prediction = self._train_prediction, prediction.to(torch.int16)
        return None if previous is None else float((previous != self._train_prediction).double().mean())

    def _validate(self, task: Learner) -> Scores:
        """Return validation scores and loss, and keep the predictions; no scores without a validation split."""
        if not len(self.labels.validation):
            return {"noisy_val_score": None, "noisy_val_loss": None}
        probabilities, prediction = _predict(task, self.validation)
        self.validation_by_epoch.append(prediction.to(torch.int16))
        clean, observed = self.dataset.validation.targets, self.labels.validation
        return {
            **score_validation(prediction.numpy(), clean, observed),
            "noisy_val_loss": metrics.cross_entropy(probabilities, observed),
        }

    def probe(self, task: Learner, epochs: int, last: bool) -> list[ProbeRow]:
        """Evaluate the classifiers that mitigations fit beside the networks' own."""
        dataset, labels, rows = self.dataset, self.labels, []
        clean, observed = dataset.train.targets, labels.train
        for mitigation in self.prepared.stack.with_role(ProbeProvider):
            probe = mitigation.probe(task, task.training_set, epochs, last)
            if probe is None:
                continue
            num_positions = len(probe.positions)
            # An empty split still needs one row per classifier, because `zip` below pairs the splits by classifier.
            empty = torch.empty(num_positions + len(probe.controls), 0)
            splits = (task.training_set.inputs, self.validation, self.test)
            predictions = [(probe.predict(inputs) if len(inputs) else empty).numpy() for inputs in splits]
            scores = [
                metrics.score_classifier(
                    train_prediction,
                    val_prediction,
                    test_prediction,
                    clean,
                    observed,
                    labels.validation,
                    dataset.test.targets,
                    self.label_status,
                )
                for train_prediction, val_prediction, test_prediction in zip(*predictions, strict=True)
            ]
            energies: list[list[float] | None] = [None, None]
            if probe.energy is not None:
                energies = [
                    # The direction is zero if no label is noisy, or if no class is known; fractions of its energy are
                    # then undefined.
                    probe.energy(torch.from_numpy(direction)).tolist() if direction.any() else None
                    for direction in metrics.label_directions(clean, observed, dataset.num_classes)
                ]
            rows.append(
                ProbeRow(
                    mitigation=public_name(mitigation),
                    epochs=epochs,
                    axis=probe.axis,
                    positions=list(probe.positions),
                    metrics=scores[:num_positions],
                    controls=dict(zip(probe.controls, scores[num_positions:], strict=True)),
                    signal_energy=energies[0],
                    noise_energy=energies[1],
                    # A random direction in N dimensions has, on average, a fraction k / N of its energy in any k of
                    # them.
                    chance_energy=None if probe.energy is None else [rank / len(observed) for rank in probe.positions],
                    diagnostics=probe.diagnostics,
                )
            )
        return rows

    def finalize(self, task: Learner) -> None:
        """Keep label quality, corrected labels, detectors and predictions of the trained stack."""
        stack, training_set = self.prepared.stack, task.training_set
        corrected = stack.corrected_labels(task, training_set)
        # The weights are those of the latest row, unless a resumed run had trained all epochs before.
        test = self._test_probabilities if self._test_probabilities is not None else _predict(task, self.test)[0]
        self._final = {
            "label_quality": stack.label_quality(task, training_set).float().cpu().numpy(),
            "corrected_labels": (training_set.targets if corrected is None else corrected).cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "test": test,
            "detectors": self.detectors(task),
        }

    def summary(self) -> dict[str, Any]:
        """Return calibration and recalls, accuracy of corrected labels, and detection by label quality."""
        samples, test, num_classes = self.samples(), self.dataset.test.targets, self.dataset.num_classes
        validation = self.validation_by_epoch[-1].numpy() if self.validation_by_epoch else np.empty(0, np.int64)
        return {
            **score_final(
                self._final["test"],
                test,
                samples.label_quality,
                samples.corrected_labels,
                samples.clean,
                samples.observed,
                self.label_status,
            ),
            "test_recall": listed_recall(self.test_by_epoch[-1].numpy(), test, num_classes),
            "noisy_val_recall": listed_recall(validation, self.labels.validation, num_classes),
        }

    def samples(self) -> Samples:
        """Return one record per training example."""
        train, final = self.dataset.train, self._final
        detectors: dict[str, NDArray[Any]] = {}
        for name, detector in final["detectors"].items():
            detectors |= {name: detector.score, f"{name}_flagged": detector.flagged}
        return Samples(
            train.index,
            self.labels.train,
            train.targets,
            final["label_quality"],
            final["prediction"],
            final["corrected_labels"],
            detectors,
        )

    def predictions(self) -> Predictions:
        """Return the test predictions."""
        test = self.dataset.test
        by_epoch = torch.stack(self.test_by_epoch, 1).numpy().astype(np.int16)  # (N, epochs)
        return Predictions(test.index, test.targets, self._final["test"], by_epoch)

    def save(self, record: RunRecord, folder: Path) -> None:
        """Write tables of samples and predictions, and figures of detectors and probes."""
        # Imported late: training itself needs neither pandas nor the plots.
        import pandas

        from noisybench.plots.detectors import plot_detectors
        from noisybench.plots.probes import plot_probe

        pandas.DataFrame(self.samples().columns()).to_parquet(folder / "samples.parquet", index=False)
        # Parquet has no two-dimensional columns, so each row becomes a list.
        predictions = {
            name: list(column) if column.ndim > 1 else column for name, column in vars(self.predictions()).items()
        }
        pandas.DataFrame(predictions).to_parquet(folder / "predictions.parquet", index=False)
        if self.validation_by_epoch:
            validation = self.dataset.validation
            columns = {
                "index": validation.index,
                "clean": validation.targets,
                "observed": self.labels.validation,
                "by_epoch": list(torch.stack(self.validation_by_epoch, 1).numpy()),
            }
            pandas.DataFrame(columns).to_parquet(folder / "validation.parquet", index=False)
        if self._final["detectors"]:
            plot_detectors(
                record, self.label_status, self._final["detectors"], self.roc_curves, folder / "detectors.png"
            )
        # Unlike a set, `dict.fromkeys` keeps the order of the stack.
        for name in dict.fromkeys(row.mitigation for row in record.probes):
            rows = [row for row in record.probes if row.mitigation == name]
            plot_probe(record, rows, folder / f"probe_{name}.png")

    def _correction(self, corrected: NDArray[np.int64] | None, scored: NDArray[np.int64] | slice) -> dict[str, float]:
        """Return the fraction of scored ID mislabeled examples that the stack would correct to the clean label."""
        # Out-of-distribution examples have no clean class to which they could be corrected.
        mislabeled = self.label_status[scored] == IN_DISTRIBUTION
        if corrected is None or not mislabeled.any():
            return {}
        return {"corrected_fraction": float((corrected == self.dataset.train.targets[scored])[mislabeled].mean())}

    def _selection(self, task: Learner) -> dict[str, float]:
        """Return fraction and noise rate of the examples that are trained on, if the stack selects examples."""
        if task.sampler.weights is None:
            return {}
        return score_selection((task.sampler.weights > 0).cpu().numpy(), self.label_status)

    def _shift_accuracy(self, task: Learner) -> dict[str, float]:
        """Return the accuracy on each test set under distribution shift, and the mean."""
        accuracies = {}
        for name, inputs in self._shifted.items():
            _, prediction = _predict(task, inputs)
            accuracies[f"shift_accuracy.{name}"] = accuracy(
                prediction.numpy(), self.dataset.shifted_tests[name].targets
            )
        if not accuracies:
            return {}
        return accuracies | {"mean_shift_accuracy": float(np.mean(list(accuracies.values())))}


def draw_sample(observed: NDArray[np.int64], size: int | None, label_set: str) -> NDArray[np.int64] | None:
    """Return the positions of a sample with the proportions of the observed classes; the same for all runs of a label set.

    Args:
        observed: (N,) observed targets.
        size: number of examples; None for all.
        label_set: hash of the label set.

    Returns:
        (size,) positions in increasing order; None if there are no more than ``size`` examples.

    Example:
        >>> observed = np.arange(100) % 4
        >>> np.bincount(observed[draw_sample(observed, 20, "0" * 64)]).tolist(), draw_sample(observed, 100, "0" * 64)
        ([5, 5, 5, 5], None)
    """
    if size is None or size >= len(observed):
        return None
    return np.flatnonzero(stratified(observed, size, Stream("train_eval", label_set)))


def _predict(task: Learner, inputs: Tensor | DiskTensor) -> tuple[NDArray[np.float32], Tensor]:
    """Return class probabilities and predicted classes on the host."""
    probabilities = task.predict(inputs).cpu()
    # PyTorch's argmax, not NumPy's: on ties they may differ, and the stored predictions must give the score.
    return probabilities.numpy(), probabilities.argmax(1)

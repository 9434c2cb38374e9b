"""The judge of tasks that give each example one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisybench.data.label_set import CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.evaluation import metrics
from noisybench.records.schema import Predictions, ProbeRow, RunRecord, Samples
from noisybench.training.evaluator import Evaluator, placed
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor


class ClassificationEvaluator(Evaluator):
    """Scores classes: accuracy, loss, what became of wrong labels, detection and calibration."""

    metric = "accuracy"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        self.by_epoch: list[Tensor] = []
        self.held_out_by_epoch: list[Tensor] = []
        self._final: dict[str, Any] = {}

    def place(self, device: torch.device) -> None:
        """Bring the held-out inputs to the training device, those of shifted test sets as well."""
        super().place(device)
        self._shifted = {name: placed(each.inputs, device) for name, each in self.dataset.shifted.items()}

    def state_dict(self) -> dict[str, Any]:
        """What was kept so far."""
        return {**super().state_dict(), "by_epoch": self.by_epoch, "held_out_by_epoch": self.held_out_by_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what an interrupted run has kept."""
        super().load_state_dict(state)
        self.by_epoch = list(state["by_epoch"])
        self.held_out_by_epoch = list(state["held_out_by_epoch"])

    def row(self, task: Task, stage: str) -> dict[str, Any]:
        """Accuracies and losses, memorised and recovered wrong labels, and detection."""
        observed, clean, states = self.labels.train, self.dataset.train.targets, self.label_status
        predicted = task.training_predictions().cpu().numpy()
        belief = self.prepared.stack.belief(task, task.training_set).float().cpu().numpy()
        detection = metrics.detection_by_state(-belief, states)
        outsiders = (states == OUT_OF_DISTRIBUTION).any()
        test_accuracy, test_loss, test_predicted = self._score(task, self.test, self.dataset.test.targets)
        validated = len(self.labels.validation) > 0
        val_accuracy, val_loss, val_predicted = (
            self._score(task, self.validation, self.labels.validation) if validated else (None, None, None)
        )
        right = self.dataset.validation.targets
        self.by_epoch.append(test_predicted.to(torch.int16))
        if val_predicted is not None:
            self.held_out_by_epoch.append(val_predicted.to(torch.int16))
        return {
            "train_score": float((predicted == observed).mean()),
            "noisy_val_score": val_accuracy,
            "noisy_val_loss": val_loss,
            "clean_val_score": None
            if val_predicted is None
            else metrics.share((val_predicted.numpy() == right)[right >= 0]),
            "test_score": test_accuracy,
            "test_loss": test_loss,
            "memorized_fraction": metrics.share(
                (predicted == observed)[np.isin(states, (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION))]
            ),
            "recovered_fraction": metrics.share((predicted == clean)[states == IN_DISTRIBUTION]),
            "noise_auroc": detection["any"],
            "id_noise_auroc": detection["label"] if outsiders else None,
            "ood_auroc": detection["outsider"],
            "detectors": self.score_detectors(task) if stage == "train" else {},
            "diagnostics": self._corrected(task) | self._left(task) | self._elsewhere(task),
        }

    def probe(self, task: Task, epochs: int, last: bool) -> list[ProbeRow]:
        """The classifiers that mitigations have beside the networks' own, against the truth."""
        dataset, labels, found = self.dataset, self.labels, []
        clean, observed = dataset.train.targets, labels.train
        for mitigation in self.prepared.stack.mitigations:
            probe = mitigation.probe(task, task.training_set, epochs, last)
            if probe is None:
                continue
            inputs = (task.training_set.inputs, self.validation, self.test)
            nothing = torch.empty(len(probe.places) + len(probe.others), 0)
            predicted = [(probe.predict(each) if len(each) else nothing).numpy() for each in inputs]
            judged = [
                metrics.score_classifier(
                    training,
                    held_out,
                    test,
                    clean,
                    observed,
                    labels.validation,
                    dataset.test.targets,
                    self.label_status,
                )
                for training, held_out, test in zip(*predicted, strict=True)
            ]
            energies: list[list[float] | None] = [None, None]
            if probe.energy is not None:
                directions = metrics.label_directions(clean, observed, dataset.num_classes)
                energies = [
                    probe.energy(torch.from_numpy(each)).tolist() if each.any() else None for each in directions
                ]
            found.append(
                ProbeRow(
                    mitigation=public_name(mitigation),
                    epochs=epochs,
                    axis=probe.axis,
                    places=list(probe.places),
                    judged=judged[: len(probe.places)],
                    others=dict(zip(probe.others, judged[len(probe.places) :], strict=True)),
                    signal_energy=energies[0],
                    noise_energy=energies[1],
                    chance_energy=None if probe.energy is None else [each / len(observed) for each in probe.places],
                    diagnostics=probe.diagnostics,
                )
            )
        return found

    def finish(self, task: Task) -> None:
        """Belief, correction, detectors and predictions of the trained stack."""
        stack, training_set = self.prepared.stack, task.training_set
        self._final = {
            "belief": stack.belief(task, training_set).float().cpu().numpy(),
            "correction": stack.correction(task, training_set).cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "test": task.predict(self.test).cpu().numpy(),
            "detectors": self.detectors(task),
        }

    def summary(self) -> dict[str, Any]:
        """Calibration on the test split, what became of corrected targets, and the quality of the belief."""
        samples = self.samples()
        corrected = (samples.correction != samples.observed) & (samples.clean >= 0)
        return {
            "calibration_error": metrics.calibration_error(self._final["test"], self.dataset.test.targets),
            "correction_accuracy": metrics.share((samples.correction == samples.clean)[corrected]),
            "detection": metrics.detect(samples.belief, self.label_status),
        }

    def samples(self) -> Samples:
        """One record per training example."""
        train = self.dataset.train
        final = self._final
        return Samples(
            train.index,
            self.labels.train,
            train.targets,
            final["belief"],
            final["prediction"],
            final["correction"],
            {
                key: values
                for name, each in final["detectors"].items()
                for key, values in ((name, each.score), (f"{name}_flagged", each.flagged))
            },
        )

    def predictions(self) -> Predictions:
        """The test predictions."""
        test = self.dataset.test
        by_epoch = torch.stack(self.by_epoch, 1).numpy().astype(np.int16)
        return Predictions(test.index, test.targets, self._final["test"], by_epoch)

    def write(self, record: RunRecord, folder: Path) -> None:
        """Tables of samples and predictions, and pages about detectors and probes."""
        import pandas

        from noisybench.plots.detectors import detector_page
        from noisybench.plots.probes import probe_page

        pandas.DataFrame(self.samples().columns()).to_parquet(folder / "samples.parquet", index=False)
        predictions = {key: list(value) if value.ndim > 1 else value for key, value in vars(self.predictions()).items()}
        pandas.DataFrame(predictions).to_parquet(folder / "predictions.parquet", index=False)
        if self.held_out_by_epoch:
            held_out = self.dataset.validation
            columns = {
                "index": held_out.index,
                "clean": held_out.targets,
                "observed": self.labels.validation,
                "by_epoch": list(torch.stack(self.held_out_by_epoch, 1).numpy()),
            }
            pandas.DataFrame(columns).to_parquet(folder / "validation.parquet", index=False)
        if self._final["detectors"]:
            detector_page(record, self.label_status, self._final["detectors"], self.curves, folder / "detectors.png")
        for name in dict.fromkeys(each.mitigation for each in record.probes):
            rows = [each for each in record.probes if each.mitigation == name]
            probe_page(record, rows, folder / f"probe_{name}.png")

    def _corrected(self, task: Task) -> dict[str, float]:
        """Share of wrong labels on images of a class that the stack would correct to the clean one, if it corrects any."""
        wrong = self.label_status == IN_DISTRIBUTION
        if not wrong.any() or not any(each.overrides("correction") for each in self.prepared.stack.mitigations):
            return {}
        correction = self.prepared.stack.correction(task, task.training_set).cpu().numpy()
        return {"corrected": float((correction == self.dataset.train.targets)[wrong].mean())}

    def _left(self, task: Task) -> dict[str, float]:
        """Where the stack selects examples: the share that is trained on, and the share of wrong labels among it."""
        if task.weights is None:
            return {}
        kept = (task.weights > 0).cpu().numpy()
        states = self.label_status[kept]
        wrong = metrics.share((states != CLEAN)[states <= OUT_OF_DISTRIBUTION])
        return {"kept": float(kept.mean())} | ({} if wrong is None else {"wrong_among_kept": wrong})

    def _elsewhere(self, task: Task) -> dict[str, float]:
        """Accuracy on test sets of shifted distribution, each and on average."""
        found = {
            f"shifted.{name}": self._score(task, inputs, self.dataset.shifted[name].targets)[0]
            for name, inputs in self._shifted.items()
        }
        return found | ({"shifted": float(np.mean(list(found.values())))} if found else {})

    def _score(self, task: Task, inputs: Tensor | DiskTensor, targets: Any) -> tuple[float, float, Tensor]:
        """Accuracy, cross-entropy in nats, and the predicted classes on the host."""
        probabilities = task.predict(inputs).cpu()
        wanted = torch.from_numpy(targets)
        predicted = probabilities.argmax(1)
        loss = metrics.cross_entropy(probabilities.numpy(), targets)
        return (predicted == wanted).double().mean().item(), loss, predicted

"""What a run records: the recorder evaluates after each epoch, keeps the facts, and writes the checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from noisybench import metrics
from noisybench.auxiliary import Charge
from noisybench.checkpoints import weights_digest
from noisybench.dataset import Dataset, LazyImages
from noisybench.files import write_atomically
from noisybench.labels import CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, LabelSet, noise_states
from noisybench.mitigation import public_name
from noisybench.records import Cost, DetectorScores, EpochRow, Predictions, ProbeRow, RunRecord, Samples
from noisybench.spec import RunSpec
from noisybench.stack import Stack
from noisybench.task import Task, learning_rate
from noisybench.training_set import LazyTensor

Report = Callable[[Literal["epoch", "auxiliary"], dict[str, Any]], None]
"""Told of each epoch of the run, and of auxiliary runs that it waits for: ``report("epoch", {...})``."""


@dataclasses.dataclass
class Prepared:
    """A run that passed all checks, with everything it needs in memory."""

    spec: RunSpec
    dataset: Dataset
    labels: LabelSet
    stack: Stack


class Recorder(Callback):
    """Evaluates after each epoch, keeps the rows and writes the checkpoint. It alone holds the truth."""

    def __init__(
        self,
        prepared: Prepared,
        folder: Path,
        send: Callable[[list[EpochRow]], None],
        report: Report,
        stop: Callable[[], bool],
    ) -> None:
        self.prepared, self.folder = prepared, folder
        self._send, self._report, self._stop = send, report, stop
        self.rows: list[EpochRow] = []
        self.by_epoch: list[Tensor] = []
        self.complete = False
        self._spent = {"wall": 0.0, "train": 0.0, "device": 0.0, "examples": 0.0}
        self._final: dict[str, Any] = {}
        self.curves: dict[str, list[Any]] = {}
        self.probes: list[ProbeRow] = []
        self.charges: list[Charge] = []
        applied, observed = prepared.dataset, prepared.labels.train
        self._states = noise_states(applied.train.targets, observed)

    def state_dict(self) -> dict[str, Any]:
        """Rows and costs so far."""
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "probes": [dataclasses.asdict(row) for row in self.probes],
            "by_epoch": self.by_epoch,
            "curves": {name: [curve.tolist() for curve in curves] for name, curves in self.curves.items()},
            "spent": dict(self._spent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of an interrupted run."""
        self.rows = [EpochRow(**row) for row in state_dict["rows"]]
        self.probes = [ProbeRow.from_dict(row) for row in state_dict["probes"]]
        self.by_epoch = list(state_dict["by_epoch"])
        self._spent = dict(state_dict["spent"])
        self.curves = {n: [np.array(c, dtype=np.float32) for c in curves] for n, curves in state_dict["curves"].items()}

    def charge(self, charges: Sequence[Charge]) -> None:
        """Book what auxiliary runs took, whether or not they were trained just now."""
        self.charges = list(charges)
        for each in charges:
            self._spent["wall"] += each.wall_seconds
            self._spent["train"] += each.wall_seconds
            self._spent["device"] += each.device_seconds
            self._spent["examples"] += each.examples

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks, bring the held-out inputs to the device, and send what an interrupted run has not sent."""
        device, dataset = trainer.strategy.root_device, self.prepared.dataset
        self._test, self._validation = (_placed(each.inputs, device) for each in (dataset.test, dataset.validation))
        self._shifted = {name: _placed(each.inputs, device) for name, each in dataset.shifted.items()}
        self._wall, self._process = time.perf_counter(), time.process_time()
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self.rows:
            self._send(self.rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the untrained network."""
        assert isinstance(pl_module, Task)
        if not self.rows:
            self._probe(pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and write the checkpoint, whole or not at all."""
        assert isinstance(pl_module, Task)
        self._add_row(pl_module, "train", trainer.current_epoch)
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._probe(pl_module, trainer.current_epoch + 1)
        self._clock(pl_module)
        partial = self.folder / "checkpoint.partial"
        trainer.save_checkpoint(partial)
        partial.replace(self.folder / "checkpoint.ckpt")
        self._send(self.rows[-1:])
        row = self.rows[-1]
        self._report("epoch", {"epoch": row.epoch, "epochs": trainer.max_epochs, **row.metrics()})
        if self._stop() and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refine, and take the final predictions, unless the run was interrupted."""
        assert isinstance(pl_module, Task)
        if len([row for row in self.rows if row.stage == "train"]) < (trainer.max_epochs or 0):
            return
        stack, training_set = self.prepared.stack, pl_module.training_set
        self._probe(pl_module, trainer.max_epochs or 0, last=True)
        changed = [each.refine(pl_module, training_set) for each in stack.mitigations]
        if any(changed):
            pl_module.networks_changed()
            self._add_row(pl_module, "refine", self.rows[-1].epoch)
        self._clock(pl_module)
        self._final = {
            "belief": stack.belief(pl_module, training_set).float().cpu().numpy(),
            "correction": stack.correction(pl_module, training_set).cpu().numpy(),
            "prediction": pl_module.training_probabilities().argmax(1).cpu().numpy(),
            "test": pl_module.predict(self._test).cpu().numpy(),
            "detectors": self._detectors(pl_module),
            "parameters": sum(each.numel() for each in pl_module.parameters() if each.requires_grad),
            "peak": _peak_memory(pl_module.device),
            "weights": {
                name: tensor.cpu()
                for trained in (pl_module.networks, pl_module.heads)
                for name, tensor in trained.state_dict().items()
            },
        }
        self.complete = True

    def record(self, environment: dict[str, str]) -> RunRecord:
        """The complete record of a finished run."""
        spec, labels, samples = self.prepared.spec, self.prepared.labels, self.samples()
        corrected = (samples.correction != samples.observed) & (samples.clean >= 0)
        manifest = {k: v for k, v in labels.manifest.items() if k not in ("transition_counts", "transition_matrix")}
        return RunRecord(
            identity=spec.identity,
            spec=spec.as_dict(),
            title=spec.title,
            stack=spec.stack,
            seed=spec.seed,
            dataset=spec.dataset_label,
            noise=spec.noise.label(hide=("path",)),
            label_set=labels.hash,
            budget=spec.budget_hash,
            manifest=manifest,
            knowledge=list(self.prepared.stack.knowledge),
            rows=self.rows,
            calibration_error=metrics.calibration_error(self._final["test"], self.prepared.dataset.test.targets),
            correction_accuracy=metrics.share((samples.correction == samples.clean)[corrected]),
            detection=metrics.detect(samples.belief, self._states),
            cost=self._cost(),
            weights_sha256=weights_digest(self._final["weights"]),
            environment=environment,
            auxiliary=[dataclasses.asdict(each) for each in self.charges],
            probes=self.probes,
            task=spec.task_label,
        )

    def samples(self) -> Samples:
        """One record per training example."""
        train = self.prepared.dataset.train
        final = self._final
        return Samples(
            train.index,
            self.prepared.labels.train,
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
        test = self.prepared.dataset.test
        by_epoch = torch.stack(self.by_epoch, 1).numpy().astype(np.int16)
        return Predictions(test.index, test.targets, self._final["test"], by_epoch)

    def write(self, record: RunRecord, folder: Path) -> None:
        """Write all files of a finished run; `record.json` comes last and marks the folder as complete."""
        import pandas

        from noisybench.pictures import detector_page, learning_curves, probe_page

        folder.mkdir(exist_ok=True)
        pandas.DataFrame(self.samples().columns()).to_parquet(folder / "samples.parquet", index=False)
        predictions = {key: list(value) if value.ndim > 1 else value for key, value in vars(self.predictions()).items()}
        pandas.DataFrame(predictions).to_parquet(folder / "predictions.parquet", index=False)
        (folder / "manifest.json").write_text(json.dumps(self.prepared.labels.manifest))
        (folder / "spec.json").write_text(json.dumps(record.spec, indent=2))
        learning_curves(record, folder / "curves.png")
        if self._final["detectors"]:
            detector_page(record, self._states, self._final["detectors"], self.curves, folder / "detectors.png")
        for name in dict.fromkeys(each.mitigation for each in record.probes):
            probe_page(
                record, [each for each in record.probes if each.mitigation == name], folder / f"probe_{name}.png"
            )
        if self.prepared.spec.execution.save_weights:
            torch.save(self._final["weights"], folder / "weights.pt")
        write_atomically(folder / "record.json", json.dumps(record.as_dict()).encode())

    def _add_row(self, task: Task, stage: str, epoch: int) -> None:
        dataset, labels, states = self.prepared.dataset, self.prepared.labels, self._states
        observed, clean = labels.train, dataset.train.targets
        predicted = task.training_probabilities().argmax(1).cpu().numpy()
        belief = self.prepared.stack.belief(task, task.training_set).float().cpu().numpy()
        detection = metrics.detection_by_state(-belief, states)
        outsiders = (states == OUT_OF_DISTRIBUTION).any()
        test_accuracy, test_loss, test_predicted = self._score(task, self._test, dataset.test.targets)
        validated = len(labels.validation) > 0
        val_accuracy, val_loss, _ = (
            self._score(task, self._validation, labels.validation) if validated else (None, None, None)
        )
        self.by_epoch.append(test_predicted.to(torch.int16))
        trained, stack = stage == "train", self.prepared.stack.mitigations
        self.rows.append(
            EpochRow(
                epoch=epoch,
                stage=stage,
                train_loss=task.train_loss if trained else None,
                train_accuracy=float((predicted == observed).mean()),
                noisy_val_accuracy=val_accuracy,
                noisy_val_loss=val_loss,
                test_accuracy=test_accuracy,
                test_loss=test_loss,
                memorised=metrics.share(
                    (predicted == observed)[np.isin(states, (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION))]
                ),
                recovered=metrics.share((predicted == clean)[states == IN_DISTRIBUTION]),
                detection_auroc=detection["any"],
                label_detection_auroc=detection["label"] if outsiders else None,
                outsider_detection_auroc=detection["outsider"],
                detectors=self._judged(task) if trained else {},
                learning_rate=task.stack.learning_rate_times * learning_rate(task.budget, epoch + 1)
                if trained
                else None,
                seconds=task.train_seconds if trained else 0.0,
                time=int(time.time() * 1000),
                facts=self._corrected(task)
                | self._left(task)
                | self._elsewhere(task)
                | (task.describe(self._test) if epoch + 1 == task.budget.epochs else {})
                | {f"{public_name(each)}.{key}": value for each in stack for key, value in each.facts.items()},
                notes=[f"{public_name(each)}: {note}" for each in stack for note in each.notes],
            )
        )
        for each in stack:
            each.facts, each.notes = {}, []

    def _corrected(self, task: Task) -> dict[str, float]:
        """Share of wrong labels on images of a class that the stack would correct to the clean one, if it corrects any."""
        wrong = self._states == IN_DISTRIBUTION
        if not wrong.any() or not any(each.overrides("correction") for each in self.prepared.stack.mitigations):
            return {}
        correction = self.prepared.stack.correction(task, task.training_set).cpu().numpy()
        return {"corrected": float((correction == self.prepared.dataset.train.targets)[wrong].mean())}

    def _left(self, task: Task) -> dict[str, float]:
        """Where the stack selects examples: the share that is trained on, and the share of wrong labels among it."""
        if task.weights is None:
            return {}
        kept = (task.weights > 0).cpu().numpy()
        states = self._states[kept]
        wrong = metrics.share((states != CLEAN)[states <= OUT_OF_DISTRIBUTION])
        return {"kept": float(kept.mean())} | ({} if wrong is None else {"wrong_among_kept": wrong})

    def _elsewhere(self, task: Task) -> dict[str, float]:
        """Accuracy on test sets of shifted distribution, each and on average."""
        found = {
            f"shifted.{name}": self._score(task, inputs, self.prepared.dataset.shifted[name].targets)[0]
            for name, inputs in self._shifted.items()
        }
        return found | ({"shifted": float(np.mean(list(found.values())))} if found else {})

    def _detectors(self, task: Task) -> dict[str, DetectorScores]:
        """What the stack's detectors say now, on the host."""
        found: dict[str, DetectorScores] = {}
        for mitigation in self.prepared.stack.mitigations:
            for name, each in mitigation.detectors(task, task.training_set).items():
                score, flagged = each.score.float().cpu().numpy(), each.flagged.bool().cpu().numpy()
                found[name] = DetectorScores(score, flagged, each.mixture)
        return found

    def _judged(self, task: Task) -> dict[str, dict[str, float | None]]:
        """The detectors against the truth, and how far any two of them agree."""
        detectors = self._detectors(task)
        judged = {name: metrics.judge(each.score, each.flagged, self._states) for name, each in detectors.items()}
        for name, each in detectors.items():
            curve = metrics.roc_curve(each.score, self._states)
            if curve is not None:
                self.curves.setdefault(name, []).append(curve)
        for (name, first), (other, second) in itertools.combinations(detectors.items(), 2):
            judged[f"{name}_with_{other}"] = {"correlation": metrics.correlation(first.flagged, second.flagged)}
        return judged

    def _probe(self, task: Task, epochs: int, last: bool = False) -> None:
        """Judge the classifiers that mitigations have beside the networks' own; what that takes is no cost of the run."""
        self._clock(task)
        dataset, labels = self.prepared.dataset, self.prepared.labels
        clean, observed = dataset.train.targets, labels.train
        for mitigation in self.prepared.stack.mitigations:
            probe = mitigation.probe(task, task.training_set, epochs, last)
            if probe is None:
                continue
            inputs = (task.training_set.inputs, self._validation, self._test)
            nothing = torch.empty(len(probe.places) + len(probe.others), 0)
            predicted = [(probe.predict(each) if len(each) else nothing).numpy() for each in inputs]
            judged = [
                metrics.judge_classifier(
                    training, held_out, test, clean, observed, labels.validation, dataset.test.targets, self._states
                )
                for training, held_out, test in zip(*predicted, strict=True)
            ]
            energies: list[list[float] | None] = [None, None]
            if probe.energy is not None:
                directions = metrics.label_directions(clean, observed, dataset.num_classes)
                energies = [
                    probe.energy(torch.from_numpy(each)).tolist() if each.any() else None for each in directions
                ]
            self.probes.append(
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
                    facts=probe.facts,
                )
            )
        self._wall, self._process = time.perf_counter(), time.process_time()

    def _score(self, task: Task, inputs: Tensor | LazyTensor, targets: Any) -> tuple[float, float, Tensor]:
        """Accuracy, cross-entropy in nats, and the predicted classes on the host."""
        probabilities = task.predict(inputs).cpu()
        wanted = torch.from_numpy(targets)
        predicted = probabilities.argmax(1)
        loss = functional.nll_loss(probabilities.clamp_min(1e-12).log(), wanted).item()
        return (predicted == wanted).double().mean().item(), loss, predicted

    def _clock(self, task: Task) -> None:
        """Book the time since the last call."""
        wall, process = time.perf_counter(), time.process_time()
        on_gpu = task.device.type != "cpu"
        self._spent["wall"] += wall - self._wall
        self._spent["device"] += wall - self._wall if on_gpu else process - self._process
        self._spent["train"] += task.train_seconds
        self._spent["examples"] += task.examples_seen
        task.train_seconds, task.examples_seen = 0.0, 0
        self._wall, self._process = wall, process

    def _cost(self) -> Cost:
        spent = self._spent
        return Cost(
            wall_seconds=spent["wall"],
            train_seconds=spent["train"],
            device_seconds=spent["device"],
            peak_memory_bytes=self._final["peak"],
            parameters=self._final["parameters"],
            images_per_second=spent["examples"] / max(spent["train"], 1e-9),
        )


def _placed(images: Any, device: torch.device) -> Tensor | LazyTensor:
    """Inputs on the training device, copied once; lazy ones stay on disk."""
    return LazyTensor(images) if isinstance(images, LazyImages) else torch.from_numpy(images).to(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

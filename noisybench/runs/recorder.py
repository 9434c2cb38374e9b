"""What a run records: the recorder evaluates after each epoch, keeps the facts, and writes the checkpoint."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from noisybench.nn.weights import weights_digest
from noisybench.records.schema import Cost, EpochRow, ProbeRow, RunRecord
from noisybench.training.auxiliary import AuxiliaryCost
from noisybench.training.evaluator import Evaluator
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.schedule import learning_rate_at
from noisybench.training.task import Task
from noisybench.utils.files import write_atomically

ProgressCallback = Callable[[Literal["epoch", "auxiliary"], dict[str, Any]], None]
"""Told of each epoch of the run, and of auxiliary runs that it waits for: ``report("epoch", {...})``."""


class Recorder(Callback):
    """Evaluates after each epoch, keeps the rows and writes the checkpoint. It alone holds the truth."""

    def __init__(
        self,
        prepared: PreparedRun,
        evaluator: Evaluator,
        folder: Path,
        send: Callable[[list[EpochRow]], None],
        report: ProgressCallback,
        stop: Callable[[], bool],
    ) -> None:
        self.prepared, self.evaluator, self.folder = prepared, evaluator, folder
        self._send, self._report, self._stop = send, report, stop
        self.rows: list[EpochRow] = []
        self.complete = False
        self._spent = {"wall": 0.0, "train": 0.0, "device": 0.0, "examples": 0.0}
        self._final: dict[str, Any] = {}
        self.probes: list[ProbeRow] = []
        self.charges: list[AuxiliaryCost] = []

    def state_dict(self) -> dict[str, Any]:
        """Rows and costs so far."""
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "probes": [dataclasses.asdict(row) for row in self.probes],
            "judge": self.evaluator.state_dict(),
            "spent": dict(self._spent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of an interrupted run."""
        self.rows = [EpochRow(**row) for row in state_dict["rows"]]
        self.probes = [ProbeRow.from_dict(row) for row in state_dict["probes"]]
        self.evaluator.load_state_dict(state_dict["judge"])
        self._spent = dict(state_dict["spent"])

    def charge(self, charges: Sequence[AuxiliaryCost]) -> None:
        """Book what auxiliary runs took, whether or not they were trained just now."""
        self.charges = list(charges)
        for each in charges:
            self._spent["wall"] += each.wall_seconds
            self._spent["train"] += each.wall_seconds
            self._spent["device"] += each.device_seconds
            self._spent["examples"] += each.examples

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks, bring the held-out inputs to the device, and send what an interrupted run has not sent."""
        self.evaluator.move_to(trainer.strategy.root_device)
        self._wall, self._process = time.perf_counter(), time.process_time()
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self.rows:
            self._send(self.rows)
            self._report("epoch", told(self.rows, trainer.max_epochs))

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
        if trainer.is_global_zero:
            partial.replace(self.folder / "checkpoint.ckpt")
        self._send(self.rows[-1:])
        self._report("epoch", told(self.rows, trainer.max_epochs))
        # Of several processes the first one is asked to stop, and all do.
        if trainer.strategy.reduce_boolean_decision(self._stop(), all=False):
            trainer.should_stop = trainer.current_epoch + 1 < (trainer.max_epochs or 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refine, and take the final predictions, unless the run was interrupted."""
        assert isinstance(pl_module, Task)
        if self.trained < (trainer.max_epochs or 0):
            return
        stack, training_set = self.prepared.stack, pl_module.training_set
        self._probe(pl_module, trainer.max_epochs or 0, last=True)
        if stack.refine(pl_module, training_set):
            pl_module.invalidate_cache()
            self._add_row(pl_module, "refine", self.rows[-1].epoch)
        self._clock(pl_module)
        self.evaluator.finalize(pl_module)
        self._final = {
            "parameters": sum(each.numel() for each in pl_module.parameters() if each.requires_grad),
            "peak": _peak_memory(pl_module.device),
            "weights": {
                name: tensor.cpu()
                for trained in (pl_module.networks, pl_module.heads)
                for name, tensor in trained.state_dict().items()
            },
        }
        self.complete = True

    @property
    def trained(self) -> int:
        """Epochs that are recorded."""
        return len([row for row in self.rows if row.stage == "train"])

    def record(self, environment: dict[str, str]) -> RunRecord:
        """The complete record of a finished run."""
        spec, labels = self.prepared.spec, self.prepared.labels
        manifest = {k: v for k, v in labels.manifest.items() if k not in ("transition_counts", "transition_matrix")}
        return RunRecord(
            identity=spec.identity,
            spec=spec.as_dict(),
            title=spec.title,
            stack=spec.stack,
            seed=spec.seed,
            dataset=spec.dataset_label,
            noise=spec.noise.display_name(hide=("path",)),
            label_set=labels.hash,
            budget=spec.budget_hash,
            manifest=manifest,
            privileged=list(self.prepared.privileged),
            rows=self.rows,
            **self.evaluator.summary(),
            cost=self._cost(),
            weights_sha256=weights_digest(self._final["weights"]),
            environment=environment,
            auxiliary=[dataclasses.asdict(each) for each in self.charges],
            probes=self.probes,
            task=spec.task_label,
        )

    def write(self, record: RunRecord, folder: Path) -> None:
        """Write all files of a finished run; `record.json` comes last and marks the folder as complete."""
        from noisybench.plots.runs import plot_learning_curves

        folder.mkdir(exist_ok=True)
        self.evaluator.save(record, folder)
        (folder / "manifest.json").write_text(json.dumps(self.prepared.labels.manifest))
        (folder / "spec.json").write_text(json.dumps(record.spec, indent=2))
        plot_learning_curves(record, folder / "curves.png")
        if self.prepared.spec.execution.save_weights:
            torch.save(self._final["weights"], folder / "weights.pt")
        write_atomically(folder / "record.json", json.dumps(record.as_dict()).encode())

    def _add_row(self, task: Task, stage: str, epoch: int) -> None:
        judged = self.evaluator.evaluate_epoch(task, stage)
        trained, stack = stage == "train", self.prepared.stack.mitigations
        told = {f"{public_name(each)}.{key}": value for each in stack for key, value in each.diagnostics.items()}
        described = task.final_diagnostics(self.evaluator.test) if epoch + 1 == task.budget.epochs else {}
        self.rows.append(
            EpochRow(
                **{**judged, "diagnostics": judged["diagnostics"] | described | told},
                epoch=epoch,
                stage=stage,
                metric=self.evaluator.metric,
                train_loss=task.train_loss if trained else None,
                learning_rate=task.stack.requirements.lr_multiplier * learning_rate_at(task.budget, epoch + 1)
                if trained
                else None,
                seconds=task.train_seconds if trained else 0.0,
                time=int(time.time() * 1000),
                warnings=[f"{public_name(each)}: {note}" for each in stack for note in each.warnings],
            )
        )
        for each in stack:
            each.diagnostics, each.warnings = {}, []

    def _probe(self, task: Task, epochs: int, last: bool = False) -> None:
        """Have probes judged; what that takes is no cost of the run."""
        self._clock(task)
        self.probes += self.evaluator.probe(task, epochs, last)
        self._wall, self._process = time.perf_counter(), time.process_time()

    def _clock(self, task: Task) -> None:
        """Book the time since the last call."""
        wall, process = time.perf_counter(), time.process_time()
        on_gpu = task.device.type != "cpu"
        self._spent["wall"] += wall - self._wall
        # The other devices are busy, or wait, just as long.
        spent = wall - self._wall if on_gpu else process - self._process
        self._spent["device"] += spent * task.budget.devices
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


def told(rows: Sequence[EpochRow], epochs: int | None) -> dict[str, Any]:
    """What is reported of the latest epoch of so many."""
    row = rows[-1]
    return {
        "epoch": row.epoch,
        "epochs": epochs,
        "noisy_val": row.noisy_val_score,
        "clean_val": row.clean_val_score,
        "train_seconds": sum(each.seconds for each in rows),
        **row.metrics(),
    }


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

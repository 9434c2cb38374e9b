"""Record a run: evaluate every epoch, account for its cost, and assemble the final record."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from noisybench.nn.weights import weights_digest
from noisybench.records.schema import Cost, EpochRow, ProbeRow, RunRecord
from noisybench.runs.saved_model import TrainedModel, is_saved, trained_model
from noisybench.tracking.models import FOLDER
from noisybench.training.auxiliary import AuxiliaryCost
from noisybench.training.evaluator import Evaluator
from noisybench.training.mitigation import public_name
from noisybench.training.prepared import PreparedRun
from noisybench.training.schedule import learning_rate_at
from noisybench.training.task import Task
from noisybench.utils.files import write_atomically

ProgressCallback = Callable[[Literal["epoch", "auxiliary"], dict[str, Any]], None]
"""Called after every epoch of a run, and of the auxiliary runs that it trains: ``report("epoch", {...})``."""


class Recorder:
    """Rows, probes, costs and final predictions of one run.

    Args:
        prepared: run that is trained.
        evaluator: evaluator of its task.
        send: called with new rows.
        report: called after every epoch.

    Attributes:
        rows: one row per epoch, and one for networks that were refined after training.
        probes: scores of classifiers that mitigations fit beside the networks' own.
        auxiliary_costs: costs of the auxiliary runs that the run used.
        complete: True once the final predictions are kept.
        model: deployed networks of the run, once it is complete.
    """

    model: TrainedModel

    def __init__(
        self,
        prepared: PreparedRun,
        evaluator: Evaluator,
        send: Callable[[list[EpochRow]], None],
        report: ProgressCallback,
    ) -> None:
        self.prepared, self.evaluator = prepared, evaluator
        self._send, self._report = send, report
        self.rows: list[EpochRow] = []
        self.probes: list[ProbeRow] = []
        self.auxiliary_costs: list[AuxiliaryCost] = []
        self.complete = False
        self._num_sent = 0
        self._cost = {"wall": 0.0, "train": 0.0, "device": 0.0, "examples": 0.0}
        self._final: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return rows, probes and costs so far, for a checkpoint."""
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "probes": [dataclasses.asdict(row) for row in self.probes],
            "evaluator": self.evaluator.state_dict(),
            "cost": dict(self._cost),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore rows, probes and costs of an interrupted run."""
        self.rows = [EpochRow(**row) for row in state_dict["rows"]]
        self.probes = [ProbeRow.from_dict(row) for row in state_dict["probes"]]
        self.evaluator.load_state_dict(state_dict["evaluator"])
        self._cost = dict(state_dict["cost"])

    def add_auxiliary_costs(self, costs: Sequence[AuxiliaryCost]) -> None:
        """Add the costs of auxiliary runs, whether they were trained just now or taken from the cache."""
        self.auxiliary_costs = list(costs)
        for cost in costs:
            self._cost["wall"] += cost.wall_seconds
            self._cost["train"] += cost.wall_seconds
            self._cost["device"] += cost.device_seconds
            self._cost["examples"] += cost.examples

    def start(self, task: Task) -> None:
        """Start the clocks, and send the rows that an interrupted run may not have sent."""
        self.evaluator.move_to(task.device)
        self._wall, self._process = time.perf_counter(), time.process_time()
        if task.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self.rows:
            self.send_rows()
            self._report("epoch", progress_event(self.rows, task.budget.epochs))

    def end_epoch(self, task: Task, epoch: int) -> None:
        """Evaluate an epoch, add its row, and report it."""
        self._add_row(task, "train", epoch)
        # The probe after the last epoch belongs to `finish`, which marks it as the last.
        if epoch + 1 < task.budget.epochs:
            self.add_probes(task, epoch + 1)
        self._tick(task)
        self._report("epoch", progress_event(self.rows, self.prepared.spec.budget.epochs))

    def send_rows(self) -> None:
        """Send the rows that were not sent yet."""
        if self._num_sent < len(self.rows):
            self._send(self.rows[self._num_sent :])
            self._num_sent = len(self.rows)

    def finish(self, task: Task) -> None:
        """Run post-processors, and keep the final predictions and weights."""
        # Before post-processing, because probes describe the networks as training has left them.
        self.add_probes(task, task.budget.epochs, last=True)
        if self.prepared.stack.refine(task, task.training_set):
            # Cached predictions belong to the weights before the change.
            task.invalidate_cache()
            self._add_row(task, "refine", self.rows[-1].epoch)
        self._tick(task)
        self.evaluator.finalize(task)
        weights = {
            name: tensor.cpu()
            for modules in (task.networks, task.heads)
            for name, tensor in modules.state_dict().items()
        }
        self._final = {
            "parameters": sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad),
            "peak": _peak_memory(task.device),
            "weights": weights,
        }
        self.model = trained_model(self.prepared.spec, self.prepared.dataset, task, weights)
        self.complete = True

    def record(self, environment: dict[str, str]) -> RunRecord:
        """Return the complete record of a finished run."""
        spec, labels = self.prepared.spec, self.prepared.labels
        content = spec.as_dict()
        # The C x C matrices would dominate the size of the record; `manifest.json` has them.
        manifest = {
            name: entry
            for name, entry in labels.manifest.items()
            if name not in ("transition_counts", "transition_matrix")
        }
        return RunRecord(
            identity=spec.identity,
            spec={**content, "execution": {**content["execution"], "save_model": self.saves_model}},
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
            cost=self._total_cost(),
            weights_sha256=weights_digest(self._final["weights"]),
            environment=environment,
            settings=spec.settings_hash,
            code=spec.code,
            auxiliary=[dataclasses.asdict(cost) for cost in self.auxiliary_costs],
            probes=self.probes,
            task=spec.task_label,
        )

    def write(self, record: RunRecord, folder: Path) -> None:
        """Write all files of a finished run; `record.json` is the last one and marks the folder as complete."""
        folder.mkdir(exist_ok=True)
        self.evaluator.save(record, folder)
        (folder / "manifest.json").write_text(json.dumps(self.prepared.labels.manifest))
        (folder / "spec.json").write_text(json.dumps(record.spec, indent=2))
        if self.saves_model:
            # An attempt that died while it wrote may have left a part of it.
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
            self.model.save(folder / FOLDER)
        write_atomically(folder / "record.json", json.dumps(record.as_dict()).encode())

    @property
    def saves_model(self) -> bool:
        """True if the run saves its model, which the record states."""
        return is_saved(self.prepared.spec, self.model.num_bytes)

    def add_probes(self, task: Task, epochs: int, last: bool = False) -> None:
        """Score the classifiers of mitigations after a number of epochs; this time is not part of the run's cost."""
        self._tick(task)
        # The cost so far has been added above; the clocks restart afterward, which leaves the probe out.
        self.probes += self.evaluator.probe(task, epochs, last)
        self._wall, self._process = time.perf_counter(), time.process_time()

    def _add_row(self, task: Task, stage: str, epoch: int) -> None:
        scores = self.evaluator.evaluate_epoch(task, stage)
        is_trained, mitigations = stage == "train", self.prepared.stack.mitigations
        diagnostics, warnings = dict(scores["diagnostics"]), scores.get("warnings", [])
        if epoch + 1 == task.budget.epochs:
            diagnostics |= task.final_diagnostics(self.evaluator.test)
        for mitigation in mitigations:
            name = public_name(mitigation)
            diagnostics |= {f"{name}.{key}": value for key, value in mitigation.diagnostics.items()}
        span = task.phases.span(epoch)
        if len(task.phases.spans) > 1:
            diagnostics["phase"] = float(task.phases.number(epoch))
        scheduled = learning_rate_at(span.budget, epoch + 1 - span.schedule_start)
        learning_rate = task.stack.requirements.lr_multiplier * scheduled
        self.rows.append(
            EpochRow(
                **{name: value for name, value in scores.items() if name not in ("diagnostics", "warnings")},
                diagnostics=diagnostics,
                epoch=epoch,
                stage=stage,
                metric=self.evaluator.metric,
                train_loss=task.train_loss if is_trained else None,
                learning_rate=learning_rate if is_trained else None,
                seconds=task.train_seconds if is_trained else 0.0,
                time=int(time.time() * 1000),
                warnings=[
                    *(self.prepared.spec.notes if is_trained and epoch == 0 else ()),
                    *(
                        f"{public_name(mitigation)}: {warning}"
                        for mitigation in mitigations
                        for warning in mitigation.warnings
                    ),
                    *warnings,
                ],
            )
        )
        for mitigation in mitigations:
            # Cleared, so that later rows do not repeat values that were not measured again.
            mitigation.diagnostics, mitigation.warnings = {}, []

    def _tick(self, task: Task) -> None:
        """Add the time since the last call to the cost."""
        wall, process = time.perf_counter(), time.process_time()
        on_gpu = task.device.type != "cpu"
        self._cost["wall"] += wall - self._wall
        # All devices of a run compute, or wait for each other, equally long.
        elapsed = wall - self._wall if on_gpu else process - self._process
        self._cost["device"] += elapsed * task.budget.devices
        self._cost["train"] += task.train_seconds
        self._cost["examples"] += task.examples_seen
        # Reset, since the task counts from its last reset and these numbers have just been added.
        task.train_seconds, task.examples_seen = 0.0, 0
        self._wall, self._process = wall, process

    def _total_cost(self) -> Cost:
        return Cost(
            wall_seconds=self._cost["wall"],
            train_seconds=self._cost["train"],
            device_seconds=self._cost["device"],
            peak_memory_bytes=self._final["peak"],
            parameters=self._final["parameters"],
            images_per_second=self._cost["examples"] / max(self._cost["train"], 1e-9),
        )


def progress_event(rows: Sequence[EpochRow], epochs: int | None) -> dict[str, Any]:
    """Return what is reported after the latest epoch.

    Args:
        rows: all rows so far.
        epochs: number of epochs of the run.
    """
    row = rows[-1]
    return {
        "epoch": row.epoch,
        "epochs": epochs,
        "noisy_val": row.noisy_val_score,
        "clean_val": row.clean_val_score,
        "train_seconds": sum(row.seconds for row in rows),
        **row.metrics(),
    }


def _peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return peak if sys.platform == "darwin" else peak * 1024

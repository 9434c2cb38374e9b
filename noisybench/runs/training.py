"""Train one prepared run, or resume it from its checkpoint, with evaluation after every epoch and checkpoints by time."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from noisybench.config.loaded_code import LoadedCode
from noisybench.config.registry import get_entry
from noisybench.config.spec import RunSpec
from noisybench.errors import Interrupted
from noisybench.records.schema import EpochRow
from noisybench.runs.distributed import launch_distributed
from noisybench.runs.preparation import prepare_run, training_set_of
from noisybench.runs.recorder import ProgressCallback, Recorder
from noisybench.runs.run_folder import DamagedCheckpoint, RunFolder
from noisybench.training.auxiliary import CHECKPOINT_SHARE, AuxiliaryCache, OnTrained
from noisybench.training.loop import attach, load_optimizer, train_epoch
from noisybench.training.prepared import PreparedRun
from noisybench.training.task import Task
from noisybench.utils.files import first_line
from noisybench.utils.pauses import Pause
from noisybench.utils.processes import exit_with_parent, parent_has_ended
from noisybench.utils.seeds import use_deterministic_kernels


def train(
    prepared: PreparedRun,
    folder: Path,
    send: Callable[[list[EpochRow]], None],
    report: ProgressCallback,
    stop: Callable[[], bool],
    auxiliary_folder: Path | None = None,
    on_auxiliary: OnTrained | None = None,
    worker: tuple[int, int] | None = None,
) -> Recorder:
    """Train a run, from its checkpoint if there is one.

    Args:
        prepared: run that has passed all checks.
        folder: folder of the run.
        send: called with new rows.
        report: called after every epoch of the run and of auxiliary runs.
        stop: called after every epoch; the run is interrupted if it returns True.
        auxiliary_folder: folder that the run shares auxiliary runs with others (default: a folder of its own).
        on_auxiliary: called with cost, cache key and file of every auxiliary run that was trained.
        worker: rank and port of this process, if it is a worker of a distributed run.

    Returns:
        The recorder, which is complete unless the run was interrupted.

    Raises:
        CodeChanged: the code in this process is not the one that was planned.
    """
    spec = prepared.spec
    code = LoadedCode(spec)
    # The order of floating-point sums on a CPU depends on the number of threads.
    torch.set_num_threads(spec.num_threads)
    task_class = get_entry("tasks", spec.task.name).load_class()
    task: Task = task_class(spec.budget, spec.seed, training_set_of(prepared), prepared.stack, **spec.task.parameters)
    task.num_workers = spec.execution.num_workers
    task.captured.enabled = spec.execution.cuda_graphs
    task.auxiliary_cache = AuxiliaryCache(
        auxiliary_folder or folder / "auxiliary", report, stop, on_auxiliary, code.code_of
    )
    recorder = Recorder(prepared, task.evaluator(prepared), send, report)
    try:
        with launch_distributed(spec, _train_worker_rank, (spec, folder), worker) as fabric, warnings.catch_warnings():
            # A few GPU kernels have no deterministic implementation; `use_deterministic_kernels` selects one where it exists.
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            _fit(task, recorder, RunFolder(folder), fabric, stop)
    except DamagedCheckpoint as error:
        if worker is None:
            RunFolder(folder).set_aside_checkpoint(str(error))
            # Prepared again, because mitigations may have loaded a part of their state.
            again = prepare_run(spec, prepared.dataset, prepared.labels)
            prepared = dataclasses.replace(again, auxiliary_costs=prepared.auxiliary_costs)
            return train(prepared, folder, send, report, stop, auxiliary_folder, on_auxiliary)
    code.check_later_imports()
    return recorder


def _train_worker_rank(spec: RunSpec, folder: Path, rank: int, port: int) -> None:
    """Train the same run in a worker process; the main process alone records it."""
    exit_with_parent()
    try:
        # Prepared again from the specification, since sending the run would pickle the complete dataset.
        train(prepare_run(spec), folder, lambda rows: None, lambda kind, data: None, lambda: False, worker=(rank, port))
    except Exception:
        # A killed main process also breaks the connection of the processes, which is no error of its own.
        if parent_has_ended(timeout=1):
            os._exit(1)
        raise


def _fit(task: Task, recorder: Recorder, folder: RunFolder, fabric: Fabric, stop: Callable[[], bool]) -> None:
    """Train the epochs that remain; return early if the run is interrupted."""
    epochs = task.budget.epochs
    use_deterministic_kernels(fabric.device)
    try:
        attach(task, fabric)
    except Interrupted:
        return
    if fabric.world_size > 1:
        # Each process sees a shard of the batch, but the networks must be normalized by the statistics of all of it.
        # The result can be ignored, because the children of the module list are replaced in place.
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(task.networks)  # type: ignore[no-untyped-call]
    # Before the checkpoint is restored: its costs include these, and replace them.
    recorder.add_auxiliary_costs([*recorder.prepared.auxiliary_costs, *task.auxiliary_cache.costs])
    optimizer = task.configure_optimizers()
    trained_epochs = _restore(task, optimizer, recorder, folder)
    recorder.start(task)
    # After the checkpoint is restored, since the state that it holds is on the CPU.
    task.on_fit_start()
    # A run that is resumed after an epoch has scored this probe before.
    if not recorder.rows:
        recorder.add_probes(task, epochs=0)
    pause = Pause(CHECKPOINT_SHARE)
    for epoch in range(trained_epochs, epochs):
        train_epoch(task, optimizer, epoch)
        recorder.end_epoch(task, epoch)
        # The main process alone is asked to stop, and all processes follow.
        must_stop = bool(fabric.broadcast(stop()))
        # All processes hold the same state, so that one of them writes it. After the last epoch as well: there may be too
        # little time for the record.
        if fabric.is_global_zero and (must_stop or pause.is_over()):
            with pause.measured():
                folder.save_checkpoint(_checkpoint(task, optimizer, recorder, epoch + 1))
            # Rows follow the checkpoint that holds them: no row is sent twice with different times, and if the process
            # dies in between, `Recorder.start` sends them when the run is resumed.
            recorder.send_rows()
        if must_stop and epoch + 1 < epochs:
            return
    recorder.finish(task)


def _checkpoint(task: Task, optimizer: torch.optim.Optimizer, recorder: Recorder, epochs: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "trained_epochs": epochs,
        "task": task.state_dict(),
        "optimizer": optimizer.state_dict(),
        "recorder": recorder.state_dict(),
    }
    task.on_save_checkpoint(content)
    return content


def _restore(task: Task, optimizer: torch.optim.Optimizer, recorder: Recorder, folder: RunFolder) -> int:
    """Restore the checkpoint, if there is one, and return the number of trained epochs."""
    content = folder.load_checkpoint()
    if content is None:
        return 0
    try:
        task.load_state_dict(content["task"])
        load_optimizer(optimizer, content["optimizer"])
        recorder.load_state_dict(content["recorder"])
        task.on_load_checkpoint(content)
        return int(content["trained_epochs"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(f"its content does not fit the run: {first_line(error)}") from error

"""One run, from its specification to its records; resumable to the same bits."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import signal
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer

from noisybench.config.registry import get_entry
from noisybench.config.spec import WORKSPACE, RunSpec
from noisybench.data.lazy import Images, MemmapImages
from noisybench.errors import Interrupted, StoreUnavailable, TrainingError
from noisybench.records.schema import EpochRow, RunRecord
from noisybench.runs.distributed import together
from noisybench.runs.environment import describe_environment
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import ProgressCallback, Recorder, told
from noisybench.tracking.store import ActiveRun, Store
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryCost
from noisybench.training.distributed import has_batch_norm
from noisybench.training.prepared import PreparedRun
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor, TrainingSet, ValidationSet
from noisybench.utils.files import write_atomically
from noisybench.utils.locks import exclusive
from noisybench.utils.seeds import use_deterministic_kernels

AUXILIARY_DIR = WORKSPACE / "auxiliary"


def execute(spec: RunSpec, store: Store, report: ProgressCallback, stop: Callable[[], bool]) -> str:
    """Train one run, or go on with it, and record it.

    Args:
        spec: the run.
        store: where it is tracked.
        report: told of each epoch.
        stop: asked after each epoch whether to interrupt.

    Returns:
        ``finished``, or ``stopped`` where ``stop`` said so.

    Raises:
        UserError: it was refused.
        RunFailed: it broke for an understood reason. It is recorded as failed, as after any other exception.
    """
    folder = spec.run_dir()
    with exclusive(folder / "lock", stop, poll_interval=0.5) as acquired:
        if not acquired:
            return "stopped"
        if not spec.is_trial and store.runs.is_finished(spec.identity):  # by another process, meanwhile
            shutil.rmtree(folder)
            return "finished"
        facts = folder / "diagnostics"
        if (facts / "record.json").is_file():  # trained earlier, while the store could not be reached
            record = RunRecord.from_dict(json.loads((facts / "record.json").read_text()))
            tracked = store.start(
                spec, _tags(record.label_set, record.privileged, record.environment), _earlier(folder)
            )
            report("epoch", told(record.rows, spec.budget.epochs))
            return _publish(tracked, record, facts, folder)
        prepared = prepare_run(spec)
        environment = describe_environment(spec)
        tags = _tags(prepared.labels.hash, prepared.privileged, environment)
        with store.track(spec, tags, resume=_earlier(folder)) as tracked:
            write_atomically(folder / "run_id", tracked.run_id.encode())
            recorder = train(
                prepared,
                folder,
                _Sender(tracked),
                report,
                stop,
                AUXILIARY_DIR,
                lambda charge, meaning, file: _track_auxiliary(tracked, charge, meaning, file),
            )
            if not recorder.complete:
                return "stopped"
            record = recorder.record(environment)
            recorder.write(record, facts)
            return _publish(tracked, record, facts, folder)


def _earlier(folder: Path) -> str | None:
    file = folder / "run_id"
    return file.read_text() if file.is_file() else None


def _publish(tracked: ActiveRun, record: RunRecord, facts: Path, folder: Path) -> str:
    try:
        tracked.finish(record, facts)
    except (StoreUnavailable, OSError) as error:  # away, or without room for the files
        raise StoreUnavailable(
            f"training is done, but the store does not take the records ({str(error).splitlines()[0][:200]}); they are kept "
            f"in {facts} and will be sent, without training again, by the same command"
        ) from error
    shutil.rmtree(folder)
    return "finished"


def _track_auxiliary(tracked: ActiveRun, charge: AuxiliaryCost, meaning: dict[str, Any], file: Path) -> None:
    """Show an auxiliary run below the run that trained it; a store that is away takes nothing from the result."""
    try:
        tracked.log_auxiliary(charge.title, meaning, dataclasses.asdict(charge), file)
    except Exception as error:
        logging.getLogger("noisybench").warning("the store does not take the auxiliary run: %s", error)


def _tags(label_set: str, privileged: Iterable[str], environment: dict[str, str]) -> dict[str, str]:
    return {
        "label_set": label_set,
        "privileged": ", ".join(privileged),
        **{f"env.{k}": v for k, v in environment.items()},
    }


class _Sender:
    """Sends rows as they come; a store that goes away does not stop training, for all rows are sent again at the end."""

    def __init__(self, tracked: ActiveRun) -> None:
        self.tracked, self.behind = tracked, False

    def __call__(self, rows: list[EpochRow]) -> None:
        if self.behind:
            return
        try:
            self.tracked.log_rows(rows)
        except Exception as error:
            self.behind = True
            logging.getLogger("noisybench").warning(
                "the store does not take rows now, they follow at the end: %s", error
            )


def train(
    prepared: PreparedRun,
    folder: Path,
    send: Callable[[list[EpochRow]], None],
    report: ProgressCallback,
    stop: Callable[[], bool],
    auxiliary_folder: Path | None = None,
    finished: Callable[[AuxiliaryCost, dict[str, Any], Path], None] = lambda charge, meaning, file: None,
) -> Recorder:
    """Fit the task under its stack, from the checkpoint in ``folder`` if there is one.

    Args:
        prepared: the run.
        folder: of its checkpoint.
        send: takes new rows.
        report: told of each epoch.
        stop: asked after each epoch whether to interrupt.
        auxiliary_folder: where auxiliary runs are shared with other runs; by default a folder of its own.
        finished: told of each auxiliary run that was trained, and where its result is.

    Returns:
        The recorder, complete unless ``stop`` interrupted it.
    """
    spec = prepared.spec
    torch.set_num_threads(spec.execution.num_threads)
    quiet_lightning()
    training_set = _training_set(prepared)
    task_class = get_entry("tasks", spec.task.name).load_class()
    task: Task = task_class(spec.budget, spec.seed, training_set, prepared.stack, **spec.task.parameters)
    task.num_workers = spec.execution.num_workers
    recorder = Recorder(prepared, task.evaluator(prepared), folder, send, report, stop)
    with together(spec, _train_beside, (spec, folder)) as devices:
        _fit(task, recorder, devices, AuxiliaryCache(auxiliary_folder or folder / "auxiliary", report, stop, finished))
    return recorder


def _train_beside(spec: RunSpec, folder: Path) -> None:
    """Body of the process of a further device: the same run, of which the first process alone tells."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    train(prepare_run(spec), folder, lambda rows: None, lambda kind, data: None, lambda: False)


def _fit(task: Task, recorder: Recorder, devices: dict[str, Any], auxiliaries: AuxiliaryCache) -> None:
    spec, stack, folder = recorder.prepared.spec, recorder.prepared.stack, recorder.folder
    trainer = _trainer(spec, recorder, devices)
    on_processors = trainer.strategy.root_device.type == "cpu"
    if spec.budget.devices > 1 and on_processors and has_batch_norm(task.networks):
        raise TrainingError(
            "budget.devices: batch normalisation is shared among GPUs, not among processors; take a network without it"
        )
    use_deterministic_kernels(trainer.strategy.root_device)
    task.to(trainer.strategy.root_device)
    task.training_set.move_to(trainer.strategy.root_device)  # auxiliary runs train on it before the run does
    task.auxiliaries = auxiliaries
    try:
        task.prepare()
        task.adapt()
        for mitigation in stack.mitigations:
            mitigation.prepare(task, task.training_set)
    except Interrupted:
        return
    recorder.charge(task.auxiliaries.charges)
    checkpoint = folder / "checkpoint.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        # Lightning sees one batch per epoch: the task loops over the real ones.
        trainer.fit(task, train_dataloaders=range(1), ckpt_path=str(checkpoint) if checkpoint.is_file() else None)
    if not recorder.complete and recorder.trained == spec.budget.epochs:
        # Killed after its last checkpoint, before it was recorded: Lightning has nothing left to fit, and skips the end.
        task.to(trainer.strategy.root_device)
        recorder.on_train_end(trainer, task)


def _training_set(prepared: PreparedRun) -> TrainingSet:
    dataset, labels = prepared.dataset, prepared.labels
    held_out = None
    if len(dataset.validation):
        held_out = ValidationSet(_as_tensor(dataset.validation.inputs), torch.from_numpy(labels.validation))
    return TrainingSet(
        _as_tensor(dataset.train.inputs),
        torch.from_numpy(labels.train),
        dataset.num_classes,
        held_out,
        dataset.class_names,
        dataset.trace_format,
    )


def _trainer(spec: RunSpec, recorder: Recorder, devices: dict[str, Any]) -> Trainer:
    return Trainer(
        accelerator=spec.execution.device,
        **devices,
        max_epochs=spec.budget.epochs,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _as_tensor(images: Images) -> torch.Tensor | DiskTensor:
    return DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images)


def quiet_lightning() -> None:
    """Keep Lightning's advertisements out of the output."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

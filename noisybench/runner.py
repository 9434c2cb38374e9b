"""One run, from its specification to its records; resumable to the same bits."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from noisybench import __version__, metrics
from noisybench.dataset import Dataset, LazyImages
from noisybench.errors import RunFailed, UserError
from noisybench.files import write_atomically
from noisybench.labels import LabelSet
from noisybench.mitigation import Knowledge, LazyTensor, Stack, TrainingSet
from noisybench.records import Cost, EpochRow, Predictions, RunRecord, Samples
from noisybench.registry import find
from noisybench.spec import RunSpec
from noisybench.task import Task, learning_rate
from noisybench.tracking import Store

Report = Callable[[str, dict[str, Any]], None]
"""Told of each epoch: ``report("epoch", {...})``."""


@dataclasses.dataclass
class Prepared:
    """A run that passed all checks, with everything it needs in memory."""

    spec: RunSpec
    dataset: Dataset
    labels: LabelSet
    stack: Stack


def prepare(spec: RunSpec, dataset: Dataset | None = None, labels: LabelSet | None = None) -> Prepared:
    """Load data, corrupt it and check the stack against the cell; nothing is trained yet.

    Args:
        spec: the run.
        dataset: its dataset, where it is loaded already.
        labels: its label set, where it is made already.

    Raises:
        UserError: every problem found.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        dataset = dataset or spec.dataset.build().load()
    noise = spec.noise.build()
    problems = []
    for place, each in (("noise", noise), ("dataset", find("datasets", spec.dataset.name).load())):
        if spec.task.name not in each.tasks:
            problems.append(f"{place}: serves the tasks {', '.join(each.tasks)}, not {spec.task.name}")
    if problems:
        raise UserError(*problems)
    labels = labels or noise.corrupt(dataset)
    stack = Stack([each.build() for each in spec.mitigations])
    facts = offered_knowledge(labels, dataset)
    problems = stack.check(spec.task.name, sorted(facts))
    if problems:
        raise UserError(*problems)
    for mitigation in stack.mitigations:
        mitigation.known = Knowledge(facts, mitigation.knowledge)
    _check_network(spec, dataset)
    return Prepared(spec, dataset, labels, stack)


def offered_knowledge(labels: LabelSet, dataset: Dataset) -> dict[str, Any]:
    """The privileged facts that a cell can give to those who declare them."""
    facts: dict[str, Any] = {
        "noise_rate": labels.manifest["realised_rate"],
        "noise_type": labels.manifest["noise"]["name"],
    }
    if labels.manifest["transition_matrix"] is not None:
        facts["transition_matrix"] = torch.tensor(labels.manifest["transition_matrix"])
    if len(dataset.validation):
        facts["clean_validation"] = torch.from_numpy(dataset.validation.targets)
    return facts


def _check_network(spec: RunSpec, dataset: Dataset) -> None:
    from noisybench.networks import build_network

    shape = dataset.train.inputs.shape[1:]
    with torch.device("meta"):
        network = build_network(spec.budget.network, dataset.num_classes, shape[0]).eval()
        try:
            network(torch.empty(1, *shape))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"budget.network: `{spec.budget.network}` does not take images of {shape[1]}x{shape[2]} pixels ({reason}); "
                "choose another network or another size"
            ) from None


def execute(spec: RunSpec, store: Store, report: Report, stop: Callable[[], bool]) -> str:
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
    folder = spec.folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _Lock(folder / "lock"):
        facts = folder / "facts"
        if (facts / "record.json").is_file():  # trained earlier, while the store could not be reached
            record = RunRecord.from_dict(json.loads((facts / "record.json").read_text()))
            run_id = store.start(spec, _tags(record.label_set, record.knowledge, record.environment), _earlier(folder))
            return _publish(store, run_id, record, facts, folder)
        prepared = prepare(spec)
        environment = describe_environment(spec)
        run_id = store.start(spec, _tags(prepared.labels.hash, prepared.stack.knowledge, environment), _earlier(folder))
        write_atomically(folder / "run_id", run_id.encode())
        try:
            with store.system_metrics(run_id, spec.execution.system_metrics):
                recorder = train(prepared, folder, _Sender(store, run_id), report, stop)
            if not recorder.complete:
                store.stop(run_id)
                return "stopped"
            record = recorder.record(environment)
            recorder.write(record, facts)
        except Exception as error:
            detail = "" if isinstance(error, RunFailed | UserError) else traceback.format_exc()
            store.fail(run_id, str(error), detail)
            raise
        return _publish(store, run_id, record, facts, folder)


def _earlier(folder: Path) -> str | None:
    file = folder / "run_id"
    return file.read_text() if file.is_file() else None


def _publish(store: Store, run_id: str, record: RunRecord, facts: Path, folder: Path) -> str:
    try:
        store.finish(run_id, record, facts)
    except Exception as error:
        raise RunFailed(
            f"training is done, but the store does not take the records ({str(error).splitlines()[0][:200]}); they are kept "
            f"in {facts} and will be sent, without training again, by the same command"
        ) from error
    shutil.rmtree(folder)
    return "finished"


def _tags(label_set: str, knowledge: Iterable[str], environment: dict[str, str]) -> dict[str, str]:
    return {
        "label_set": label_set,
        "knowledge": ", ".join(knowledge),
        **{f"env.{k}": v for k, v in environment.items()},
    }


class _Lock:
    """Keeps a second process from training the same run at the same time; freed by the system when ours dies."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        import fcntl

        self.file = self.path.open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise RunFailed(f"another process is training this very run ({self.path.parent}); wait for it") from None

    def __exit__(self, *_: object) -> None:
        self.file.close()


class _Sender:
    """Sends rows as they come; a store that goes away does not stop training, for all rows are sent again at the end."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id, self.behind = store, run_id, False

    def __call__(self, rows: list[EpochRow]) -> None:
        if self.behind:
            return
        try:
            self.store.log_rows(self.run_id, rows)
        except Exception as error:
            self.behind = True
            logging.getLogger("noisybench").warning(
                "the store does not take rows now, they follow at the end: %s", error
            )


def train(
    prepared: Prepared,
    folder: Path,
    send: Callable[[list[EpochRow]], None],
    report: Report,
    stop: Callable[[], bool],
) -> Recorder:
    """Fit the task under its stack, from the checkpoint in ``folder`` if there is one.

    Returns:
        The recorder, complete unless ``stop`` interrupted it.
    """
    spec = prepared.spec
    torch.set_num_threads(spec.execution.threads)
    torch.use_deterministic_algorithms(False)
    # Every thread, and so every run on the processor, adds in the same order.
    quiet_lightning()
    inputs = prepared.dataset.train.inputs
    training_set = TrainingSet(
        LazyTensor(inputs) if isinstance(inputs, LazyImages) else torch.from_numpy(inputs),
        torch.from_numpy(prepared.labels.train),
        prepared.dataset.num_classes,
    )
    task_class = find("tasks", spec.task.name).load()
    task: Task = task_class(spec.budget, spec.seed, training_set, prepared.stack)
    for mitigation in prepared.stack.mitigations:
        mitigation.prepare(task, training_set)
    recorder = Recorder(prepared, folder, send, report, stop)
    trainer = Trainer(
        accelerator=spec.execution.device,
        devices=1,
        max_epochs=spec.budget.epochs,
        callbacks=[*prepared.stack.mitigations, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    checkpoint = folder / "checkpoint.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        # Lightning sees one batch per epoch: the task loops over the real ones.
        trainer.fit(task, train_dataloaders=range(1), ckpt_path=str(checkpoint) if checkpoint.is_file() else None)
    return recorder


def quiet_lightning() -> None:
    """Keep Lightning's advertisements out of the output."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


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

    def state_dict(self) -> dict[str, Any]:
        """Rows and costs so far."""
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "by_epoch": self.by_epoch,
            "spent": dict(self._spent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of an interrupted run."""
        self.rows = [EpochRow(**row) for row in state_dict["rows"]]
        self.by_epoch = list(state_dict["by_epoch"])
        self._spent = dict(state_dict["spent"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks, and send what an interrupted run may not have sent."""
        self._wall, self._process = time.perf_counter(), time.process_time()
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if self.rows:
            self._send(self.rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and write the checkpoint, whole or not at all."""
        assert isinstance(pl_module, Task)
        pl_module.networks_changed()
        self._add_row(pl_module, "train", trainer.current_epoch)
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
        changed = [each.refine(pl_module, training_set) for each in stack.mitigations]
        if any(changed):
            pl_module.networks_changed()
            self._add_row(pl_module, "refine", self.rows[-1].epoch)
        self._clock(pl_module)
        self._final = {
            "belief": stack.belief(pl_module, training_set).float().cpu().numpy(),
            "correction": stack.correction(pl_module, training_set).cpu().numpy(),
            "prediction": pl_module.training_probabilities().argmax(1).cpu().numpy(),
            "test": pl_module.predict(self._images(self.prepared.dataset.test.inputs)).cpu().numpy(),
            "parameters": sum(each.numel() for each in pl_module.networks.parameters()),
            "peak": _peak_memory(pl_module.device),
            "weights": {name: tensor.cpu() for name, tensor in pl_module.networks.state_dict().items()},
        }
        self.complete = True

    def record(self, environment: dict[str, str]) -> RunRecord:
        """The complete record of a finished run."""
        spec, labels, samples = self.prepared.spec, self.prepared.labels, self.samples()
        wrong = samples.observed != samples.clean
        corrected = samples.correction != samples.observed
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
            detection=metrics.detect(samples.belief, wrong),
            cost=self._cost(),
            weights_sha256=_weights_hash(self._final["weights"]),
            environment=environment,
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
        )

    def predictions(self) -> Predictions:
        """The test predictions."""
        test = self.prepared.dataset.test
        by_epoch = torch.stack(self.by_epoch, 1).numpy().astype(np.int16)
        return Predictions(test.index, test.targets, self._final["test"], by_epoch)

    def write(self, record: RunRecord, folder: Path) -> None:
        """Write all files of a finished run; `record.json` comes last and marks the folder as complete."""
        import pandas

        from noisybench.pictures import learning_curves

        folder.mkdir(exist_ok=True)
        pandas.DataFrame(dataclasses.asdict(self.samples())).to_parquet(folder / "samples.parquet", index=False)
        predictions = {key: list(value) if value.ndim > 1 else value for key, value in vars(self.predictions()).items()}
        pandas.DataFrame(predictions).to_parquet(folder / "predictions.parquet", index=False)
        (folder / "manifest.json").write_text(json.dumps(self.prepared.labels.manifest))
        (folder / "spec.json").write_text(json.dumps(record.spec, indent=2))
        learning_curves(record, folder / "curves.png")
        if self.prepared.spec.execution.save_weights:
            torch.save(self._final["weights"], folder / "weights.pt")
        write_atomically(folder / "record.json", json.dumps(record.as_dict()).encode())

    def _images(self, images: Any) -> Tensor | LazyTensor:
        return LazyTensor(images) if isinstance(images, LazyImages) else torch.from_numpy(images)

    def _add_row(self, task: Task, stage: str, epoch: int) -> None:
        dataset, labels = self.prepared.dataset, self.prepared.labels
        observed, clean = labels.train, dataset.train.targets
        predicted = task.training_probabilities().argmax(1).cpu().numpy()
        belief = self.prepared.stack.belief(task, task.training_set).float().cpu().numpy()
        wrong = observed != clean
        test_accuracy, test_loss, test_predicted = self._score(task, dataset.test.inputs, dataset.test.targets)
        validated = len(labels.validation) > 0
        val_accuracy, val_loss, _ = (
            self._score(task, dataset.validation.inputs, labels.validation) if validated else (None, None, None)
        )
        self.by_epoch.append(test_predicted.to(torch.int16))
        trained = stage == "train"
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
                memorised=metrics.share((predicted == observed)[wrong]),
                recovered=metrics.share((predicted == clean)[wrong]),
                detection_auroc=metrics.detection_auroc(belief, wrong),
                learning_rate=learning_rate(task.budget, epoch + 1) if trained else None,
                seconds=task.train_seconds if trained else 0.0,
                time=int(time.time() * 1000),
            )
        )

    def _score(self, task: Task, inputs: Any, targets: Any) -> tuple[float, float, Tensor]:
        """Accuracy, cross-entropy in nats, and the predicted classes on the host."""
        probabilities = task.predict(self._images(inputs)).cpu()
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


def _weights_hash(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_environment(spec: RunSpec) -> dict[str, str]:
    """Versions, device and commit: recorded and warned about where they differ, but not part of the identity."""
    use_gpu = spec.execution.device in ("auto", "cuda") and torch.cuda.is_available()
    found = {
        "noisybench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": importlib.metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name() if use_gpu else f"{platform.machine()} processor",
        "threads": str(spec.execution.threads),
    }
    commit = git_commit()
    return {**found, "commit": commit} if commit else found


def git_commit() -> str | None:
    """Commit of the source checkout that noisybench runs from; None where it is installed from a wheel."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None

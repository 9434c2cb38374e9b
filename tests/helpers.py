"""Small real data and short real runs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet, make_label_set
from noisybench.data.label_sets.manifest import noise_entry
from noisybench.data.targets import IGNORED
from noisybench.records.schema import EpochRow
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import Recorder
from noisybench.runs.training import train
from noisybench.training.loop import LoopState
from noisybench.training.prepared import PreparedRun
from noisybench.training.task import Task
from noisybench.utils.seeds import Stream

DEVICE = os.environ.get("NOISYBENCH_DEVICE", "cpu")
"""Where the short runs train; `cuda` on a machine with a GPU."""

TINY_BUDGET = {"network": "small_cnn", "epochs": 3, "batch_size": 32, "learning_rate": 0.05}


def toy_dataset(classes: Sequence[str] = tuple("0123456789"), size: int = 120, held_out: int = 40) -> Dataset:
    """Gray 8x8 images whose class shows as a bright row or column, with noise."""

    def split(name: str, count: int) -> Split:
        stream = Stream("toy", name, len(classes))
        targets = np.arange(count, dtype=np.int64) % len(classes)
        images = stream.uniform(count, 1, 8, 8) * 120
        images[np.arange(count), 0, targets % 8, :] += 100
        images[np.arange(count), 0, :, targets // 8 % 8] += 35
        return Split(images.astype(np.uint8), targets, np.arange(count, dtype=np.int64))

    train_split, rest = split("train", size), split("rest", held_out)
    validation = Split(rest.inputs, rest.targets, np.arange(size, size + held_out, dtype=np.int64))
    return Dataset("toy", train_split, validation, split("test", held_out), tuple(classes), size + held_out)


def toy_masks(size: int = 24, held_out: int = 6) -> Dataset:
    """Drawn scenes of 16x16 pixels with masks; two pixels of each have no label."""
    cls = get_entry("datasets", "scenes").load_class()
    made: Dataset = cls(size=16, train_images=size, validation_images=held_out, test_images=held_out).load()
    for split in (made.train, made.validation, made.test):
        split.targets[:, 0, :2] = IGNORED
    return made


def toy_traces(size: int = 24, held_out: int = 6) -> Dataset:
    """Traces of additions."""
    made: Dataset = (
        get_entry("datasets", "traced_integers")
        .load_class()(train_problems=size, validation_problems=held_out, test_problems=held_out)
        .load()
    )
    return made


def toy_labels(dataset: Dataset, wrong_every: int = 4) -> LabelSet:
    """Every so many-th label is the next class; 0 leaves all right. Of masks, every so many-th row of pixels."""

    def observed(split: Split) -> np.ndarray[Any, np.dtype[Any]]:
        if dataset.target_kind.name == "tokens":
            traces = split.targets.copy()
            if wrong_every:
                traces[1::wrong_every, 0] = (traces[1::wrong_every, 0] + 1) % 10
            return traces
        if dataset.target_kind.name == "masks":
            rows = slice(1, None, wrong_every) if wrong_every else slice(0, 0)
            masks = split.targets.copy()
            masks[:, rows] = np.where(masks[:, rows] == IGNORED, IGNORED, (masks[:, rows] + 1) % dataset.num_classes)
            return masks
        wrong = np.arange(len(split)) % wrong_every == 1 if wrong_every else np.zeros(len(split), dtype=bool)
        return (split.targets + wrong) % dataset.num_classes

    described = noise_entry("toy", "by position")
    rate = 1 / wrong_every if wrong_every else 0.0
    eye = np.eye(dataset.num_classes)
    matrix = (1 - rate) * eye + rate * np.roll(eye, 1, axis=1)
    return make_label_set(dataset, observed(dataset.train), observed(dataset.validation), described, matrix)


TRANSFER = {
    "name": "transfer",
    "pretraining": {"dataset": {"name": "digits", "train_size": 100}, "budget": {"epochs": 1, "batch_size": 50}},
}
"""A task for those that tune pre-trained networks alone."""

TOY_TASKS = {
    "classification": "classification", "transfer": TRANSFER, "segmentation": "segmentation",
    "chain_of_thought": "chain_of_thought",
}  # fmt: skip
"""The task with which a mitigation is tried, by the first that it serves."""

OTHER_BUDGETS = {
    "segmentation": {"network": "unet:4", "batch_size": 6, "optimizer": "adam", "learning_rate": 0.01},
    "chain_of_thought": {"network": "decoder:16x1", "batch_size": 8, "optimizer": "adam", "learning_rate": 0.01},
}
OTHER_DATASETS = {"segmentation": "scenes", "chain_of_thought": "traced_integers"}


def network_names() -> list[str]:
    """Every registered network that needs no files; of each family, its example."""
    examples = {
        name: getattr(importlib.import_module(entry.module), "EXAMPLE", "")
        for name, entry in list_entries("networks").items()
    }
    return [f"{name}:{example}" if example else name for name, example in examples.items() if example is not None]


def toy_spec(mitigations: Any = "cross_entropy", **fields: Any) -> RunSpec:
    """A run of three epochs, of a task that the mitigation serves; the dataset's name is a placeholder where the data is
    handed over.
    """
    name = mitigations.get("name") if isinstance(mitigations, dict) else str(mitigations)
    if "task" not in fields and name in list_entries("mitigations"):
        fields["task"] = TOY_TASKS[get_entry("mitigations", name).load_class().tasks[0]]
    task = str(fields.get("task"))
    if task in OTHER_DATASETS:
        fields.setdefault("dataset", OTHER_DATASETS[task])
    budget = {**TINY_BUDGET, **OTHER_BUDGETS.get(task, {}), **fields.pop("budget", {})}
    execution = {"system_metrics": False, "device": DEVICE, **fields.pop("execution", {})}
    return resolve({"mitigations": mitigations, "budget": budget, "execution": execution, **fields})


def prepared_toy(
    mitigations: Any, dataset: Dataset | None = None, labels: LabelSet | None = None, **fields: Any
) -> PreparedRun:
    """A checked run on the toy data."""
    spec = toy_spec(mitigations, **fields)
    dataset = dataset or TOY_DATA.get(spec.task.name, toy_dataset)()
    return prepare_run(spec, dataset, labels or toy_labels(dataset))


TOY_DATA = {"segmentation": toy_masks, "chain_of_thought": toy_traces}


def train_toy(run: PreparedRun, folder: Path, stop_after: int | None = None) -> Recorder:
    """Train without a store; interrupt after so many epochs where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    events: list[dict[str, Any]] = []
    return train(
        run,
        folder,
        send=lambda rows: None,
        report=lambda kind, data: events.append(data),
        stop=lambda: stop_after is not None and len(events) >= stop_after,
    )


def start_first_epoch(task: Task) -> None:
    """Bring a task that no loop trains to the start of its first epoch."""
    task.trainer = cast(Trainer, LoopState())
    task.on_train_epoch_start()


def flat_weights(module: nn.Module) -> Tensor:
    """Copy all weights into one vector, whatever their layout in memory."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def comparable_rows(rows: Sequence[EpochRow]) -> list[dict[str, Any]]:
    """Return rows without times and durations."""
    return [{k: v for k, v in vars(row).items() if k not in ("seconds", "time")} for row in rows]


def generator(seed: int = 0) -> torch.Generator:
    """Random numbers from a seed."""
    return torch.Generator().manual_seed(seed)


def labeled_points(seed: int = 0, count: int = 90, width: int = 12, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Features with unlike directions and a large mean, and labels that have to do with them."""
    targets = torch.randint(classes, (count,), generator=generator(seed))
    points = torch.randn(count, width, generator=generator(seed + 1), dtype=torch.float64)
    points = (
        points * torch.linspace(2, 0.2, width)
        + 3 * torch.randn(classes, width, generator=generator(seed + 2))[targets]
        + 7
    )
    return points, targets


def close(found: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    """Equal to a tolerance, relative and absolute, in double precision."""
    torch.testing.assert_close(
        torch.as_tensor(found).double(), torch.as_tensor(wanted).double(), rtol=tolerance, atol=tolerance
    )

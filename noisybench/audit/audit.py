"""From a name or a file to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.findings import Findings, find
from noisybench.audit.signals import Signals, cross_fit
from noisybench.config.overrides import expand
from noisybench.config.resolve import resolve
from noisybench.config.spec import WORKSPACE, RunSpec
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.data.dataset import Dataset
from noisybench.data.lazy import Images, MemmapImages
from noisybench.errors import UserError, nearest
from noisybench.runs.preparation import prepare_run
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import repeat_to_the_bit

SIZE = 64
"""Pixels to which images of a folder are resized where nothing else is said."""
FILES = {".parquet": ("parquet", "train"), ".npz": ("npz", "path")}
"""By suffix, the dataset that reads it, and its field for the file."""


@dataclass(frozen=True)
class Question:
    """What is to be audited.

    Attributes:
        title: of the data.
        spec: dataset, noise and budget; the stack is not used.
        images: (N, C, H, W) uint8.
        observed: (N,) labels.
        index: (N,) rows in the source.
        files: (N,) names of files, where there are some.
        truth: (N,) clean labels; None where nobody knows any.
        classes: names.
    """

    title: str
    spec: RunSpec
    images: Images
    observed: NDArray[np.int64]
    index: NDArray[np.int64]
    files: tuple[str, ...]
    truth: NDArray[np.int64] | None
    classes: tuple[str, ...]


def ask(labels: str, overrides: Iterable[str]) -> Question:
    """Read what is to be audited, and check that networks can be trained on it.

    Args:
        labels: a folder of images, a .parquet or .npz file, or a recipe, whose noise is then audited.
        overrides: as of `noisybench run`.

    Raises:
        UserError: every problem found.
    """
    path = Path(labels).expanduser()
    own = path.is_dir() or path.suffix in FILES
    if not own and labels not in builtin_configs("recipes") and path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"{labels}: neither a folder of images (one sub-folder for each class), nor a .parquet or .npz file, nor a recipe; "
            f"{nearest(labels, builtin_configs('recipes'))}"
        )
    raw = load_config("recipes", "audit" if own else labels)
    if own:
        name, field = ("image_folder", "root") if path.is_dir() else FILES[path.suffix]
        raw["dataset"] = {
            "name": name,
            field: str(path),
            **({"size": SIZE} if path.is_dir() else {}),
            "validation_fraction": 0.0,
        }
    found = [resolve(each) for each in expand(raw, overrides)]
    if len(found) > 1:
        raise UserError("an audit takes one value per override, not a list with commas")
    (spec,) = found
    if spec.task.name != "classification":
        raise UserError(f"an audit is of images with one class each; the task {spec.task.name} has other labels")
    prepared = prepare_run(spec)
    dataset, made = prepared.dataset, prepared.labels
    whole = own and len(dataset.train) + len(dataset.test) == dataset.source_size
    images, observed, index = dataset.train.inputs, made.train, dataset.train.index
    if whole:  # the test split was held out of the same labels, and is audited with them
        images, observed, index = _joined(dataset, made.train)
    truth = None if own or (dataset.train.targets < -1).all() else dataset.train.targets
    files = tuple(dataset.source_names[row] for row in index) if dataset.source_names else ()
    title = path.name if own else f"{spec.dataset_label} · {spec.noise.label(hide=('path',))}"
    return Question(title, spec, images, observed, index, files, truth, dataset.class_names)


def _joined(dataset: Dataset, observed: NDArray[np.int64]) -> tuple[Images, NDArray[np.int64], NDArray[np.int64]]:
    """Training and test split in the order of their source."""
    test = dataset.test
    index = np.concatenate([dataset.train.index, test.index])
    order = np.argsort(index)
    images = np.concatenate([dataset.train.inputs[:], test.inputs[:]])[order]
    return images, np.concatenate([observed, test.targets])[order], index[order]


def audit(question: Question, folds: int, seed: int, report: Callable[[int, int, float], None]) -> Findings:
    """Train the networks and draw the conclusions; see `listen`."""
    return find(question.observed, listen(question, folds, seed, report))


def listen(question: Question, folds: int, seed: int, report: Callable[[int, int, float], None]) -> Signals:
    """Train the networks, and have them say what they make of labels that they have not seen.

    Args:
        question: what is audited.
        folds: parts of the data, each judged by a network that was trained on the others.
        seed: of the folds and networks.
        report: told of fold, epoch and training loss.

    Raises:
        UserError: there are fewer examples than folds.
    """
    if folds > len(question.observed):
        raise UserError(f"--folds: {len(question.observed)} examples cannot be divided into {folds} folds")
    images: Any = question.images
    inputs = DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images)
    training_set = TrainingSet(
        inputs, torch.from_numpy(question.observed), len(question.classes), class_names=question.classes
    )
    device = torch.device("cuda" if torch.cuda.is_available() and question.spec.execution.device != "cpu" else "cpu")
    torch.set_num_threads(question.spec.execution.threads)
    repeat_to_the_bit(device)
    return cross_fit(training_set, question.spec.budget, folds, seed, device, WORKSPACE / "audits", report)

"""Audit labels: estimate their noise, and rank the suspicious ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from noisybench.api.audit_results import LabelAudit, MaskAudit
from noisybench.api.paths import read_path
from noisybench.api.specifications import list_of_overrides
from noisybench.api.trace_audit import TraceAudit
from noisybench.audit.audit import audit_labels, describe_networks
from noisybench.audit.folds import EpochCallback
from noisybench.audit.in_memory import TITLE, in_memory_audit_input, in_memory_mask_input
from noisybench.audit.inputs import AuditInput, load_audit_input, resolve_labels
from noisybench.audit.masks.inputs import MaskAuditInput, load_mask_audit_input
from noisybench.audit.masks.networks import train_fold_networks
from noisybench.audit.masks.report import audit_masks
from noisybench.audit.masks.report import describe_networks as describe_mask_networks
from noisybench.audit.traces.decoders import describe_decoders
from noisybench.audit.traces.inputs import (
    TRACE_TASKS,
    TraceAuditInput,
    dataset_trace_input,
    in_memory_trace_input,
    load_trace_audit_input,
)
from noisybench.audit.traces.report import audit_traces
from noisybench.data.containers import as_array, library_of
from noisybench.data.dataset import Dataset
from noisybench.data.in_memory import read_examples
from noisybench.data.in_memory_tables import open_table
from noisybench.data.in_memory_traces import trace_records
from noisybench.errors import UserError, show
from noisybench.execution.preflight import check_device
from noisybench.utils.console import make_console
from noisybench.utils.durations import format_duration
from noisybench.utils.numbers import as_integer
from noisybench.utils.places import check_output_folder
from noisybench.utils.processes import usable_cores
from noisybench.utils.progress import report_progress

Say = Callable[[str], None]
"""Function that receives lines of text."""

KINDS = {"segmentation": "masks"} | dict.fromkeys(TRACE_TASKS, "traces")
"""Kind of data by task; all others have labels."""

DEFAULT_PICTURES = 20
"""Number of masks whose suspicious pixels are written as pictures."""


def audit(
    data: Any = None,
    y: Any = None,
    *,
    pred_probs: Any = None,
    backbone: str | None = None,
    size: int | None = None,
    folds: int = 3,
    seed: int = 0,
    class_names: Sequence[Any] | int | None = None,
    overrides: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    pictures: int | None = None,
    progress: bool | Say = True,
) -> LabelAudit | MaskAudit | TraceAudit:
    """Estimate the noise rate of labels, rank suspicious labels, and find copies and outliers, without clean labels.

    Images are audited by networks that are trained on parts of the data, features by logistic regressions and nearest
    neighbors, texts by the features of a backbone, masks by segmentation networks, and traces by re-execution, the agreement
    of their answers and decoders. Trained parts are kept in ``.noisybench`` in the working folder, so that the same call
    resumes an interrupted audit.

    Args:
        data: images, (N, D) features or texts, as arrays, tensors, data frames or lists; traces as records or a data frame with
            fields such as `prompt` and `response`; a path that `noisybench audit` reads; the name of a recipe; or a dataset of
            `load_dataset`, of which the training split is audited. With `pred_probs` it may be left out:
            ``audit(y=labels, pred_probs=probabilities)``.
        y: (N,) labels, or (N, H, W) masks of arrays; of a data frame, also the name of their column. None for paths,
            recipes and datasets.
        pred_probs: (N, C) out-of-sample class probabilities of any model, or a file of them, instead of training.
        backbone: pre-trained backbone whose features replace the training of networks (`noisybench list backbones`).
        size: side in pixels of the images for the backbone; by default its own.
        folds: number of folds; each is predicted by a model trained on the others.
        seed: seed of folds and networks.
        class_names: names of all classes in the order of their indices, for arrays.
        overrides: changes of the training as on the command line, such as ``["budget.epochs=30"]``.
        folder: folder in which to save the report, which is checked before training.
        pictures: number of masks whose suspicious pixels are saved as pictures; 20 by default.
        progress: print what is done on standard error, or give each line to a function.

    Raises:
        UserError: the data, an option or the folder cannot be used; nothing is trained.

    Example:
        >>> import numpy as np
        >>> labels = np.arange(300) % 3
        >>> points = np.random.default_rng(0).normal(size=(300, 4)) + 4 * np.eye(3, 4)[labels]
        >>> labels[:30] = (labels[:30] + 1) % 3
        >>> report = audit(points, labels, progress=False)
        >>> report.rate_interval[0] <= 0.1 <= report.rate_interval[1]
        True
        >>> float((report.suspects.index < 30).mean()) > 0.9
        True
    """
    say = _reporter(progress)
    _check_numbers(folds, seed, pictures)
    if size is not None and backbone is None:
        raise UserError("--size: only a backbone has a size; name it with --backbone, or set dataset.size")
    if data is None and y is not None and (pred_probs is None or backbone is not None):
        raise UserError(
            "data: give the inputs, as in audit(X, y), or predictions alone, as in audit(y=y, pred_probs=P)"
        )
    source = _Source(data, y, class_names, _with_threads(overrides))
    if source.kind != "labels" and (backbone is not None or pred_probs is not None):
        option = "--pred-probs" if backbone is None else "--backbone"
        models = "segmentation networks" if source.kind == "masks" else "decoders"
        raise UserError(f"{option}: {source.kind} are audited by {models}; leave it out, or set budget.network")
    if source.kind == "masks":
        return _audit_masks(source, folds, seed, folder, DEFAULT_PICTURES if pictures is None else pictures, say)
    if pictures is not None:
        raise UserError("--pictures: only masks have suspicious pixels; leave it out")
    if source.kind == "traces":
        return _audit_traces(source, folds, seed, folder, say)
    return _audit_class_labels(source, pred_probs, backbone, size, folds, seed, folder, say)


def _check_numbers(folds: int, seed: int, pictures: int | None) -> None:
    """Check the whole numbers among the arguments of an audit."""
    if (as_integer(folds) or 0) < 2:
        raise UserError(f"folds: must be at least 2, but got {show(folds)}")
    if as_integer(seed) is None or seed < 0:
        raise UserError(f"seed: must be a whole number of at least 0, but got {show(seed)}")
    if pictures is not None and (as_integer(pictures) is None or pictures < 0):
        raise UserError(f"pictures: must be a whole number of at least 0, but got {show(pictures)}")


def _with_threads(overrides: Sequence[str]) -> list[str]:
    """Return overrides with all cores for each network, since they are trained one after the other."""
    changes = list_of_overrides(overrides)
    if any(change.startswith("execution.num_threads=") for change in changes):
        return changes
    return [*changes, f"execution.num_threads={usable_cores()}"]


def _audit_class_labels(
    source: _Source,
    pred_probs: Any,
    backbone: str | None,
    size: int | None,
    folds: int,
    seed: int,
    folder: str | os.PathLike[str] | None,
    say: Say,
) -> LabelAudit:
    audit_input = source.labels(pred_probs, backbone is not None)
    # Before hours of training: the folder may not be writable.
    target = None if folder is None else check_output_folder(read_path(folder, "folder"))
    if backbone is not None:
        device = "cpu" if audit_input.spec.execution.device == "cpu" else "auto"
        audit_input = audit_input.with_backbone(backbone, size, device)
    _begin(audit_input, f"{len(audit_input.observed)} labels; {describe_networks(audit_input, folds)}", say)
    report = audit_labels(audit_input, folds, seed, _fold_reporter(folds, audit_input.spec.budget.epochs, say))
    if target is not None:
        report.save(target)
    return LabelAudit(report, source.index, source.classes)


def _audit_masks(
    source: _Source, folds: int, seed: int, folder: str | os.PathLike[str] | None, pictures: int, say: Say
) -> MaskAudit:
    data = source.masks()
    target = None if folder is None else check_output_folder(read_path(folder, "folder"))
    _begin(data, f"{len(data.masks)} masks; {describe_mask_networks(data, folds)}", say)
    networks = train_fold_networks(data, folds, seed, _fold_reporter(folds, data.spec.budget.epochs, say))
    report = audit_masks(networks, data)
    return MaskAudit(report, 0 if target is None else report.save(target, pictures))


def _audit_traces(
    source: _Source, folds: int, seed: int, folder: str | os.PathLike[str] | None, say: Say
) -> TraceAudit:
    data = source.traces()
    target = None if folder is None else check_output_folder(read_path(folder, "folder"))
    _begin(data, f"{len(data)} traces; {describe_decoders(data, folds)}", say)
    report = audit_traces(data, folds, seed, _fold_reporter(folds, data.spec.budget.epochs, say))
    if target is not None:
        report.save(target)
    return TraceAudit(report)


class _Source:
    """What is audited: a path or recipe, a dataset, or examples in memory.

    Attributes:
        kind: ``labels`` (a class for each example), ``masks`` or ``traces``.
        index: index of the examples, if they are pandas objects.
        classes: (C,) classes as they are written in the labels; None if they are the names of the classes.
    """

    def __init__(self, data: Any, y: Any, class_names: Sequence[Any] | int | None, overrides: list[str]) -> None:
        self._overrides, self._path, self._title = overrides, "", TITLE
        self._dataset: Dataset | None = None
        self._records: Sequence[Mapping[str, Any]] | None = None
        self.index: Any = None
        self.classes: NDArray[Any] | None = None
        if isinstance(data, str | os.PathLike):
            if y is not None or class_names is not None:
                name = "y" if y is not None else "class_names"
                raise UserError(f"{name}: paths and recipes have labels of their own; leave it out")
            read_path(data, "data")
            self._path = os.fspath(data)
            self.kind = KINDS.get(resolve_labels(self._path, overrides)[0].task.name, "labels")
            return
        self._records = trace_records(data) if y is None else None
        if self._records is not None:
            self.kind = "traces"
            return
        if isinstance(data, Dataset):
            if y is not None:
                raise UserError(
                    "y: a dataset has labels of its own; leave it out, or pass dataset.train.inputs and labels"
                )
            self._dataset, self._title = data, data.name
        else:
            self._dataset = self._read(data, y, class_names)
        self.kind = {"tokens": "traces", "masks": "masks"}.get(self._dataset.target_kind.name, "labels")

    def _read(self, data: Any, y: Any, class_names: Sequence[Any] | int | None) -> Dataset:
        if y is None or isinstance(y, str):
            table = open_table(data, y)
            if table is None:
                given = "arrays need labels" if y is None else f"{show(y)} is no column of the given data"
                raise UserError(f"y: {given}; pass one label for each example, or data that have a column of labels")
            data, y = table.inputs(), table.labels
            class_names = table.class_names if class_names is None else class_names
        examples = read_examples(data, y, class_names)
        for given in (y, data):
            if library_of(given) == "pandas" and hasattr(given, "index"):
                self.index = given.index
                break
        self.classes = examples.labels.classes
        return examples.dataset()

    def labels(self, pred_probs: Any, with_backbone: bool) -> AuditInput:
        """Return the input of an audit of classes."""
        predictions: Any = pred_probs
        if isinstance(pred_probs, str | os.PathLike):
            predictions = read_path(pred_probs, "pred_probs")
        elif pred_probs is not None:
            predictions = as_array(pred_probs, "pred_probs")
        if self._dataset is None:
            return load_audit_input(self._path, self._overrides, predictions, with_backbone)
        return in_memory_audit_input(self._dataset, self._overrides, predictions, with_backbone, self._title)

    def masks(self) -> MaskAuditInput:
        """Return the input of an audit of masks."""
        if self._dataset is None:
            return load_mask_audit_input(self._path, self._overrides)
        return in_memory_mask_input(self._dataset, self._overrides, self._title)

    def traces(self) -> TraceAuditInput:
        """Return the input of an audit of traces."""
        if self._records is not None:
            return in_memory_trace_input(self._records, self._overrides)
        if self._dataset is not None:
            return dataset_trace_input(self._dataset, self._overrides)
        return load_trace_audit_input(self._path, self._overrides)


def _begin(data: AuditInput | MaskAuditInput | TraceAuditInput, plan: str, say: Say) -> None:
    """Check the device of the training, and report what is done.

    Raises:
        UserError: this machine does not have the device.
    """
    check_device(data.spec.execution.device)
    for note in data.notes:
        say(f"note: {note}")
    say(f"{data.title}: {plan} ...")


def _fold_reporter(folds: int, epochs: int, say: Say) -> EpochCallback:
    """Return a function that reports each trained fold."""
    start = time.monotonic()

    def report(fold: int, epoch: int, loss: float) -> None:
        report_progress(f"train network {fold + 1} of {folds}", epoch + 1, epochs)
        if epoch + 1 == epochs:
            say(f"[{fold + 1}/{folds}] trained, loss {loss:.3f}, {format_duration(time.monotonic() - start)}")

    return report


def _reporter(progress: bool | Say) -> Say:
    """Return the function that receives lines of progress."""
    if callable(progress):
        return progress
    if not progress:
        return lambda line: None
    console = make_console(stderr=True)
    return lambda line: console.print(line, markup=False, soft_wrap=True)

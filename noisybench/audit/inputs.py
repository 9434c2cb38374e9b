"""Input of an audit: images and labels from a folder, a file or a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.predictions import match_predictions, read_predictions
from noisybench.audit.user_data import user_configuration
from noisybench.backbones import load_backbone
from noisybench.config.overrides import expand
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.data.check.notes import dataset_notes
from noisybench.data.dataset import Dataset
from noisybench.data.lazy import Images
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.data.texts import is_text
from noisybench.embedding.embed import HINTS, choose_device, embed_inputs
from noisybench.errors import UserError, nearest
from noisybench.runs.preparation import prepare_run
from noisybench.training.prepared import PreparedRun
from noisybench.training.stack import Stack
from noisybench.utils.places import expand_user
from noisybench.utils.text import printable


@dataclass(frozen=True)
class AuditInput:
    """Images and labels to audit.

    Attributes:
        title: name of the data in messages and reports.
        spec: dataset, noise and budget; its stack is not used.
        images: (N, C, H, W) uint8 images, or (N, D, 1, 1) float32 features.
        observed: (N,) labels to audit.
        index: (N,) rows in the source of the dataset.
        files: (N,) file names of the examples; empty if they have none.
        clean: (N,) clean labels, with -1 for out-of-distribution images and -2 for unknown; None if none is known.
        class_names: (C,) names of the classes.
        notes: facts about the data that a user should know.
        in_test: (N,) True for examples of the test split; None if all are training examples.
        verified: (N,) True where people have verified the label; None if they have verified none.
        given: (N,) labels before people verified some; None if they have verified none.
        features: (N, D) float32 features of a model that was not trained on the labels; None without such a model.
        feature_origin: where the features come from, for messages.
        predictions: (N, C) given out-of-sample probabilities; None without them.
    """

    title: str
    spec: RunSpec
    images: Images
    observed: NDArray[np.int64]
    index: NDArray[np.int64]
    files: tuple[str, ...]
    clean: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    notes: tuple[ReadingNote, ...] = ()
    in_test: NDArray[np.bool_] | None = None
    verified: NDArray[np.bool_] | None = None
    given: NDArray[np.int64] | None = None
    features: NDArray[np.float32] | None = None
    feature_origin: str = "the given features"
    predictions: NDArray[np.float64] | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Split of each example, ``train`` or ``test``."""
        if self.in_test is None:
            return ("train",) * len(self.observed)
        return tuple("test" if test else "train" for test in self.in_test.tolist())

    @property
    def has_pictures(self) -> bool:
        """True for images, False for texts and features."""
        return self.images.dtype == np.uint8

    def with_backbone(self, name: str, size: int | None = None, device: str = "auto") -> AuditInput:
        """Return the input with the features of a pre-trained backbone, which replace the training of networks.

        Args:
            name: backbone, see `noisybench list backbones`.
            size: side in pixels of the images for the backbone (default: its own).
            device: ``auto``, ``cpu`` or ``cuda``.

        Raises:
            UserError: the backbone is unknown or not installed, or the examples are features already.
        """
        if self.features is not None:
            raise UserError(f"--backbone: {self.title} has features already, from which no other features are computed")
        kind: Literal["images", "texts"] = "images" if self.has_pictures else "texts"
        target, inputs = choose_device(device), np.asarray(self.images[:])
        backbone = load_backbone(name, size)
        if backbone.reads != kind:
            raise UserError(f"--backbone: {name} reads {backbone.reads}, but {self.title} holds {kind}; {HINTS[kind]}")
        adapted = backbone.adapted(inputs)
        adapted.module.to(target)
        features = embed_inputs(inputs, adapted, target, f"embed the {kind}")
        where = f" at {adapted.size} pixels" if kind == "images" and adapted.size else ""
        return replace(self, features=features, feature_origin=f"features of {name}{where}")


def load_audit_input(
    labels: str,
    overrides: Iterable[str] = (),
    predictions: Path | NDArray[Any] | None = None,
    with_backbone: bool = False,
) -> AuditInput:
    """Load the images and labels to audit, and check that networks can be trained on them.

    Args:
        labels: a folder of images with one sub-folder for each class, a .parquet or .npz file, a table of image files and
            classes, or a recipe, whose noise is then audited.
        overrides: overrides of the specification such as ``budget.epochs=30``.
        predictions: file of out-of-sample class probabilities, see `read_predictions`, or the array itself.
        with_backbone: the features of a backbone follow, without which texts cannot be audited.

    Raises:
        UserError: every problem of the specification, the data or the predictions.
    """
    spec, from_user_data = audit_spec(labels, overrides)
    prepared = _prepare(spec)
    dataset, train_labels = prepared.dataset, prepared.labels.train
    images, observed, index, in_test = dataset.train.inputs, train_labels, dataset.train.index, None
    notes = dataset_notes(dataset)
    if from_user_data and not len(dataset.validation) and dataset.test_source_size is None:
        # The test split was held out of the same unverified labels, so it is audited as well.
        images, observed, index, in_test = _join_splits(dataset, train_labels)
    elif len(dataset.test):
        text = "Examples of the test split come from a source of their own and were not audited; audit that source to check them"
        notes = (*notes, ReadingNote("test_not_audited", text, len(dataset.test)))
    clean, verified = _known_labels(prepared, from_user_data, observed, in_test is not None)
    # Names of files need not be Unicode text, but reports and tables must be.
    files = tuple(printable(dataset.source_names[row]) for row in index) if dataset.source_names else ()
    title = (
        expand_user(Path(labels)).name
        if from_user_data
        else f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}"
    )
    names = dataset.class_names
    probabilities = find_predictions(predictions, dataset, index)
    # Features are stored as images of one pixel with D channels.
    features = np.asarray(images[:]).reshape(len(observed), -1) if spec.dataset.name == "features" else None
    if is_text(images) and probabilities is None and not with_backbone:
        raise UserError(f"{labels}: texts are audited by the features of a backbone; add --backbone minilm")
    return AuditInput(
        title, spec, images, observed, index, files, clean, names, notes, in_test, verified,
        _given_labels(prepared, train_labels, in_test is not None), features, predictions=probabilities,
    )  # fmt: skip


def find_predictions(
    predictions: Path | NDArray[Any] | None, dataset: Dataset, index: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the row of class probabilities of each audited example, from a file or an array; None without them."""
    names, size = dataset.class_names, dataset.source_size
    if predictions is None:
        return None
    if isinstance(predictions, Path):
        return read_predictions(predictions, names, index, size, dataset.source_names)
    return match_predictions(predictions, "pred_probs", names, index, size)


def _prepare(spec: RunSpec) -> PreparedRun:
    """Return dataset and labels; networks cannot be trained on texts, whose features are computed later."""
    dataset = spec.dataset.build().load()
    if not is_text(dataset.train.inputs):
        return prepare_run(spec, dataset)
    labels = spec.noise.build().apply(dataset)
    return PreparedRun(spec, labels.apply_to(dataset), labels, Stack([]))


def _known_labels(
    prepared: PreparedRun, from_user_data: bool, observed: NDArray[np.int64], with_test: bool
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    """Return the clean labels of the audited examples, and a mask of the labels that people have verified; None without any.

    Args:
        prepared: dataset and label set.
        from_user_data: the targets of the dataset are the labels under audit, not clean ones.
        observed: (N,) labels under audit.
        with_test: the test split is audited as well, in the order of `_join_splits`.
    """
    dataset, verification = prepared.dataset, prepared.labels.verification
    splits = {"train": dataset.train} | ({"test": dataset.test} if with_test else {})
    order = np.argsort(np.concatenate([split.index for split in splits.values()])) if with_test else slice(None)
    targets = np.concatenate([split.targets for split in splits.values()])[order]
    if verification is None:
        return None if from_user_data or (targets <= UNKNOWN_TARGET).all() else targets, None
    by_people = np.concatenate([verification.is_verified(name, split) for name, split in splits.items()])[order]
    if from_user_data:
        targets = np.where(by_people, targets, UNKNOWN_TARGET)
    # Given labels that people have found incorrect are under audit as all others.
    verified = by_people & (targets == observed)
    # Nothing can be compared where every known label is correct.
    return None if (
        targets[targets > UNKNOWN_TARGET] == observed[targets > UNKNOWN_TARGET]
    ).all() else targets, verified


def _given_labels(prepared: PreparedRun, train_labels: NDArray[np.int64], with_test: bool) -> NDArray[np.int64] | None:
    """Return the labels of the audited examples before people verified some; None if they have verified none.

    Args:
        prepared: dataset and label set.
        train_labels: observed labels of the training split.
        with_test: the test split is audited as well, in the order of `_join_splits`.
    """
    dataset, verification = prepared.dataset, prepared.labels.verification
    if verification is None:
        return None
    given = verification.given("train", dataset.train, train_labels)
    if not with_test:
        return given
    given = np.concatenate([given, verification.given("test", dataset.test, dataset.test.targets)])
    return np.asarray(given[np.argsort(np.concatenate([dataset.train.index, dataset.test.index]))])


def audit_spec(labels: str, overrides: Iterable[str] = ()) -> tuple[RunSpec, bool]:
    """Return the specification of labels with one class per example, and True for a user's own folder or file.

    Args:
        labels: see `load_audit_input`.
        overrides: see `load_audit_input`.

    Raises:
        UserError: every problem of the specification.

    Example:
        >>> spec, from_user_data = audit_spec("digits", ["noise=pair_flip", "noise.rate=0.2"])
        >>> spec.noise.name, from_user_data
        ('pair_flip', False)
    """
    spec, from_user_data = resolve_labels(labels, overrides)
    if spec.dataset.name not in ("features", "text_table") and spec.task.name != "classification":
        raise UserError(f"{labels}: this needs examples with one class each, but the task is {spec.task.name}")
    return spec, from_user_data


def resolve_labels(labels: str, overrides: Iterable[str] = ()) -> tuple[RunSpec, bool]:
    """Return the specification of labels of any task, and True for a user's own folder or file.

    Args:
        labels: see `load_audit_input`; folders and files of images with masks, and files of traces, as well.
        overrides: see `load_audit_input`.

    Raises:
        UserError: every problem of the specification.

    Example:
        >>> resolve_labels("scenes")[0].task.name
        'segmentation'
    """
    path = expand_user(Path(labels))
    raw = user_configuration(path)
    from_user_data = raw is not None
    if raw is None and labels not in builtin_configs("recipes") and path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"{labels}: not a folder of images (one sub-folder for each class, or with masks), a .parquet, .npz, .csv or .jsonl "
            f"file, or a recipe; {nearest(labels, builtin_configs('recipes'))}"
        )
    raw = load_config("recipes", labels) if raw is None else raw
    specs = [resolve(expanded) for expanded in expand(raw, overrides)]
    if len(specs) > 1:
        raise UserError("an audit takes one value per override, not a comma-separated list")
    return specs[0], from_user_data


def _join_splits(
    dataset: Dataset, observed: NDArray[np.int64]
) -> tuple[Images, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Join the training and test splits in the order of their source."""
    test = dataset.test
    index = np.concatenate([dataset.train.index, test.index])
    # In the order of the source, folds and reports do not depend on how the data were split.
    order = np.argsort(index)
    # The slice reads images that are mapped from disk, which `concatenate` cannot join.
    images = np.concatenate([dataset.train.inputs[:], test.inputs[:]])[order]
    in_test = (np.arange(len(index)) >= len(dataset.train))[order]
    return images, np.concatenate([observed, test.targets])[order], index[order], in_test

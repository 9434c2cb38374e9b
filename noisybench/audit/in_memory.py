"""Input of an audit that people hold in memory: datasets of arrays, features, texts or masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.inputs import AuditInput, find_predictions
from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.config.overrides import expand
from noisybench.config.resolve import complete
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.data.check.notes import dataset_notes
from noisybench.data.dataset import Dataset
from noisybench.data.texts import is_text
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.utils.text import printable

TITLE = "given data"
"""Name of the data in messages and reports, unless the dataset has one."""

SOURCES = {"images": "npz", "features": "features", "masks": "image_mask_folder"}
"""Dataset that stands for each kind of data in the specification, which is completed and not read."""


def in_memory_audit_input(
    dataset: Dataset,
    overrides: Iterable[str] = (),
    predictions: Path | NDArray[Any] | None = None,
    with_backbone: bool = False,
    title: str = TITLE,
) -> AuditInput:
    """Return the training examples of a dataset as the input of an audit, after checking that networks can be trained on them.

    Args:
        dataset: images, features or texts with classes. Its noisy labels are audited if it has some, else its targets.
        overrides: overrides of the specification such as ``budget.epochs=30``.
        predictions: (N, C) out-of-sample class probabilities, or a file of them.
        with_backbone: the features of a backbone follow, without which texts cannot be audited.
        title: name of the data in messages and reports.

    Raises:
        UserError: every problem of the overrides, the data or the predictions.
    """
    train = dataset.train
    is_images = train.inputs.dtype == np.uint8
    spec = _specification("images" if is_images else "features", dataset, overrides)
    observed = train.targets if train.noisy_targets is None else train.noisy_targets
    if is_images:
        prepare_run(spec, dataset)
    clean = None if train.noisy_targets is None else train.targets
    if is_text(train.inputs) and predictions is None and not with_backbone:
        raise UserError('texts are audited by the features of a backbone; pass backbone="minilm"')
    features = None
    if not is_images and not is_text(train.inputs):
        features = np.ascontiguousarray(train.inputs[:]).reshape(len(observed), -1)
    files = tuple(printable(dataset.source_names[row]) for row in train.index) if dataset.source_names else ()
    return AuditInput(
        title,
        spec,
        train.inputs,
        observed,
        train.index,
        files,
        clean,
        dataset.class_names,
        dataset_notes(dataset),
        features=features,
        predictions=find_predictions(predictions, dataset, train.index),
    )


def in_memory_mask_input(dataset: Dataset, overrides: Iterable[str] = (), title: str = TITLE) -> MaskAuditInput:
    """Return the training examples of a dataset of images with masks as the input of an audit.

    Args:
        dataset: images with masks. Its noisy masks are audited if it has some, else its targets.
        overrides: overrides of the specification such as ``budget.epochs=30``.
        title: name of the data in messages and reports.

    Raises:
        UserError: every problem of the overrides or the data.
    """
    train = dataset.train
    spec = _specification("masks", dataset, overrides)
    prepare_run(spec, dataset)
    return MaskAuditInput(
        title,
        spec,
        train.inputs,
        train.targets if train.noisy_targets is None else train.noisy_targets,
        None if train.noisy_targets is None else train.targets,
        train.index,
        tuple(printable(dataset.source_names[row]) for row in train.index) if dataset.source_names else (),
        ("train",) * len(train),
        dataset.class_names,
        dataset.has_background,
        dataset_notes(dataset),
    )


def _specification(kind: str, dataset: Dataset, overrides: Iterable[str]) -> RunSpec:
    """Return the specification of the networks of an audit."""
    raw = load_config("recipes", "audit_masks" if kind == "masks" else "audit")
    raw["dataset"] = SOURCES[kind]
    raw["noise"] = "clean" if dataset.train.noisy_targets is None else "real_world"
    if kind == "features":
        raw |= {"task": "transfer", "budget": {"network": "features"}}
    specs = [complete(expanded) for expanded in expand(raw, overrides)]
    if len(specs) > 1:
        raise UserError("an audit takes one value per override, not a comma-separated list")
    return specs[0]

"""Input of an audit of masks: images and masks of a folder or a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.inputs import resolve_labels
from noisybench.config.spec import RunSpec
from noisybench.data.check.notes import dataset_notes
from noisybench.data.lazy import Images
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import IGNORED
from noisybench.runs.preparation import prepare_run
from noisybench.utils.places import expand_user
from noisybench.utils.text import printable


@dataclass(frozen=True)
class MaskAuditInput:
    """Images and masks to audit.

    Attributes:
        title: name of the data in messages and reports.
        spec: dataset, noise and budget; its stack is not used.
        images: (N, C, H, W) uint8 images.
        masks: (N, H, W) observed classes, and 255 for no label.
        clean: (N, H, W) clean masks; None if they are unknown.
        index: (N,) rows in the source of the dataset.
        files: (N,) names of the examples; empty if they have none.
        splits: (N,) split of each example.
        class_names: (C,) names of the classes.
        has_background: class 0 is the background.
        notes: facts about the data that a user should know.
        verified: (N,) True where people have verified the mask; None if they have verified none.
    """

    title: str
    spec: RunSpec
    images: Images
    masks: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None
    index: NDArray[np.int64]
    files: tuple[str, ...]
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    has_background: bool
    notes: tuple[ReadingNote, ...]
    verified: NDArray[np.bool_] | None = None


def load_mask_audit_input(labels: str, overrides: Iterable[str] = ()) -> MaskAuditInput:
    """Load the images and masks to audit, and check that networks can be trained on them.

    All splits of a user's own data are audited, except a test split from a source of its own. Of a recipe, the training
    split is audited.

    Args:
        labels: folder or file of images with masks, or a recipe of the task segmentation, whose noise is then audited.
        overrides: overrides of the specification such as ``budget.epochs=30``.

    Raises:
        UserError: every problem of the specification or the data.
    """
    spec, from_user_data = resolve_labels(labels, overrides)
    prepared = prepare_run(spec)
    dataset, observed = prepared.dataset, {"train": prepared.labels.train}
    splits, notes = {"train": dataset.train}, dataset_notes(dataset)
    if from_user_data and len(dataset.validation):
        splits["validation"], observed["validation"] = dataset.validation, prepared.labels.validation
    if from_user_data and dataset.test_source_size is None:
        # Drawn from the same unverified masks.
        splits["test"], observed["test"] = dataset.test, dataset.test.targets
    elif len(dataset.test):
        text = "Masks of the test split come from a source of their own and were not audited; audit that source to check them"
        notes = (*notes, ReadingNote("test_not_audited", text, len(dataset.test)))
    index = np.concatenate([split.index for split in splits.values()])
    # In the order of the source, folds and reports do not depend on how the data were split.
    order = np.argsort(index) if len(splits) > 1 else np.arange(len(index))
    masks = np.concatenate(list(observed.values()))[order]
    clean = None
    if not from_user_data or spec.noise.name != "clean":
        clean = np.concatenate([split.targets for split in splits.values()])[order]
    verified, verification = None, prepared.labels.verification
    if verification is not None and clean is not None:
        by_people = np.concatenate([verification.is_verified(name, split) for name, split in splits.items()])[order]
        # Given masks that people have found incorrect are under audit as all others.
        verified = by_people & (clean == masks).all((1, 2))
        clean = _verified_masks(masks, clean, by_people) if from_user_data else clean
    names = np.repeat(list(splits), [len(split) for split in splits.values()])[order]
    # Images of one split may stay on disk, which `concatenate` cannot join.
    images: Images = dataset.train.inputs
    if len(splits) > 1:
        images = np.concatenate([split.inputs[:] for split in splits.values()])[order]
    files = tuple(printable(dataset.source_names[row]) for row in index[order]) if dataset.source_names else ()
    title = (
        expand_user(Path(labels)).name
        if from_user_data
        else f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}"
    )
    return MaskAuditInput(
        title,
        spec,
        images,
        masks,
        clean,
        index[order],
        files,
        tuple(names.tolist()),
        dataset.class_names,
        dataset.has_background,
        notes,
        verified,
    )


def _verified_masks(
    masks: NDArray[np.uint8], targets: NDArray[np.uint8], by_people: NDArray[np.bool_]
) -> NDArray[np.uint8] | None:
    """Return the masks that people have verified as the clean ones; None if all of them are those under audit."""
    clean = np.where(by_people[:, None, None], targets, np.uint8(IGNORED))
    return None if ((clean == masks) | (clean == IGNORED)).all() else clean

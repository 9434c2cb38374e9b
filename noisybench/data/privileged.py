"""Privileged information: its kinds, its availability in a setting, and its use by a mitigation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import UNKNOWN_STATUS
from noisybench.errors import UserError

PRIVILEGED = {
    "noise_rate": "fraction of incorrect training labels, a float",
    "noise_type": "name of the noise model",
    "transition_matrix": "(C, C) tensor of transition probabilities, rows are clean classes",
    "clean_validation_labels": "(M,) clean targets of the validation split",
    "label_status": "(N,) positions in `targets.LABEL_STATUS` of the training labels: clean, mislabeled or OOD",
    "extra_data": "data in addition to the dataset",
    "pretrained_weights": "weights trained on other data",
}
"""Privileged information that a mitigation may declare; no other information about clean labels is available to it."""


class PrivilegedInfo:
    """Declared privileged information as attributes; reading anything else is an error.

    Examples:
        >>> info = PrivilegedInfo({"noise_rate": 0.4, "noise_type": "pair_flip"}, declared=["noise_rate"])
        >>> info.noise_rate
        0.4
        >>> info.noise_type  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        noisybench.errors.UserError: `noise_type` is privileged information ...
    """

    def __init__(self, available: dict[str, Any], declared: Sequence[str]) -> None:
        # Undeclared values are not even stored, so no mitigation can reach them by accident.
        self._values = {name: available[name] for name in declared}

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling look attributes up before `_values` exists; `self._values` would then recurse forever.
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        if name in PRIVILEGED:
            raise UserError(
                f"`{name}` is privileged information that this mitigation reads but does not declare in its `requirements`"
            )
        raise AttributeError(name)


def available_privileged_info(labels: LabelSet, dataset: Dataset) -> dict[str, Any]:
    """Return the privileged information that a label set offers, by name; tensors of `PRIVILEGED` are arrays here."""
    available: dict[str, Any] = {"noise_type": labels.manifest["noise"]["name"], "pretrained_weights": True}
    status = labels.label_status(dataset.train.targets)
    # The measured rate, because the nominal one follows the convention of its noise model.
    if labels.manifest["actual_noise_rate"] is not None:
        available["noise_rate"] = labels.manifest["actual_noise_rate"]
    # In masks and sequences the status is unknown only where there is no label, which nothing depends on.
    if labels.target_kind.dense or (status != UNKNOWN_STATUS).all():
        available["label_status"] = status
    if labels.manifest["transition_matrix"] is not None:
        available["transition_matrix"] = np.array(labels.manifest["transition_matrix"], dtype=np.float32)
    if len(dataset.validation):
        available["clean_validation_labels"] = dataset.validation.targets
    return available

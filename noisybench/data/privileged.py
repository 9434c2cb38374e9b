"""The privileged available: which there are, what a cell offers of them, and how a mitigation reads those that it declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.data.label_set import UNKNOWN_STATE, LabelSet
from noisybench.errors import UserError

PRIVILEGED = {
    "noise_rate": "realised share of wrong training labels, a float",
    "noise_type": "name of the noise model",
    "transition_matrix": "(C, C) tensor of transition probabilities, rows are clean classes",
    "clean_validation_labels": "(M,) clean targets of the validation split",
    "label_status": "(N,) positions in `labels.STATES`: which training labels are right, of another class, or on an outsider",
    "extra_data": "data beside the dataset",
    "pretrained_weights": "weights learned elsewhere",
}
"""Privileged available that a mitigation may declare. Nothing else about the truth exists for it."""


class PrivilegedInfo:
    """Expose the declared privileged information as attributes; reading anything else is an error."""

    def __init__(self, available: dict[str, Any], declared: Sequence[str]) -> None:
        self._values = {name: available[name] for name in declared}

    def __getattr__(self, name: str) -> Any:
        available = self.__dict__.get("_values", {})
        if name in available:
            return available[name]
        if name in PRIVILEGED:
            raise UserError(
                f"`{name}` is privileged knowledge that this mitigation reads but does not declare in `privileged`"
            )
        raise AttributeError(name)


def available_privileged_info(labels: LabelSet, dataset: Dataset) -> dict[str, Any]:
    """The privileged information that a cell can give to those who declare them; tensors of `PRIVILEGED` as arrays."""
    available: dict[str, Any] = {"noise_type": labels.manifest["noise"]["name"], "pretrained_weights": True}
    states = labels.label_status(dataset.train.targets)
    if labels.manifest["actual_noise_rate"] is not None:
        available["noise_rate"] = labels.manifest["actual_noise_rate"]
    # Of masks and sequences, what has no label is no label of which nobody knew whether it is right.
    if states.ndim > 1 or (states != UNKNOWN_STATE).all():
        available["label_status"] = states
    if labels.manifest["transition_matrix"] is not None:
        available["transition_matrix"] = np.array(labels.manifest["transition_matrix"], dtype=np.float32)
    if len(dataset.validation):
        available["clean_validation_labels"] = dataset.validation.targets
    return available

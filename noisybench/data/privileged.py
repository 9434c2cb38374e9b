"""The privileged facts: which there are, what a cell offers of them, and how a mitigation reads those that it declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.data.label_set import UNKNOWN_STATE, LabelSet
from noisybench.errors import UserError

KNOWLEDGE = {
    "noise_rate": "realised share of wrong training labels, a float",
    "noise_type": "name of the noise model",
    "transition_matrix": "(C, C) tensor of transition probabilities, rows are clean classes",
    "clean_validation": "(M,) clean targets of the validation split",
    "noise_states": "(N,) positions in `labels.STATES`: which training labels are right, of another class, or on an outsider",
    "extra_data": "data beside the dataset",
    "pretrained_weights": "weights learned elsewhere",
}
"""Privileged facts that a mitigation may declare. Nothing else about the truth exists for it."""


class Knowledge:
    """The declared facts, as attributes. Reading another one is an error, so a declaration cannot be forgotten."""

    def __init__(self, facts: dict[str, Any], declared: Sequence[str]) -> None:
        self._facts = {name: facts[name] for name in declared}

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("_facts", {})
        if name in facts:
            return facts[name]
        if name in KNOWLEDGE:
            raise UserError(
                f"`{name}` is privileged knowledge that this mitigation reads but does not declare in `knowledge`"
            )
        raise AttributeError(name)


def offered_knowledge(labels: LabelSet, dataset: Dataset) -> dict[str, Any]:
    """The privileged facts that a cell can give to those who declare them; tensors of `KNOWLEDGE` as arrays."""
    facts: dict[str, Any] = {"noise_type": labels.manifest["noise"]["name"], "pretrained_weights": True}
    states = labels.states(dataset.train.targets)
    if labels.manifest["realised_rate"] is not None:
        facts["noise_rate"] = labels.manifest["realised_rate"]
    # Of masks and sequences, what has no label is no label of which nobody knew whether it is right.
    if states.ndim > 1 or (states != UNKNOWN_STATE).all():
        facts["noise_states"] = states
    if labels.manifest["transition_matrix"] is not None:
        facts["transition_matrix"] = np.array(labels.manifest["transition_matrix"], dtype=np.float32)
    if len(dataset.validation):
        facts["clean_validation"] = dataset.validation.targets
    return facts

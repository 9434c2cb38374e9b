"""Combination of mitigations: what they require together, and which of them exclude each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from noisybench.training.mitigation import Mitigation, Requirements, public_name
from noisybench.training.roles import Decoder, EpochPlanner, LossFunction, ModelBuilder
from noisybench.training.views import sorted_views

SINGLE_ROLES: dict[type[Mitigation], str] = {
    LossFunction: "define the loss",
    ModelBuilder: "choose which weights are trained",
    EpochPlanner: "plan the batches of an epoch",
    Decoder: "decode responses",
}
"""Roles that at most one mitigation of a stack can have, and their effect."""

CONFLICTS: tuple[tuple[str, str, str], ...] = (
    (
        "mixes_samples",
        "needs_unmixed_samples",
        "{second} keeps state per sample and cannot follow {first}, which mixes samples",
    ),
    (
        "repeats_loss",
        "per_sample_state",
        "{second} keeps state per sample, which {first} would update twice in each step",
    ),
    (
        "trains_copies",
        "per_sample_state",
        "{second} keeps one state per sample and cannot train the several networks of {first}",
    ),
    (
        "trains_copies",
        "freezes_layers",
        "{second} trains the layers of one network in turn, not those of the several networks of {first}",
    ),
    (
        "sets_initial_weights",
        "trains_fresh_weights",
        "{second} initializes the networks again in a later phase, without the weights of {first}",
    ),
)
"""Requirements of two different mitigations that exclude each other, and the message."""


def combined_requirements(parts: Sequence[Requirements]) -> Requirements:
    """Return the requirements that satisfy all parts.

    >>> combined_requirements([Requirements(networks=2), Requirements(views=("weak_2",))]).views
    ('weak', 'weak_2')
    """
    states = [part.distributed_state for part in parts]
    return Requirements(
        networks=max((part.networks for part in parts), default=1),
        ensemble=next((part.ensemble for part in parts if part.ensemble), None),
        deployed=next((part.deployed for part in parts if part.deployed), None),
        views=sorted_views(view for part in parts for view in part.views),
        privileged=tuple(sorted({info for part in parts for info in part.privileged})),
        feature_stage=next((part.feature_stage for part in parts if part.feature_stage is not None), None),
        lr_multiplier=math.prod(part.lr_multiplier for part in parts),
        head_optimizers={name: own for part in parts for name, own in part.head_optimizers.items()},
        phases=next((part.phases for part in parts if part.phases), ()),
        keep_step_count=all(part.keep_step_count for part in parts),
        per_sample_state=any(part.per_sample_state for part in parts),
        follows_mixing=all(part.follows_mixing for part in parts if part.per_sample_state),
        mixes_samples=any(part.mixes_samples for part in parts),
        repeats_loss=any(part.repeats_loss for part in parts),
        trains_copies=any(part.trains_copies for part in parts),
        sets_initial_weights=any(part.sets_initial_weights for part in parts),
        freezes_layers=any(part.freezes_layers for part in parts),
        replaces_classifier=any(part.replaces_classifier for part in parts),
        distributed_state=None
        if None in states
        else {name: how for state in states if state for name, how in state.items()},
    )


def incompatibilities(mitigations: Sequence[Mitigation]) -> list[str]:
    """Return the reasons why mitigations cannot be combined."""
    needs = [(public_name(mitigation), mitigation.requirements) for mitigation in mitigations]
    problems = []
    groups = {
        effect: [public_name(mitigation) for mitigation in mitigations if isinstance(mitigation, role)]
        for role, effect in SINGLE_ROLES.items()
    }
    groups[SINGLE_ROLES[ModelBuilder]] += [name for name, need in needs if need.freezes_layers]
    groups["set the number of networks"] = [name for name, need in needs if need.networks > 1]
    groups["train in phases"] = [name for name, need in needs if need.phases]
    groups["replace the trained classifier"] = [name for name, need in needs if need.replaces_classifier]
    for effect, names in groups.items():
        if len(names) > 1:
            problems.append(
                f"mitigations: {_enumerated(names)} {effect}, but only one mitigation of a stack can; keep one"
            )
    # Only pairs of different mitigations conflict: one that has both traits handles their combination itself.
    for first_trait, second_trait, message in CONFLICTS:
        problems += [
            f"mitigations: {message.format(first=first, second=second)}; use one of them"
            for i, (first, first_need) in enumerate(needs)
            for j, (second, second_need) in enumerate(needs)
            if i != j and getattr(first_need, first_trait) and getattr(second_need, second_trait)
        ]
    stages = {name: need.feature_stage for name, need in needs if need.feature_stage is not None}
    if len(set(stages.values())) > 1:
        listed = ", ".join(f"{name} reads stage {stage}" for name, stage in stages.items())
        problems.append(f"mitigations: only one stage of the network can be read, but {listed}; set the same stage")
    return problems


def _enumerated(names: Sequence[str]) -> str:
    return f"{names[0]} and {names[1]} both" if len(names) == 2 else f"{', '.join(names[:-1])} and {names[-1]} all"

"""Stacks of mitigations for training loops outside of the harness, and the reasons why some work only inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisybench.config.overrides import parse_stack
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.containers import as_array
from noisybench.data.privileged import PrivilegedInfo
from noisybench.errors import UserError, show
from noisybench.mitigations._transition import TransitionCorrection
from noisybench.training.mitigation import Mitigation
from noisybench.training.roles import DetectorProvider, GradientTransform, StepCallback
from noisybench.training.stack import Stack

SCORES = "trains networks of its own to score the examples before training; `nb.audit` scores examples of your data"
TRAINED_WEIGHTS = "chooses which weights of the network are trained; freeze or replace layers of your model"
SUBSET = "leaves out examples before training; train on a `torch.utils.data.Subset`"

NOT_LOSSES: dict[str, str] = {
    "adele": "reads the network's activations and rewrites the masks of the whole training set",
    "aum": SCORES,
    "cal": "trains a second network from fresh weights on labels that the first one has corrected",
    "cdr": "changes the gradients of the network after the backward pass",
    "clslsr": "trains networks by cross-validation to find incorrect pixels",
    "co_teaching": "trains two networks, each on the selection of the other",
    "co_teaching_plus": "trains two networks on examples that they classify differently",
    "confident_learning": SCORES,
    "cores2": "counts the observed labels of the whole training set before training",
    "cores2_star": "trains a new network in a second phase, on two views of the examples",
    "disc": "reads a strong view of each example, and selects and corrects labels after each epoch",
    "dividemix": "trains two networks, on batches that each plans for the other",
    "early_stopping": "returns to the weights of the best epoch after the last one; keep the best checkpoint of your loop",
    "el2n": SCORES,
    "elr_plus": "trains two networks, each with the moving average of the other",
    "ensemble": "trains several networks",
    "f_divergence": "draws further examples of the training set in each step",
    "forgetting": SCORES,
    "full_finetuning": TRAINED_WEIGHTS,
    "grand": SCORES,
    "jocor": "trains two networks to agree",
    "knn": "replaces the classifier of the trained network after the last epoch",
    "linear_probe": TRAINED_WEIGHTS,
    "lora": TRAINED_WEIGHTS,
    "lsa": "reads several views of each example and the features of an early stage, and trains a contrastive head",
    "mahalanobis": "replaces the classifier of the trained network after the last epoch",
    "mean_teacher": "trains a network with a moving average of its weights",
    "meta_weight_net": "takes a trial step of the network on each batch, and scores it on clean examples",
    "mixup": "mixes the inputs before the network sees them; call `nb.losses.mixup` on your batch, or use `nb.lightning`",
    "mlp_probe": TRAINED_WEIGHTS,
    "nmtune": "replaces the head of a frozen backbone, and regularizes its features",
    "noise_weighted_dice": "weighs pixels by the network's predictions for the masks of the whole training set",
    "ogc": "reads the learning rate of each step, with which its threshold changes",
    "oracle_pruning": SUBSET,
    "peer_loss": "draws further examples of the training set in each step",
    "pencil": "trains the labels of each example with an optimizer of their own, and the network in phases",
    "pes": "trains the early and the late layers of a network in phases of their own",
    "pes_semi": "trains late layers in phases of their own, then on batches that it plans of labeled and unlabeled examples",
    "pixel_confident_learning": "trains networks by cross-validation to correct the masks",
    "pls": "reads several views of each example, and trains a contrastive head",
    "promix": "trains two networks with two classifiers each, on two views of the examples that each selects",
    "random_pruning": SUBSET,
    "sam": "moves the weights before each backward pass, and back before the step of the optimizer",
    "self_consistency": "changes how responses are generated, not how a network is trained",
    "simclr": "pre-trains the network; load pre-trained weights into your model",
    "small_loss_pruning": SCORES,
    "sop": "trains parameters of each example with optimizers of their own",
    "sop_plus": "trains parameters of each example with optimizers of their own, and reads a second view",
    "spectral_truncation": "changes the trained network after the last epoch",
    "t_revision": "estimates a transition matrix between phases with optimizers of their own",
    "trace_filter": SUBSET,
    "trinet": "trains three networks, each on the selection of the others",
    "volminnet": "trains a transition matrix with an optimizer of its own",
}
"""Mitigations that are no loss of a network's scores: what they do instead, and what to use."""

IN_LIGHTNING = ("mixup", "random_pruning")
"""Mitigations of this table that work in `nb.lightning`, which sees inputs and batches as well."""


@dataclass(frozen=True)
class Member:
    """A mitigation of a stack.

    Attributes:
        name: registered name.
        given: parameters that the user has given.
        mitigation: the mitigation.
    """

    name: str
    given: Mapping[str, Any]
    mitigation: Mitigation


def build_stack(
    mitigations: str | Mapping[str, Any] | Sequence[Any],
    place: str,
    unavailable: Mapping[str, str],
    transition: Tensor | None = None,
) -> tuple[Stack, list[Member]]:
    """Return a stack that works outside of the harness.

    Args:
        mitigations: ``a``, ``a+b``, ``a(parameter=value)``, or mappings with `name`, as on the command line.
        place: name of the place, for messages.
        unavailable: mitigations that do not work in this place, with the reason.
        transition: (C, C) transition matrix of a loss correction.

    Raises:
        UserError: a mitigation is unknown, does not work in this place, or has an invalid parameter.
    """
    members: list[Member] = []
    for item in parse_stack(mitigations):
        values = {"name": item} if isinstance(item, str) else item
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            raise UserError(
                f"{place}: mitigations are names such as 'elr' or 'label_smoothing+gce(q=0.5)', or mappings with `name`, but got "
                f"{show(item)}"
            )
        name, values = values["name"], {key: value for key, value in values.items() if key != "name"}
        entry = get_entry("mitigations", name, place)
        if name in unavailable:
            available = ", ".join(known for known in list_entries("mitigations") if known not in unavailable)
            raise UserError(
                f"{place}: `{name}` {unavailable[name]}; in the harness it is `nb.run(..., mitigations={name!r})`. "
                f"Mitigations that work here: {available}"
            )
        if issubclass(entry.load_class(), (GradientTransform, StepCallback)):
            # Its code would silently not run: the backward pass and the optimizer are the user's.
            raise UserError(
                f"{place}: `{name}` runs code in every step of the optimizer, which only the harness calls; there it is "
                f"`nb.run(..., mitigations={name!r})`"
            )
        if values.get("preset") is not None:
            raise UserError(
                f"{place}.{name}.preset: published settings belong to a dataset and its noise, which only the harness "
                f"knows; give the parameters that `noisybench describe {name}` lists, such as {_example(values, entry)}"
            )
        corrects = "matrix" in entry.schema.fields and transition is not None
        complete, problems = entry.schema.validate(
            {**values, **({"matrix": "oracle"} if corrects else {})}, f"{place}.{name}"
        )
        if problems:
            raise UserError(*problems)
        if any(member.name == name for member in members):
            raise UserError(f"{place}: `{name}` appears twice in the stack; keep one")
        members.append(Member(name, values, entry.load_class()(**complete)))
        if members[-1].mitigation.requirements.phases:
            raise UserError(
                f"{place}: `{name}` trains in phases, each with an optimizer of its own, which only the harness builds; there "
                f"it is `nb.run(..., mitigations={name!r})`"
            )
    for member in members:
        _provide_privileged_info(member, transition, place)
    if transition is not None and not any(isinstance(member.mitigation, TransitionCorrection) for member in members):
        raise UserError(
            f"{place}.transition: none of {'+'.join(member.name for member in members)} corrects the loss by a transition "
            "matrix; leave transition out, or use forward_correction or backward_correction"
        )
    return Stack([member.mitigation for member in members]), members


def needs_positions(stack: Stack) -> bool:
    """Return True if a stack keeps values for each training example, so that its loss needs the positions of a batch."""
    return stack.requirements.per_sample_state or any(isinstance(each, DetectorProvider) for each in stack.mitigations)


def _example(values: Mapping[str, Any], entry: Any) -> str:
    """Return a parameter with its default as an example."""
    name, (_, declared) = next((item for item in entry.schema.fields.items() if item[0] != "preset"), ("", ("", None)))
    return f"{name}={declared.default!r}" if declared is not None else "none"


def _provide_privileged_info(member: Member, transition: Tensor | None, place: str) -> None:
    """Give a mitigation the transition matrix, and refuse other privileged information."""
    mitigation = member.mitigation
    needed = mitigation.requirements.privileged
    available: dict[str, Any] = {} if transition is None else {"transition_matrix": transition}
    if "transition_matrix" in needed and transition is None:
        raise UserError(
            f"{place}.{member.name}: matrix=oracle is the transition matrix of the harness's noise model; give yours as "
            "transition=..., a (C, C) tensor"
        )
    if "noise_rate" in needed:
        # A loss that leaves out a fraction calls its parameter by that name.
        rate = next(name for name in mitigation.parameters if name in ("drop_fraction", "forget_rate"))
        raise UserError(
            f"{place}.{member.name}.{rate}: by default this is the true noise rate, which only the harness knows; give an "
            f"estimate of yours, such as {rate}=0.2 (`nb.audit` estimates it)"
        )
    missing = [name for name in needed if name not in available]
    if missing:
        raise UserError(
            f"{place}.{member.name}: reads {', '.join(missing)}, privileged information that only the harness has"
        )
    mitigation.privileged = PrivilegedInfo(available, needed)


def check_transition(matrix: Any, num_classes: int | None, place: str) -> Tensor:
    """Return a transition matrix as a float32 tensor.

    Args:
        matrix: (C, C) array, tensor or data frame; row c has the probabilities of the observed classes of examples of class c.
        num_classes: number of classes, or None if it is that of the matrix.
        place: name of the parameter, for messages.

    Raises:
        UserError: it is not square, has another number of classes, or a row is no probability distribution.

    >>> check_transition([[0.9, 0.1], [0.2, 0.8]], 2, "transition").shape
    torch.Size([2, 2])
    """
    try:
        given = matrix if torch.is_tensor(matrix) else as_array(matrix, place).astype(np.float32)
        values = torch.as_tensor(given, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{place}: must be a (C, C) array of numbers, but got {show(matrix)}") from None
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] < 2:
        raise UserError(f"{place}: must have the shape (C, C) for C classes, but has {tuple(values.shape)}")
    if num_classes is not None and len(values) != num_classes:
        raise UserError(f"{place}: has {len(values)} classes, but num_classes is {num_classes}")
    problems = ~((values >= 0).all(1) & ((values.sum(1) - 1).abs() < 1e-3))
    if bool(problems.any()):
        row = int(problems.nonzero()[0])
        numbers = show([round(value, 4) for value in values[row].tolist()])
        raise UserError(
            f"{place}: row {row} must be probabilities that sum to 1, those of the observed classes of examples of class "
            f"{row}, but is {numbers}"
        )
    return values

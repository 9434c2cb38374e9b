"""Losses in the form that the `Trainer` of transformers calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.errors import UserError
from noisybench.integrations._stack_loss import StackLoss
from noisybench.mitigations._transition import TransitionCorrection

MISSING = -100
"""Label that transformers gives to tokens that do not count."""


class LossFunction:
    """A loss for the argument `compute_loss_func` of `Trainer`; `compute_loss` builds it.

    It sums the losses of the labels that are not -100, and divides by `num_items_in_batch`, the number of labels of all
    batches whose gradients are accumulated; without it, by the number in the batch. During evaluation, without gradients,
    it is the cross-entropy, which is comparable among losses.

    Attributes:
        loss: the loss as a module, whose state moves to the device of the logits.
        shift: True if the scores at a position are those of the next token, False if they are those of its own, None to
            decide by the type of the model's output.
        index: (N,) positions of the examples of the next batch, which `Mitigations` sets.
    """

    def __init__(self, loss: StackLoss, shift: bool | None) -> None:
        self.loss, self.shift = loss, shift
        self.index: Tensor | None = None

    def __call__(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            outputs: output of the model with (N, C) or (N, T, C) `logits`.
            labels: (N,) or (N, T) class indices or tokens, -100 where there is none.
            num_items_in_batch: number of labels by which the sum is divided.

        Raises:
            UserError: there are no labels or logits, or they do not agree.
        """
        index, self.index = self.index, None
        logits = _logits(outputs)
        if labels is None:
            raise UserError(
                "hf: the batch has no `labels`; name the column of the training set `labels` (or `label`), and leave it to the "
                "collator"
            )
        if labels.is_floating_point():
            raise UserError(
                "hf: labels must be class indices or tokens, but are numbers of a regression or several classes"
            )
        labels = labels.to(logits.device)
        if logits.ndim == 3:
            if self._shifts(outputs):
                logits, labels = logits[:, :-1], labels[:, 1:]
            self._check_sequences()
        if not torch.is_grad_enabled():
            losses = functional.cross_entropy(
                logits.flatten(0, -2).float(), labels.flatten(), ignore_index=MISSING, reduction="sum"
            )
            return losses / _count(labels, num_items_in_batch)
        if self.loss.needs_index and index is None:
            raise UserError(
                f"hf: {self.loss.title} keeps values for every training example, but a Trainer does not hand over positions; "
                "use `nb.hf.MitigatedTrainer`"
            )
        self.loss.to(logits.device)
        count = _count(labels, num_items_in_batch)
        if self.loss.needs_index:
            total: Tensor = self.loss(logits.movedim(-1, 1), labels, index)
            return total / count
        # Only labels that exist: the targets of large vocabularies take much memory.
        exists = labels != MISSING
        if not bool(exists.any()):
            return logits.sum() * 0.0
        total = self.loss(logits[exists], labels[exists])
        return total / count

    def _shifts(self, outputs: Any) -> bool:
        if self.shift is not None:
            return self.shift
        return "CausalLM" in type(outputs).__name__

    def _check_sequences(self) -> None:
        """Check that the stack serves labels of tokens."""
        unsuited = [name for name, each in self.loss.mitigations.items() if "chain_of_thought" not in each.tasks]
        if unsuited:
            raise UserError(
                f"hf: {', '.join(unsuited)} does not serve the labels of tokens; use gce, sce, bootstrapping, "
                "label_smoothing or trimmed_loss"
            )


def compute_loss(
    mitigations: str | Mapping[str, Any] | Sequence[Any],
    *,
    num_examples: int | None = None,
    num_classes: int | None = None,
    transition: Any = None,
    shift: bool | None = None,
) -> LossFunction:
    """Return a loss for ``Trainer(..., compute_loss_func=...)``: sequence classification, token labels or causal language.

    Args:
        mitigations: ``a``, ``a+b``, ``a(parameter=value)``, as on the command line; loss functions and wrappers only.
        num_examples: number of training examples; for losses with values for each example.
        num_classes: number of classes; for losses with values for each example.
        transition: (C, C) transition matrix of a loss correction.
        shift: True if the scores at a position are those of the next token; by default the type of the output decides.

    Raises:
        UserError: a mitigation is unknown, no loss, or one of masks, or a parameter is missing or invalid.

    Example:
        >>> compute_loss("label_smoothing+sce").loss
        StackLoss(
          label_smoothing+sce, reduction=sum
          (heads): ModuleDict()
          (states): ModuleList(
            (0-1): 2 x _State()
          )
        )
    """
    loss = StackLoss(
        mitigations,
        num_examples=num_examples,
        num_classes=num_classes,
        transition=transition,
        reduction="sum",
        ignore_index=MISSING,
    )
    masks = [name for name, each in loss.mitigations.items() if each.tasks == ("segmentation",)]
    if masks:
        raise UserError(f"hf: {', '.join(masks)} is a loss of masks; use `nb.losses` in a loop of your own")
    corrections = [name for name, each in loss.mitigations.items() if isinstance(each, TransitionCorrection)]
    if transition is None and corrections:
        raise UserError(
            f"hf: {', '.join(corrections)} needs transition=..., a (C, C) matrix; `nb.losses.estimate_transition` estimates it "
            "from predictions"
        )
    return LossFunction(loss, shift)


def _logits(outputs: Any) -> Tensor:
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs[0]
    if not torch.is_tensor(logits) or logits.ndim not in (2, 3):
        shape = tuple(logits.shape) if torch.is_tensor(logits) else "missing"
        raise UserError(f"hf: the model must return (N, C) or (N, T, C) logits, but they are {shape}")
    return logits


def _count(labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | int:
    if num_items_in_batch is None:
        return (labels != MISSING).sum().clamp_min(1)
    return num_items_in_batch.to(labels.device) if torch.is_tensor(num_items_in_batch) else num_items_in_batch

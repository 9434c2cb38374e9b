"""The loss of a stack of mitigations as a module of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from noisybench.errors import UserError, show
from noisybench.integrations._batch_checks import check_batch, check_values
from noisybench.integrations._learner import GivenLogits, label_space, make_batch
from noisybench.integrations._stacks import NOT_LOSSES, build_stack, check_transition, needs_positions
from noisybench.mitigations._transition import TransitionCorrection
from noisybench.training.mitigation import Mitigation
from noisybench.utils.numbers import as_integer

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

Reduction = Literal["mean", "sum", "none"]

OWN_LOOP = {
    "matrix": "give `transition`, or call `set_transition` after a warm-up of yours",
    "warmup_epochs": "your loop decides when to call `set_transition`",
    "percentile": "it is a parameter of `nb.losses.estimate_transition`",
    "implausible": "it is a parameter of `nb.losses.estimate_transition`",
}
"""Parameters of loss corrections whose part a user's loop has, and what to do instead."""


class StackLoss(nn.Module):
    """Loss of a stack of mitigations, for a plain PyTorch loop.

    It runs the code of the harness, and gives the same numbers. Computation is in float32, also under autocast.

    Args:
        mitigations: ``a``, ``a+b``, ``a(parameter=value)``, as on the command line; loss functions and wrappers only.
        num_examples: number of training examples; for losses with a state for each example.
        num_classes: number of classes; for losses with such a state. It is otherwise that of the logits.
        labels_per_example: number of labels of each example, such as H * W for masks; for losses with such a state.
        transition: (C, C) transition matrix of a loss correction; row c has the probabilities of the observed classes of
            examples of class c.
        reduction: ``mean`` and ``sum`` over the labels, or ``none`` for a value per label.
        ignore_index: class index of missing labels, such as -100; None if every label exists.

    Attributes:
        mitigations: mitigations of the stack, by name.
        title: names of the mitigations.
        needs_index: the loss has a state for each example, so that it is called with their positions.
        epoch: number of the current epoch, from 0; see `next_epoch`.

    Raises:
        UserError: a mitigation is unknown or no loss, or a parameter is missing or invalid.

    Example:
        >>> loss = StackLoss("label_smoothing(smoothing=0.2)+gce")
        >>> logits = torch.zeros(2, 4, requires_grad=True)
        >>> loss(logits, torch.tensor([0, 3]))
        tensor(0.8872, grad_fn=<MeanBackward0>)
    """

    def __init__(
        self,
        mitigations: str | Mapping[str, Any] | Sequence[Any],
        *,
        num_examples: int | None = None,
        num_classes: int | None = None,
        labels_per_example: int = 1,
        transition: Any = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise UserError(f"losses.reduction: must be mean, sum or none, but got {show(reduction)}")
        for name, value, least in (
            ("num_examples", num_examples, 1),
            ("num_classes", num_classes, 2),
            ("labels_per_example", labels_per_example, 1),
        ):
            if value is not None and (as_integer(value) or 0) < least:
                raise UserError(f"losses.{name}: must be a whole number of at least {least}, but got {show(value)}")
        if ignore_index is not None and as_integer(ignore_index) is None:
            raise UserError(
                f"losses.ignore_index: must be a whole number such as -100, or None, but got {show(ignore_index)}"
            )
        if transition is not None:
            transition = check_transition(transition, num_classes, "losses.transition")
            num_classes = len(transition)
        self.num_examples, self.num_classes, self.labels_per_example = num_examples, num_classes, labels_per_example
        self.reduction, self.ignore_index, self.epoch = reduction, ignore_index, 0
        self.stack, members = build_stack(mitigations, "losses", NOT_LOSSES, transition)
        self.title = "+".join(member.name for member in members)
        for member in members:
            if isinstance(member.mitigation, TransitionCorrection) and (own := set(member.given) & set(OWN_LOOP)):
                raise UserError(*(f"losses.{member.name}.{name}: {OWN_LOOP[name]}" for name in sorted(own)))
        self.mitigations = {member.name: member.mitigation for member in members}
        mitigations_ = self.stack.mitigations
        self._corrections = [each for each in mitigations_ if isinstance(each, TransitionCorrection)]
        # Estimates of the matrix are the user's part, see `set_transition`.
        self._with_epochs = [each for each in mitigations_ if each not in self._corrections and _has_epochs(each)]
        self.needs_index = needs_positions(self.stack)
        if self.needs_index and (num_examples is None or num_classes is None):
            lacking = " and ".join(
                name for name, value in (("num_examples", num_examples), ("num_classes", num_classes)) if value is None
            )
            raise UserError(
                f"losses: {self.title} keeps values for every training example; give {lacking}, such as "
                "num_examples=len(train_set), num_classes=10"
            )
        self.heads, self.states = nn.ModuleDict(), nn.ModuleList()
        space = label_space(num_examples or 1, labels_per_example, num_classes or 2)
        self._learner = GivenLogits(space, self.heads)
        for each in mitigations_:
            each.prepare(cast("Learner", self._learner), space)
            self.states.append(_State(each))
        self._start_epoch()
        self._is_checked_on_device = False

    def _start_epoch(self) -> None:
        self._examples_seen = 0
        self._learner.current_epoch = self.epoch
        for each in self._with_epochs:
            each.on_epoch_start(cast("Learner", self._learner))

    def next_epoch(self) -> None:
        """End an epoch, and start the next one; required after every epoch by losses that change with it.

        These choose the examples of the next epoch here, or use another fraction of them. Other losses ignore the call.

        Example:
            >>> loss = StackLoss("trimmed_loss(drop_fraction=0.5, ramp_epochs=1)", num_examples=4, num_classes=2)
            >>> logits, targets, index = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]), torch.tensor([0, 1])
            >>> loss(logits, targets, index)
            tensor(1.1269)
            >>> loss.next_epoch()
            >>> loss(logits, targets, index)
            tensor(0.1269)
        """
        for each in self._with_epochs:
            each.on_epoch_end(cast("Learner", self._learner))
        self.epoch += 1
        self._start_epoch()

    def set_transition(self, matrix: Any) -> None:
        """Correct the loss by a (C, C) transition matrix from now on, such as that of `estimate_transition`.

        Raises:
            UserError: it is no transition matrix, or no mitigation of this loss uses one.

        Example:
            >>> loss = StackLoss("forward_correction")
            >>> loss.set_transition([[0.8, 0.2], [0.2, 0.8]])
            >>> loss(torch.tensor([[9.0, 0.0]]), torch.tensor([1]))
            tensor(1.6091)
        """
        if not self._corrections:
            raise UserError(
                f"losses: {self.title} uses no transition matrix; use forward_correction or backward_correction"
            )
        values = check_transition(matrix, self.num_classes, "losses.set_transition")
        self.num_classes = len(values)
        for each in self._corrections:
            each.state.pop("inverse", None)  # of an earlier matrix
            each.state["matrix"] = values.to(self._device())

    def _device(self) -> torch.device:
        tensors = [*self.buffers(), *self.parameters()]
        return tensors[0].device if tensors else torch.device("cpu")

    def forward(self, logits: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: (N, C) scores, or (N, C, ...) with several labels per example, in any floating-point type.
            targets: (N,) or (N, ...) class indices, or probabilities in the shape of the logits.
            index: (N,) positions of the examples in the training set; for losses with a state for each example.

        Raises:
            UserError: shapes do not agree, a target is no class, a position is no training example, or the loss has a
                state for each example and is in evaluation mode.
        """
        if self.needs_index and not self.training:
            raise UserError(
                f"losses: {self.title} keeps values for every training example, so it is only for training; measure "
                "validation data with torch.nn.functional.cross_entropy"
            )
        check_batch(logits, targets, index, self.num_classes)
        self._check_state(logits, index)
        # In half precision, logarithms of small probabilities and sums over many examples would be lost.
        with torch.autocast(logits.device.type, enabled=False):
            batch = make_batch(logits.float(), targets, index, logits.shape[1], self.ignore_index)
            # On a GPU, every check makes the host wait: only the first batch is checked there.
            if logits.device.type == "cpu" or not self._is_checked_on_device:
                check_values(
                    batch.observed if batch.soft is None else batch.soft, index, logits.shape[1], self.num_examples
                )
                self._is_checked_on_device = True
            self._set_label_space(len(logits), logits[0, 0].numel(), logits.shape[1])
            self._count(len(logits))
            losses = self.stack.loss_function(cast("Learner", self._learner))(batch)
            return self._reduce(losses, batch.has_label, logits.shape)

    def _reduce(self, losses: Tensor, has_label: Tensor | None, shape: torch.Size) -> Tensor:
        """Return the reduced loss; labels that do not exist count as zero."""
        if has_label is not None:
            # A product would keep values that are not finite.
            losses = torch.where(has_label, losses, 0.0)
        if self.reduction == "none":
            return losses.view(shape[0], *shape[2:])
        if self.reduction == "sum":
            return losses.sum()
        return losses.mean() if has_label is None else losses.sum() / has_label.sum().clamp_min(1)

    def _set_label_space(self, batch_size: int, labels_per_example: int, num_classes: int) -> None:
        """Set how many labels an example of this batch has: responses, for instance, differ in length."""
        if not self.stack.requirements.per_sample_state:
            examples = self.num_examples if self.needs_index and self.num_examples else batch_size
            self._learner.training_set = label_space(examples, labels_per_example, num_classes)

    def _check_state(self, logits: Tensor, index: Tensor | None) -> None:
        """Check that a batch belongs to the state of the loss."""
        if self.needs_index and index is None:
            raise UserError(
                f"losses: {self.title} keeps values for every training example; call loss(logits, targets, index) with "
                "the (N,) positions of the batch in the training set (`nb.losses.Indexed(dataset)` yields them)"
            )
        labels_per_example = logits[0, 0].numel()
        if self.stack.requirements.per_sample_state and labels_per_example != self.labels_per_example:
            raise UserError(
                f"losses: logits of the shape {tuple(logits.shape)} have {labels_per_example} labels per example, but "
                f"labels_per_example is {self.labels_per_example}"
            )
        state = next(self.buffers(), None)
        if state is not None and state.device != logits.device:
            raise UserError(
                f"losses: logits are on {logits.device}, but the loss is on {state.device}; call loss.to(device)"
            )

    def _count(self, examples: int) -> None:
        """Count the examples of an epoch, and refuse a loop that never ends one."""
        if not self._with_epochs or not self.training:
            return
        self._examples_seen += examples
        assert self.num_examples is not None
        if self._examples_seen > 2 * self.num_examples:
            raise UserError(
                f"losses: {self.title} changes with the epoch, but {self._examples_seen} examples of {self.num_examples} were "
                "seen since the last one; call loss.next_epoch() after every epoch"
            )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._with_epochs:
            destination[f"{prefix}epoch"] = torch.tensor(self.epoch)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        if self._with_epochs and f"{prefix}epoch" in state_dict:
            self.epoch = int(state_dict.pop(f"{prefix}epoch"))
            self._examples_seen, self._learner.current_epoch = 0, self.epoch
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Return the mitigations and the reduction, for ``print``."""
        return f"{self.title}, reduction={self.reduction}"


class _State(nn.Module):
    """The state of a mitigation as buffers, which are moved, saved and restored with the loss."""

    def __init__(self, mitigation: Mitigation) -> None:
        super().__init__()
        self._buffers.update(mitigation.state)
        # One dictionary: a tensor that is moved or loaded is the mitigation's, and one that a mitigation adds later, such
        # as an estimated matrix, is saved.
        mitigation.state = cast(dict[str, Tensor], self._buffers)
        self._added_later = ("matrix", "inverse") if isinstance(mitigation, TransitionCorrection) else ()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        for name in self._added_later:
            if prefix + name in state_dict and name not in self._buffers:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _has_epochs(mitigation: Mitigation) -> bool:
    """Return True if a mitigation does something between epochs."""
    hooks = ("on_epoch_start", "on_epoch_end")
    return any(getattr(type(mitigation), hook) is not getattr(Mitigation, hook) for hook in hooks)

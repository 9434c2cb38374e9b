"""Small-loss selection within a batch, for labels or for whole examples, and the ramp of the fraction left out."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class PeerSelection(LossFunction, abc.ABC):
    """A loss of several networks that leaves out a fraction of each batch, which increases linearly from zero."""

    num_networks: ClassVar[int] = 2
    """Number of networks."""

    forget_rate: float | None = parameter(
        None,
        ge=0,
        lt=1,
        low=0.05,
        high=0.6,
        help="Fraction to leave out after the ramp; by default the true noise rate (privileged)",
    )
    ramp_epochs: int = parameter(10, ge=1, low=2, high=20, help="Number of epochs until `forget_rate` is reached")
    ensemble: bool = parameter(False, help="Deploy the mean prediction of all networks")

    @property
    def requirements(self) -> Requirements:
        """Several networks, and the true noise rate unless a forget rate is given."""
        privileged = ("noise_rate",) if self.forget_rate is None else ()
        ensemble: Literal["probabilities"] | None = "probabilities" if self.ensemble else None
        return Requirements(networks=self.num_networks, ensemble=ensemble, privileged=privileged)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that there is an epoch in which something is left out."""
        return check_ramp(budget)

    def on_epoch_end(self, task: Learner) -> None:
        """Report in the last epoch whether the ramp was too long to reach `forget_rate`."""
        if task.current_epoch == task.budget.epochs - 1:
            self.warnings += describe_ramp(self._final_rate(), task.budget.epochs, self.ramp_epochs)

    def keep_fraction(self, epoch: int) -> float:
        """Return the fraction of a batch to keep in an epoch, from 0."""
        # Networks fit correct labels first: all are kept at the start, fewer once incorrect ones would be memorized.
        return 1 - dropped_fraction(self._final_rate(), epoch, self.ramp_epochs)

    def _final_rate(self) -> float:
        return float(self.privileged.noise_rate) if self.forget_rate is None else self.forget_rate


def example_index(batch: Batch, training_set: TrainingSet) -> Tensor:
    """Return the (B,) position in the training set of the example to which each label of a batch belongs."""
    return batch.index // (training_set.num_labels // len(training_set))


def small_loss_weights(
    losses: Tensor, keep_fraction: float, valid: Tensor | None = None, examples: Tensor | None = None
) -> Tensor:
    """Return (B,) weights that reduce the mean over valid labels to the mean over those with the smallest losses.

    Args:
        losses: (B,) nats.
        keep_fraction: fraction in (0, 1] of valid labels, or of whole examples with such a label by their mean loss; at
            least one is kept.
        valid: (B,) bool, True for labels that count; None for all.
        examples: (B,) example of each label, if whole examples are kept or left out.
    """
    counted = torch.ones_like(losses) if valid is None else valid.float()
    if examples is None:
        # Labels that do not count sort last; a stable sort fixes the order of equal losses.
        order = losses.masked_fill(counted == 0, torch.inf).argsort(stable=True)
        places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        # The count stays on the device, so that the host does not wait for it.
        count = (keep_fraction * counted.sum(dtype=torch.float64)).floor().clamp_min(1)
        kept = (places < count).to(losses.dtype)
    else:
        unique, inverse = torch.unique(examples, return_inverse=True)
        sums, counts = (torch.zeros(len(unique), device=losses.device) for _ in range(2))
        means = sums.index_add_(0, inverse, losses * counted) / counts.index_add_(0, inverse, counted)
        # An example without a valid label has no mean: 0 / 0 must not be the smallest, nor count as an example to keep.
        order = means.masked_fill(counts == 0, torch.inf).argsort(stable=True)
        num_kept = max(1, int(keep_fraction * int((counts > 0).sum())))
        kept_examples = torch.zeros(len(unique), device=losses.device).index_fill_(0, order[:num_kept], 1.0)
        kept = kept_examples[inverse] * counted
    # The caller takes a mean over all valid labels, so the kept ones are scaled up by the inverse of their fraction.
    return kept * (counted.sum() / kept.sum().clamp_min(1))


def dropped_fraction(target: float, epoch: int, ramp_epochs: int) -> float:
    """Return the fraction to leave out in an epoch (from 0): it increases linearly until `ramp_epochs`.

    >>> dropped_fraction(0.4, epoch=5, ramp_epochs=10)
    0.2
    """
    return target * min(epoch / ramp_epochs, 1.0)


def check_ramp(budget: Budget) -> list[str]:
    """Return the problem of a budget in which the ramp never leaves anything out."""
    if budget.epochs > 1:
        return []
    return [
        "nothing is left out in the first epoch, so one epoch is training without selection; set budget.epochs=2 or more"
    ]


def describe_ramp(target: float, epochs: int, ramp_epochs: int) -> list[str]:
    """Return a warning if the fraction that is left out never reaches its target, or if the target is zero.

    Args:
        target: fraction to leave out after the ramp.
        epochs: number of training epochs.
        ramp_epochs: number of epochs of the ramp.

    >>> describe_ramp(0.4, epochs=6, ramp_epochs=10)
    ['at most 20 % were left out, not 40 %, because 6 epochs end before the ramp of 10']
    """
    if not target:
        return ["the fraction to leave out is zero, so every example was used"]
    reached = dropped_fraction(target, epochs - 1, ramp_epochs)
    if reached >= target:
        return []
    return [
        f"at most {100 * reached:.3g} % were left out, not {100 * target:.3g} %, because {epochs} epochs end before the "
        f"ramp of {ramp_epochs}"
    ]

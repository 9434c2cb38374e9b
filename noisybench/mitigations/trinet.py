"""Three networks that select pixels for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.mitigations._small_loss import PeerSelection, small_loss_weights
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TriNet(PeerSelection):
    """Train three networks, each on the small-loss pixels on which the two others agree (Zhang et al. 2020b).

    Networks fit correct labels first, so pixels with a small loss are likely correct. A network learns from a pixel only if
    both others select it, which is stricter than the selection by one peer in `co_teaching`. Epochs of the ramp count
    from 0. The default `forget_rate` is the true noise rate, which is privileged information. The deployed prediction is that
    of the first network, as by default in the code; `ensemble` averages all three.

    Rows report the fraction of labeled pixels that a network learns from, and how often it had none in a step because the two
    others agree on none, with a warning the first time.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = mean over networks i of mean CE(p_i, y) over the pixels that the networks j ≠ i both keep; kept fraction "
        "R(e) = 1 - forget_rate · min(e / ramp_epochs, 1)",
        reference="https://github.com/HiLab-git/PyMIC",
        commit="8bcebd62ad4360d7dc5143907f56dd793dd5e304",
        license="Apache-2.0",
        compared="which pixels are kept, losses and gradients of a training step of the code, at kept fractions of .9 and .6, "
        "with the probabilities that the code clamps",
        difference="0 pixels, 1.2e-07 in the loss, 1.9e-09 in the gradient",
        golden=("pymic_noisy_labels",),
        deviations=(
            Deviation(
                "the code replaces p by 0.999 p + 0.0005 before the logarithm; here the logarithm is exact",
                "a general safeguard of its losses, not part of the method",
                "with exact logarithms, 6.5e-3 in the loss and 9.6e-4 in the gradient of the same step",
            ),
            Deviation(
                "the code keeps losses below a quantile, here the floor of the kept fraction of the pixels is kept",
                "one rule for all methods that select by small losses",
                "at most one pixel of a batch",
            ),
            Deviation(
                "the kept fraction falls from epoch to epoch over `ramp_epochs`; in the code from step to step",
                "one ramp for all methods that select by small losses",
                "not measured",
            ),
        ),
    )

    num_networks: ClassVar[int] = 3

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the true noise rate with one deployed network, and a given rate with all."""
        return {"ramp_epochs": 2}, {"forget_rate": 0.3, "ensemble": True}

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Start without an epoch in which networks agreed on no pixel."""
        # Agreed pixels, labeled pixels, losses of a network, and those among them without an agreed pixel, in this epoch.
        self.state["counts"] = torch.zeros(4, dtype=torch.int64)
        self.state["has_warned"] = torch.zeros((), dtype=torch.bool)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the mean of the networks' losses, each on the selection of the two others."""
        losses = [cross_entropy(task.logits(batch.inputs, number), batch) for number in range(self.num_networks)]
        agreed = agreed_pixels(losses, self.keep_fraction(task.current_epoch), batch.has_label)
        num_agreed, num_labeled = agreed.sum(1), _num_labeled(batch.index, batch.has_label)
        # Counted on the device, so that the host does not wait for each step.
        self.state["counts"] += torch.stack(
            [
                num_agreed.sum(),
                len(losses) * num_labeled,
                torch.full_like(num_labeled, len(losses)),
                (num_agreed == 0).sum(),
            ]
        )
        return agreed_loss(losses, agreed, batch.has_label)

    def on_epoch_start(self, task: Learner) -> None:
        """Reset the counts."""
        self.state["counts"].zero_()

    def on_epoch_end(self, task: Learner) -> None:
        """Report how many pixels the networks agreed on, and warn the first time that it was none."""
        super().on_epoch_end(task)
        agreed, labeled, total, empty = self.state["counts"].tolist()
        if labeled:
            self.diagnostics["agreed_fraction"] = agreed / labeled
        self.diagnostics["losses_without_pixels"] = float(empty)
        if empty and not self.state["has_warned"]:
            self.state["has_warned"].fill_(True)
            self.warnings.append(
                f"in epoch {task.current_epoch + 1}, a network learned nothing in {empty} of {total} updates, because the two "
                "others agreed on no pixel; lower forget_rate"
            )


def agreed_pixels(losses: Sequence[Tensor], keep_fraction: float, has_label: Tensor | None) -> Tensor:
    """Return the (3, B) pixels from which each of three networks learns: those that both others keep.

    Args:
        losses: (B,) losses of each network.
        keep_fraction: fraction in (0, 1] of the labeled pixels that each network keeps.
        has_label: (B,) bool; None if all pixels have a label.

    Example:
        >>> losses = [torch.tensor(values) for values in ([1.0, 2.0, 9.0], [1.0, 9.0, 2.0], [1.0, 2.0, 9.0])]
        >>> agreed_pixels(losses, keep_fraction=0.7, has_label=None)[1]
        tensor([ True,  True, False])
    """
    # Detached: a selection has no gradient, so no graph has to be recorded for it.
    kept = [small_loss_weights(loss.detach(), keep_fraction, has_label) > 0 for loss in losses]
    return torch.stack([kept[number - 1] & kept[number - 2] for number in range(len(losses))])


def agreed_loss(losses: Sequence[Tensor], agreed: Tensor, has_label: Tensor | None) -> Tensor:
    """Return (B,) mean losses of three networks, each on its pixels; 0 for a network without any.

    Args:
        losses: (B,) losses of each network.
        agreed: (3, B) bool, see `agreed_pixels`.
        has_label: (B,) bool; None if all pixels have a label.

    Example:
        >>> losses = [torch.tensor(values) for values in ([1.0, 2.0, 9.0], [1.0, 9.0, 2.0], [1.0, 2.0, 9.0])]
        >>> agreed_loss(losses, agreed_pixels(losses, keep_fraction=0.7, has_label=None), has_label=None)
        tensor([2.5000, 4.5000, 0.0000])
    """
    num_labeled, total = _num_labeled(losses[0], has_label), torch.zeros_like(losses[0])
    for loss, pixels in zip(losses, agreed, strict=True):
        # The caller takes the mean over all labeled pixels, so the kept ones are scaled up by the inverse of their share.
        total = total + loss * pixels * (num_labeled / pixels.sum().clamp_min(1))
    return total / len(losses)


def _num_labeled(values: Tensor, has_label: Tensor | None) -> Tensor:
    """Return the number of labeled pixels among (B,) values, on their device."""
    labeled = torch.ones_like(values, dtype=torch.bool) if has_label is None else has_label
    return labeled.sum()

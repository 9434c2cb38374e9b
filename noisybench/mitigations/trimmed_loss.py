"""Iterative trimmed loss minimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._small_loss import (
    check_ramp,
    describe_ramp,
    dropped_fraction,
    example_index,
    small_loss_weights,
)
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TrimmedLoss(LossWrapper, DetectorProvider):
    """Train only on small-loss examples or labels (iterative trimmed loss minimization).

    Networks fit correct labels first, so what has a large loss is likely incorrect, and is left out (Shen and Sanghavi
    2019). Epochs of the ramp count from 0. `unit` selects whole examples by their mean loss, or labels: the tokens of a
    trace, the pixels of a mask. `among` compares the losses within each batch, or those of the previous epoch over the
    whole training set, which is possible for whole examples only. The default `drop_fraction` is the true noise rate,
    which is privileged information; for traces it is the fraction of incorrect tokens.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="kept fraction in epoch e: R(e) = 1 - drop_fraction · min(e / ramp_epochs, 1)",
        reference="https://github.com/yanyao-shen/ITLM-simplecode",
        commit="9dbbf2dbd27f9c44c603e822292c5e54c94e4999",
        license="not stated",
        compared="which of 50 examples are kept over the training set by their losses, at four fractions",
        difference="0 examples",
        golden=("trimmed_loss",),
        deviations=(
            Deviation(
                "training continues from epoch to epoch; the authors train a new network in every round",
                "one round of their method costs as much as a whole run",
                "the accuracy; not measured",
            ),
            Deviation(
                "by default losses are compared within each batch; the authors rank the whole training set, as "
                "`among=epoch`",
                "it needs no state, and works for labels within an example",
                "which examples are kept: about the same number of every batch instead of a varying one",
            ),
            Deviation(
                "losses are those of the training steps; the authors evaluate all examples at the end of a round",
                "no additional pass",
                "losses of augmented examples from earlier weights of the same epoch",
            ),
            Deviation(
                "the fraction that is left out rises over `ramp_epochs`; the authors' is constant after the first "
                "round",
                "the first epochs have no losses to rank by",
                "none after the ramp",
            ),
        ),
    )

    unit: Literal["example", "label"] = parameter("example", help="Unit of selection: whole examples, or labels")
    among: Literal["batch", "epoch"] = parameter(
        "batch", help="Set in which losses are compared: each batch, or the whole training set"
    )
    drop_fraction: float | None = parameter(
        None,
        ge=0,
        lt=1,
        low=0.05,
        high=0.6,
        help="Fraction to leave out after the ramp; by default the true noise rate (privileged)",
    )
    ramp_epochs: int = parameter(3, ge=1, low=1, high=10, help="Number of epochs until `drop_fraction` is reached")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both units and both sets of comparison."""
        return (
            {"ramp_epochs": 1},
            {"unit": "label", "drop_fraction": 0.2, "ramp_epochs": 1},
            {"among": "epoch", "drop_fraction": 0.3, "ramp_epochs": 1},
        )

    @property
    def requirements(self) -> Requirements:
        """The true noise rate unless a fraction is given."""
        return Requirements(privileged=("noise_rate",) if self.drop_fraction is None else ())

    def check(self, network: Any, budget: Any, examples: int) -> list[str]:
        """Check that labels are compared within a batch, and that there is an epoch in which something is left out."""
        if self.unit == "label" and self.among == "epoch":  # too many to sort
            return ["among: only whole examples can be compared over an epoch; set among=batch or unit=example"]
        return check_ramp(budget)

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Initialize the losses with zero, and keep all examples."""
        self.state["sums"], self.state["counts"] = torch.zeros(len(training_set)), torch.zeros(len(training_set))
        self.state["losses"] = torch.zeros(len(training_set))
        self.state["kept"] = torch.ones(len(training_set), dtype=torch.bool)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's losses with weight zero for what is left out."""
        losses = inner_loss(batch)
        examples = example_index(batch, task.training_set)
        with torch.no_grad():
            # Sums over many labels in bfloat16 would lose small losses.
            values = losses.detach().float()
            counted = torch.ones_like(values) if batch.has_label is None else batch.has_label.float()
            # Labels of one example share an index: an indexed assignment would keep only one of them.
            self.state["sums"].index_add_(0, examples, values * counted)
            self.state["counts"].index_add_(0, examples, counted)
            if self.among == "epoch":
                kept = self.state["kept"][examples].float()
                kept_fraction = (kept * counted).sum() / counted.sum().clamp_min(1)
                # The loss is a mean over the batch, so kept examples are scaled up by the inverse of their fraction.
                weights = kept / kept_fraction.clamp_min(1e-6)
            else:
                units = examples if self.unit == "example" else None
                weights = small_loss_weights(values, self._keep_fraction(task.current_epoch), batch.has_label, units)
        return losses * weights

    def _keep_fraction(self, epoch: int) -> float:
        """Return the fraction that is kept in an epoch."""
        return 1 - dropped_fraction(self._final_fraction(), epoch, self.ramp_epochs)

    def _final_fraction(self) -> float:
        return float(self.privileged.noise_rate) if self.drop_fraction is None else self.drop_fraction

    def on_epoch_end(self, task: Learner) -> None:
        """Choose the examples of the next epoch by the losses of this one."""
        state, seen = self.state, self.state["counts"] > 0
        # Examples that were not drawn in this epoch keep their last loss.
        state["losses"][seen] = state["sums"][seen] / state["counts"][seen]
        state["sums"].zero_()
        state["counts"].zero_()
        keep_fraction = self._keep_fraction(task.current_epoch + 1)
        # Stable, so that ties are broken by position and a repeated run keeps the same examples.
        order = state["losses"].argsort(stable=True)
        state["kept"].fill_(False)
        state["kept"][order[: max(1, int(keep_fraction * len(order)))]] = True
        if task.current_epoch == task.budget.epochs - 1:
            self.warnings += describe_ramp(self._final_fraction(), task.budget.epochs, self.ramp_epochs)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the mean training loss of each example; those left out of the next epoch are flagged."""
        return {"trimmed_loss": Detector(self.state["losses"], ~self.state["kept"])}

"""Trimmed loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.mitigations._per_example import example_of, small_loss_weights
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TrimmedLoss(LossWrapper, DetectorProvider):
    """Trains on what has a small loss alone (Shen and Sanghavi 2019, iterative trimmed loss minimisation).

    In epoch e (from 0) the share R(e) = 1 - drop * min(e / ramp_epochs, 1) is kept. `unit`: whole examples by their mean loss, or
    labels, which are an example's characters where it is a trace and its pixels where it is a mask. `among`: of each batch, or
    of the whole training set by the losses of the epoch before, which trims whole examples alone. Where `drop` is not
    given it is the true noise rate, which is declared knowledge; of traces that is the share of wrong characters.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")

    unit: Literal["example", "label"] = parameter("example", help="what is left out: whole examples, or labels of them")
    among: Literal["batch", "epoch"] = parameter("batch", help="the greatest losses of a batch, or of all examples")
    drop: float | None = parameter(
        None, ge=0, lt=1, low=0.05, high=0.6, help="share finally left out; the true noise rate where not given"
    )
    ramp_epochs: int = parameter(3, ge=1, low=1, high=10, help="epochs until it is reached")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Each unit, and both ways to choose."""
        return (
            {"ramp_epochs": 1},
            {"unit": "label", "drop": 0.2, "ramp_epochs": 1},
            {"among": "epoch", "drop": 0.3, "ramp_epochs": 1},
        )

    @property
    def requirements(self) -> Requirements:
        """The noise rate, where no fraction is given."""
        return Requirements(privileged=("noise_rate",) if self.drop is None else ())

    def check(self, network: Any, budget: Any, examples: int) -> list[str]:
        """All labels of an epoch are not sorted."""
        if self.unit == "label" and self.among == "epoch":
            return ["among: the whole training set is trimmed by examples; use among=batch, or unit=example"]
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """No loss is known yet."""
        self.state["sums"], self.state["counts"] = torch.zeros(len(training_set)), torch.zeros(len(training_set))
        self.state["losses"] = torch.zeros(len(training_set))
        self.state["kept"] = torch.ones(len(training_set), dtype=torch.bool)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """The rest of the stack's losses, of what is kept."""
        losses = inner_loss(batch)
        rows = example_of(batch, task.training_set)
        with torch.no_grad():
            own = losses.detach().float()
            counted = torch.ones_like(own) if batch.has_label is None else batch.has_label.float()
            self.state["sums"].index_add_(0, rows, own * counted)
            self.state["counts"].index_add_(0, rows, counted)
            if self.among == "epoch":
                kept = self.state["kept"][rows].float()
                share = (kept * counted).sum() / counted.sum().clamp_min(1)
                weights = kept / share.clamp_min(1e-6)
            else:
                chosen = rows if self.unit == "example" else None
                weights = small_loss_weights(own, self._share(task.current_epoch), batch.has_label, chosen)
        return losses * weights

    def _share(self, epoch: int) -> float:
        """What is kept in an epoch."""
        drop = float(self.privileged.noise_rate) if self.drop is None else self.drop
        return 1 - drop * min(epoch / self.ramp_epochs, 1.0)

    def on_epoch_end(self, task: Learner) -> None:
        """Take the losses of this epoch for the next one's choice."""
        state, seen = self.state, self.state["counts"] > 0
        state["losses"][seen] = state["sums"][seen] / state["counts"][seen]
        state["sums"].zero_()
        state["counts"].zero_()
        share = self._share(task.current_epoch + 1)
        order = state["losses"].argsort(stable=True)
        state["kept"].fill_(False)
        state["kept"][order[: max(1, int(share * len(order)))]] = True

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Mean loss of each example in training; flagged is what would be left out of the next epoch."""
        return {"trimmed_loss": Detector(self.state["losses"], ~self.state["kept"])}

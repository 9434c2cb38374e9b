"""Co-teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.mitigations._per_example import example_of, small_loss_weights
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class CoTeaching(LossFunction):
    """Two networks, each trained on the batch's examples with the smallest loss under the other (Han et al. 2018).

    In epoch e (from 0) the share R(e) = 1 - forget_rate * min(e / ramp_epochs, 1) of each batch is kept. Where
    `forget_rate` is not given it is the true noise rate, which is declared knowledge. The deployed prediction is the
    first network's, as in the paper; `ensemble` averages both, which is no longer a one-network prediction. Where an example
    has many labels, such as the characters of a trace, `unit` says whether these or whole examples are chosen.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")

    forget_rate: float | None = parameter(
        None,
        ge=0,
        lt=1,
        low=0.05,
        high=0.6,
        help="share finally left out; the true noise rate where not given",
    )
    ramp_epochs: int = parameter(10, ge=1, low=2, high=20, help="epochs until it is reached")
    unit: Literal["label", "example"] = parameter(
        "label", help="what is chosen: labels, or examples by their mean loss"
    )
    ensemble: bool = parameter(False, help="deploy the mean prediction of both networks")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Told the noise rate, and with a forget rate of one's own; one network deployed, and both."""
        return {"ramp_epochs": 2}, {"forget_rate": 0.3, "ensemble": True, "unit": "example"}

    @property
    def requirements(self) -> Requirements:
        """Two networks, and the noise rate where no forget rate is given."""
        privileged = ("noise_rate",) if self.forget_rate is None else ()
        return Requirements(networks=2, ensemble=self.ensemble, privileged=privileged)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Sum of both networks' losses, each on the other's selection."""
        forget = self.privileged.noise_rate if self.forget_rate is None else self.forget_rate
        keep = 1 - forget * min(task.current_epoch / self.ramp_epochs, 1.0)
        losses = [cross_entropy(task.logits(batch.inputs, network), batch) for network in range(2)]
        rows = example_of(batch, task.training_set) if self.unit == "example" else None
        chosen = [small_loss_weights(loss.detach(), keep, batch.has_label, rows) for loss in losses]
        return losses[0] * chosen[1] + losses[1] * chosen[0]

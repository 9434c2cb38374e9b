"""Co-teaching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisybench.mitigation import Mitigation
from noisybench.parameters import parameter
from noisybench.task import Task
from noisybench.training_set import Batch, cross_entropy


class CoTeaching(Mitigation):
    """Two networks, each trained on the batch's examples with the smallest loss under the other (Han et al. 2018).

    In epoch e (from 0) the share R(e) = 1 - forget_rate * min(e / ramp_epochs, 1) of each batch is kept. Where
    `forget_rate` is not given it is the true noise rate, which is declared knowledge. The deployed prediction is the
    first network's, as in the paper; `ensemble` averages both, which is no longer a one-network prediction.
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
    ensemble: bool = parameter(False, help="deploy the mean prediction of both networks")

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Told the noise rate, and with a forget rate of one's own; one network deployed, and both."""
        return {"ramp_epochs": 2}, {"forget_rate": 0.3, "ensemble": True}

    @property
    def networks(self) -> int:
        """Both."""
        return 2

    @property
    def knowledge(self) -> tuple[str, ...]:
        """The noise rate, where no forget rate is given."""
        return ("noise_rate",) if self.forget_rate is None else ()

    def objective(self, task: Task, batch: Batch) -> Tensor:
        """Sum of both networks' losses, each on the other's selection."""
        forget = self.known.noise_rate if self.forget_rate is None else self.forget_rate
        keep = 1 - forget * min(task.current_epoch / self.ramp_epochs, 1.0)
        losses = [cross_entropy(task.logits(batch.inputs, network), batch) for network in range(2)]
        chosen = [small_loss_weights(loss.detach(), keep, batch.valid) for loss in losses]
        return losses[0] * chosen[1] + losses[1] * chosen[0]


def small_loss_weights(losses: Tensor, keep: float, valid: Tensor | None = None) -> Tensor:
    """(B,) weights that turn a mean over the valid ones into the mean over the ``keep`` share with the smallest losses."""
    whole = len(losses) if valid is None else int(valid.sum())
    count = max(1, int(keep * whole))
    weights = torch.zeros_like(losses)
    ordered = (losses if valid is None else losses.masked_fill(~valid, torch.inf)).argsort()
    return weights.scatter_(0, ordered[:count], whole / count)

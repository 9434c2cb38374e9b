"""Peer loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._peers import bounded_cross_entropy, draw_peers
from noisybench.training.batch import Batch
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

SCHEDULE_EPOCHS = 300
"""Number of epochs for which the authors' schedules were made; they are stretched to the epochs of the budget."""

SCHEDULES: dict[str, tuple[tuple[int, float, float], ...]] = {
    "uniform": ((20, 0, 0), (20, 0, 0.1), (50, 1, 2), (50, 2, 2.5), (100, 2.5, 3.3), (100, 3.3, 5)),
    "sparse": ((20, 0, 0), (20, 0, 1), (50, 1, 2), (50, 2, 5), (100, 5, 10), (100, 10, 20)),
}
"""Weights of the peer term by the kind of noise: number of epochs, first and last value of each linear part."""


class PeerLoss(LossFunction):
    """Subtract the loss of random inputs against labels of other random examples (peer loss).

    What can be learned without looking at the input, such as a noise rate, has the same loss for both and cancels, so that the
    noise rates need not be known (Liu and Guo 2020). The weight of the peer term increases during training by the schedule
    of the authors' code, for noise that spreads over all classes (`uniform`) or flips between pairs of them (`sparse`).
    """

    fidelity = Fidelity(
        formula="L = ℓ(p(x_i), y_i) - α(e) · ℓ(p(x_j), y_k) with random j and k, ℓ(p, y) = -ln(p_y + 1e-5)",
        reference="https://github.com/weijiaheng/Multi-class-Peer-Loss-functions",
        commit="fba9eb6d2b62476552955bae8da2f73f5229c6cf",
        license="MIT",
        compared="gradient of a linear network in a training step on 16 examples and their peers in epochs 0, 25, 60, 120, 200 "
        "and 299 of both schedules",
        difference="1.4e-6 in a gradient of up to 5.6 (single precision)",
        golden=("peer_loss",),
        deviations=(
            Deviation(
                "the loss is divided by 1 + α, where the authors divide the learning rate",
                "the learning rate belongs to the budget",
                "weight decay has up to 6 times the effect with the schedule uniform; none with SGD otherwise",
            ),
            Deviation(
                "peers are drawn with replacement; the authors take two batches of a new permutation",
                "a permutation of the training set in every step",
                "none in expectation",
            ),
            Deviation(
                "momentum is kept between epochs; the authors begin every epoch with a new optimizer",
                "one optimizer for all stacks",
                "the first 10 steps of an epoch",
            ),
        ),
    )

    schedule: Literal["uniform", "sparse", "constant"] = parameter(
        "uniform",
        help="Weight of the peer term by epoch: two schedules of the authors' code, or the same weight always",
    )
    peer_weight: float = parameter(
        1.0,
        gt=0,
        low=0.1,
        high=2.0,
        log=True,
        help="Factor of the schedule; the weight itself if it is constant (alpha)",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a schedule, and a constant weight."""
        return {}, {"schedule": "constant", "peer_weight": 0.5}

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the peer term has a weight in some epoch."""
        if any(self.weight(epoch, budget.epochs) for epoch in range(budget.epochs)):
            return []
        return [
            f"schedule={self.schedule} gives the peer term no weight in a budget of {budget.epochs} epoch; train more epochs, "
            "or use schedule=constant"
        ]

    def weight(self, epoch: int, epochs: int) -> float:
        """Return the weight of the peer term in an epoch, from 0, of a budget.

        >>> [round(PeerLoss().weight(epoch, 300), 3) for epoch in (0, 19, 39, 40, 89, 299)]
        [0.0, 0.0, 0.1, 1.0, 2.0, 4.313]
        >>> PeerLoss().weight(4, 30) == PeerLoss().weight(40, 300)
        True
        """
        if self.schedule == "constant":
            return self.peer_weight
        position = epoch * SCHEDULE_EPOCHS // epochs
        for length, first, last in SCHEDULES[self.schedule]:
            if position < length:
                return self.peer_weight * (first + (last - first) * position / (length - 1))
            position -= length
        raise AssertionError("the schedule covers all epochs")

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the bounded cross-entropy, minus that of the peers."""
        loss = bounded_cross_entropy(task.logits(batch.inputs), batch)
        weight = self.weight(task.current_epoch, task.budget.epochs)
        # Drawn in every epoch, so that the views of later epochs do not depend on the schedule.
        peers = draw_peers(task, len(batch.observed))
        if not weight:
            return loss
        # The authors divide the learning rate instead.
        return (loss - weight * bounded_cross_entropy(task.logits(peers.inputs), peers)) / (1 + weight)

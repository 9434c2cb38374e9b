"""JoCoR: joint training with co-regularization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._small_loss import PeerSelection, small_loss_weights
from noisybench.training.batch import Batch, cross_entropy

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class JoCoR(PeerSelection):
    """Train two networks with one loss that also makes their predictions agree, on the examples where it is small.

    Different networks agree on correct labels more easily than on incorrect ones, so an example with a large joint loss is
    likely mislabeled, and both networks leave it out (Wei et al. 2020). The default `forget_rate` is the true noise rate,
    which is privileged information. The deployed prediction is that of the first network; `ensemble` averages both.
    """

    fidelity = Fidelity(
        formula="L = (1 - reg_weight) · (CE(p1, y) + CE(p2, y)) + reg_weight · (KL(p1 ‖ p2) + KL(p2 ‖ p1)), for the fraction "
        "R(e) with the smallest L, R(e) = 1 - forget_rate · min(e / ramp_epochs, 1)",
        reference="https://github.com/hongxin001/JoCoR",
        commit="86db3597ffccb401d395900b91794aab76fff639",
        license="not stated",
        compared="loss and gradients of batches of 8, 33 and 64 at forget rates of 0, .2, .45 and .7 and three weights of the "
        "regularizer",
        difference="4.8e-7 in the loss, 6e-8 in the gradient",
        golden=("jocor",),
        deviations=(
            Deviation(
                "the ramp begins in epoch 0 and follows R(e) = 1 - rate * min(e / ramp_epochs, 1); the authors' code reaches the "
                "rate in epoch ramp_epochs - 1 and begins with epoch 1",
                "the formula of the paper",
                "forgets up to .08 less during a ramp of 10 epochs to .4, nothing afterward",
            ),
            Deviation(
                "an epoch is one pass over the data; the authors' loop ends after 401 batches of 128",
                "all stacks have equal budgets",
                "none on CIFAR, which has 390 whole batches; on MNIST, with 468, a sixth more steps per epoch",
            ),
            Deviation(
                "at asymmetric noise the authors forget half of the nominal rate, here the true rate",
                "half of the classes have noise, so that both are the same number",
                "none in expectation",
            ),
        ),
    )

    reg_weight: float = parameter(
        0.9, ge=0, lt=1, low=0.05, high=0.95, help="Weight of the agreement; cross-entropy has the rest (lambda)"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the true noise rate with one deployed network, and a given rate with both."""
        return {"ramp_epochs": 2}, {"forget_rate": 0.3, "reg_weight": 0.5, "ensemble": True}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the joint loss of both networks on the examples where it is small."""
        first, second = (task.logits(batch.inputs, network) for network in range(2))
        supervised = cross_entropy(first, batch) + cross_entropy(second, batch)
        loss = (1 - self.reg_weight) * supervised + self.reg_weight * jeffreys_divergence(first, second)
        return loss * small_loss_weights(loss.detach(), self.keep_fraction(task.current_epoch), batch.has_label)


def jeffreys_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the (B,) sums of both Kullback-Leibler divergences between the softmax of (B, C) logits, in nats.

    >>> import torch
    >>> jeffreys_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, -1.0]])).round(decimals=4)
    tensor([0.7616])
    """
    log_first, log_second = first.float().log_softmax(1), second.float().log_softmax(1)
    # The sum of p log(p / q) and q log(q / p), without either divergence by itself.
    return ((log_first.exp() - log_second.exp()) * (log_first - log_second)).sum(1)

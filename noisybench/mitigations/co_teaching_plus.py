"""Co-teaching+."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._small_loss import PeerSelection, small_loss_weights
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class CoTeachingPlus(PeerSelection):
    """Train two networks on small-loss examples whose class they predict differently (co-teaching+).

    After `warmup_epochs` of co-teaching, only the examples of a batch on which the networks disagree are used: of these,
    each network learns from those with a small loss for the other one, so that the two stay different (Yu et al. 2019).
    The default `forget_rate` is the true noise rate, which is privileged information. The deployed prediction is that of
    the first network, as in the paper; `ensemble` averages both.
    """

    fidelity = Fidelity(
        formula="{i: argmax p1_i ≠ argmax p2_i}, of which each network keeps the fraction R(e) with the smallest loss for the "
        "other one, R(e) = 1 - forget_rate · min(e / ramp_epochs, 1)",
        reference="https://github.com/xingruiyu/coteaching_plus",
        commit="a68ed612885a258d8fbfe3a594b6474b27e3b575",
        license="not stated",
        compared="losses and gradients of batches of 8, 33 and 64 with and without disagreement, at forget rates of 0, .2, .45 "
        "and .7",
        difference="2.4e-7 in the loss, 7.5e-9 in the gradient",
        golden=("co_teaching_plus",),
        deviations=(
            Deviation(
                "the ramp begins in epoch 0 and follows R(e) = 1 - rate * min(e / ramp_epochs, 1); the authors' code reaches the "
                "rate in epoch ramp_epochs - 1 and begins with epoch 1",
                "the formula of the paper",
                "forgets up to .08 less during a ramp of 10 epochs to .4, nothing afterward",
            ),
            Deviation(
                "the mean over the kept examples; the authors' code divides it by their number once more",
                "the formula of the paper",
                "the gradient is so many times larger, which only the epsilon of the authors' Adam notices; with SGD "
                "it is the learning rate",
            ),
            Deviation(
                "a batch without disagreement has no loss; the authors' code takes the loss of the whole batch while the product "
                "of the numbers of epoch and batch is below 5000",
                "the update of the paper, whose set is empty then",
                "none on batches of 128 with disagreement, which are nearly all before the networks have converged",
            ),
            Deviation(
                "at least one disagreeing example is kept; the authors' code keeps all if the kept fraction rounds down to none",
                "the definition of small-loss selection",
                "at most two examples of a batch at a rate of .6 or less",
            ),
            Deviation(
                "the example at position 0 of the training set is used like the others; the authors' code loses the last "
                "disagreeing example of a batch in which it disagrees",
                "a mistake of the code",
                "one example per epoch",
            ),
            Deviation(
                "one optimizer for both networks, which see the same batches; the authors have two",
                "it is elementwise",
                "none",
            ),
        ),
    )

    warmup_epochs: int = parameter(
        20, ge=0, low=0, high=40, help="Epochs of co-teaching before only disagreeing examples are used"
    )
    loss_input: Literal["probabilities", "scores"] = parameter(
        "probabilities",
        help="Input of cross-entropy after the warm-up: the probabilities, to which the authors' code applies a second softmax, "
        "or the scores",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the true noise rate with the loss of the authors' code, and a given rate with that of the paper."""
        return (
            {"ramp_epochs": 2, "warmup_epochs": 1},
            {"forget_rate": 0.3, "warmup_epochs": 0, "loss_input": "scores", "ensemble": True},
        )

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the budget has an epoch with selection, and one in which disagreement is used."""
        problems = super().check(network, budget, examples)
        if budget.epochs <= self.warmup_epochs:
            problems.append(
                f"warmup_epochs={self.warmup_epochs} of {budget.epochs} epochs is co-teaching, so disagreement would never be "
                f"used; set it to at most {budget.epochs - 1}"
            )
        return problems

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the sum of both networks' losses, each on the selection of the other among disagreeing examples."""
        keep_fraction = self.keep_fraction(task.current_epoch)
        scores = [task.logits(batch.inputs, network) for network in range(2)]
        disagree = None
        if task.current_epoch >= self.warmup_epochs:
            disagree = scores[0].argmax(1) != scores[1].argmax(1)
            if self.loss_input == "probabilities":
                scores = [probabilities_in_float32(logits) for logits in scores]
        losses = [cross_entropy(values, batch) for values in scores]
        weights = [small_loss_weights(loss.detach(), keep_fraction, disagree) for loss in losses]
        loss = losses[0] * weights[1] + losses[1] * weights[0]
        if disagree is None:
            return loss
        # The caller takes the mean over the batch, which becomes that over the selected examples among the disagreeing ones.
        return loss * (len(disagree) / disagree.sum().clamp_min(1))

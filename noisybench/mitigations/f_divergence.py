"""Variational f-divergence between predictions and labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._peers import bounded_cross_entropy, draw_peers, target_probability
from noisybench.mitigations._warmup import LossAfterWarmup
from noisybench.training.batch import Batch

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

Function = Callable[[Tensor], Tensor]

DIVERGENCES: dict[str, tuple[Function, Function]] = {
    "total_variation": (lambda p: p.tanh() / 2, lambda p: p.tanh() / 2),
    "jensen_shannon": (
        lambda p: math.log(2) - functional.softplus(-p),
        lambda p: p + functional.softplus(-p) - math.log(2),
    ),
    "pearson": (lambda p: p, lambda p: p + p**2 / 4),
    "kullback_leibler": (lambda p: p, lambda p: (p - 1).exp()),
    "jeffrey": (lambda p: p, lambda p: p + p**2 / 4 + p**3 / 16),
}
"""Activation of a probability, and its conjugate, by divergence."""


class FDivergence(LossAfterWarmup):
    """Maximize the divergence between inputs with their labels and inputs with labels of others (f-divergence).

    Its variational form compares the probability of the observed label with that of random labels for random inputs; for the
    divergences offered here, label noise moves its maximum little (Wei and Liu 2021). It follows on `warmup_epochs` of
    cross-entropy; the paper starts from the best weights of these, with a new optimizer and a schedule of its own.
    """

    fidelity = Fidelity(
        formula="L = -g(p(x_i)_y_i) + h(p(x_j)_y_k) with random j and k, of a divergence with activation g and conjugate h",
        reference="https://github.com/weijiaheng/Robust-f-divergence-measures",
        commit="93d9efe616b777602fa40e966c58ba7a280fae5e",
        license="MIT",
        compared="gradient of a linear network in a training step on 16 examples and their peers with each of the five "
        "divergences",
        difference="1.2e-7 in the gradient",
        golden=("f_divergence",),
        deviations=(
            Deviation(
                "of several epochs of the warm-up with the best validation accuracy, the first one is taken; the authors take "
                "the last",
                "one rule for all methods",
                "epochs with equal accuracy only",
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

    restart_settings = {"lr_schedule": "multistep", "lr_milestones": (30, 60, 90), "lr_gamma": 0.1}

    divergence: Literal["total_variation", "jensen_shannon", "pearson", "kullback_leibler", "jeffrey"] = parameter(
        "total_variation", help="Divergence that is maximized"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return two divergences, one without a warm-up, and a restart."""
        restart = {"warmup_epochs": 2, "continue_from": "best", "restart_learning_rate": 0.01}
        return {"warmup_epochs": 1}, {"divergence": "jeffrey", "warmup_epochs": 0}, restart

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the bounded cross-entropy during the warm-up, then the negative variational divergence."""
        logits = task.logits(batch.inputs)
        if task.current_epoch < self.warmup_epochs:
            return bounded_cross_entropy(logits, batch)
        peers = draw_peers(task, len(batch.observed))
        activation, conjugate = DIVERGENCES[self.divergence]
        of_peers = conjugate(target_probability(task.logits(peers.inputs), peers))
        return of_peers - activation(target_probability(logits, batch))

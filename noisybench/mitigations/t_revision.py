"""T-Revision: reweighting by a transition matrix that is revised together with the network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import TrainingError, shorten
from noisybench.mitigations._transition import TransitionCorrection, clean_posterior
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements, public_name
from noisybench.training.phases import Phase
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class TRevision(TransitionCorrection):
    """Weight examples by a transition matrix, and revise the matrix at the end (T-Revision, reweighting).

    After cross-entropy, the matrix is estimated as in `forward_correction`; then examples are weighted by it, and at last Adam
    trains the network together with a correction of the matrix (Xia et al. 2019). These are three phases. The weight is the
    ratio of the probabilities of the clean and the observed class. The correction starts at zero, so that the matrix need not
    come from anchor points.
    """

    fidelity = Fidelity(
        formula="L = w · CE(p, y),  w = p_y / ((T + ΔT)ᵀ p)_y;  ΔT = 0, and w has no gradient, before the revision",
        reference="https://github.com/xiaoboxia/T-Revision",
        commit="b598cf2800b9909ba3b461f9f19b2847e941e1db",
        license="not stated",
        compared="losses and gradients of 12 examples of 3 and 10 classes; matrix, ΔT and weights of a network after all three "
        "phases of 3 epochs in batches of one, each from the best weights of the one before",
        difference="4.8e-7 in the losses, 1.8e-7 in the weights",
        golden=("t_revision",),
        deviations=(
            Deviation(
                "the loss of the revision adds ΔT once; the authors' adds it again for every further example of a batch",
                "the formula of the paper, and of the second version of the loss in their code, which is not used",
                "none in batches of one example; otherwise the last of B examples is weighted by T + B ΔT",
            ),
            Deviation(
                "the best weights agree with most noisy validation labels themselves; in the authors' second phase they "
                "agree after a multiplication by the matrix",
                "one rule for all methods",
                "none while the diagonal is the largest entry of each row and column and predictions are certain",
            ),
            Deviation(
                "the matrix is estimated as in `forward_correction`: anchor points are the nearest rank of a percentile",
                "one definition for all methods",
                "see `forward_correction`",
            ),
            Deviation(
                "probabilities of observed classes are clipped at 1e-6 in the weights; the authors' are not",
                "a matrix with ΔT may have negative entries",
                "none for probabilities above 1e-6",
            ),
        ),
    )

    warmup_momentum: float | None = parameter(
        None, ge=0, lt=1, help="Momentum of SGD before the estimate; by default that of the budget"
    )
    revision_epochs: int = parameter(5, ge=1, low=1, high=20, help="Epochs of the last phase, which revises the matrix")
    revision_learning_rate: float = parameter(
        5e-7,
        gt=0,
        low=1e-7,
        high=1e-3,
        log=True,
        help="Learning rate of Adam in the last phase, for network and matrix",
    )
    continue_from: Literal["last", "best"] = parameter(
        "last", help="Weights that begin the next phase: the last, or the best by noisy validation labels"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both sources of the matrix, and both choices of weights."""
        revision = {"revision_epochs": 1, "revision_learning_rate": 0.01}
        return (
            {"warmup_epochs": 1, "implausible": "warn", "continue_from": "best", **revision},
            {"matrix": "oracle", **revision},
        )

    @property
    def requirements(self) -> Requirements:
        """Two or three phases, and the true transition matrix if it is not estimated."""
        weights: Any = "best" if self.continue_from == "best" else "current"
        momentum = {} if self.warmup_momentum is None else {"momentum": self.warmup_momentum}
        adam = {"optimizer": "adam", "learning_rate": self.revision_learning_rate, "lr_schedule": "constant"}
        before: tuple[Phase, ...] = (Phase(),)
        if self.matrix == "estimated":
            before = (Phase(self.warmup_epochs, settings=momentum), Phase(weights=weights))
        return dataclasses.replace(super().requirements, phases=(*before, Phase(self.revision_epochs, weights, adam)))

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Return no problem: those of the phases are found without it."""
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Add the correction of the matrix, and read the matrix if it is not estimated."""
        super().prepare(task, training_set)
        task.add_head("correction", lambda: _Correction(training_set.num_classes))

    def on_epoch_start(self, task: Learner) -> None:
        """Estimate the matrix at the end of the first phase, and begin its revision in the last one."""
        super().on_epoch_start(task)
        self._revises = task.current_epoch >= task.budget.epochs - self.revision_epochs

    def on_epoch_end(self, task: Learner) -> None:
        """Keep the revised matrix, with probabilities in its rows, for the posterior of the clean classes.

        Raises:
            TrainingError: the revision has lost the diagonal of a class, and `implausible` does not allow it.
        """
        if not self._revises:
            return
        with torch.no_grad():
            matrix = task.heads["correction"](self.state["matrix"]).clamp_min(0)
            self.state["revised"] = matrix / matrix.sum(1, keepdim=True).clamp_min(1e-12)
        self._check_diagonal()
        self.diagnostics["transition_diagonal"] = float(self.state["revised"].diagonal().mean())

    def _check_diagonal(self) -> None:
        """Refuse a matrix by which a class never keeps its label, unless it was such a class before the revision."""
        is_lost = (self.state["revised"].diagonal() == 0) & (self.state["matrix"].diagonal() > 0)
        classes = torch.nonzero(is_lost).squeeze(1).tolist()
        if not classes:
            return
        names = f"class{'es' if len(classes) > 1 else ''} {shorten(', '.join(map(str, classes)), 60)}"
        problem = f"the revised matrix has zeros on the diagonal for {names}"
        if self.implausible == "refuse":
            raise TrainingError(
                f"mitigations.{public_name(self)}: {problem}; decrease revision_learning_rate, which is "
                f"{self.revision_learning_rate:g}, or continue all the same with implausible=warn"
            )
        self.warnings.append(problem)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy before the matrix is known, and the weighted one afterward."""
        if not self._revises:
            return super().loss(task, batch)
        matrix = task.heads["correction"](self.state["matrix"])
        return reweighted_cross_entropy(task.logits(batch.inputs), batch.targets, matrix, trains_weights=True)

    def corrected_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B,) nats weighted by the estimated matrix."""
        return reweighted_cross_entropy(logits, targets, self.state["matrix"], trains_weights=False)

    def posterior(self, probabilities: Tensor, observed: Tensor) -> Tensor | None:
        """Return the posterior probabilities of the clean classes with the latest matrix, once it is known."""
        matrix = self.state.get("revised", self.state.get("matrix"))
        return None if matrix is None else clean_posterior(probabilities, matrix, observed)


def reweighted_cross_entropy(logits: Tensor, targets: Tensor, matrix: Tensor, trains_weights: bool) -> Tensor:
    """Return (B,) nats of cross-entropy weighted by the ratio of clean and observed probabilities.

    Args:
        logits: (B, C) scores of the clean classes.
        targets: (B, C) probabilities of the observed classes; the result is the expectation over them.
        matrix: (C, C) transition matrix.
        trains_weights: let gradients flow through the weights as well.

    >>> reweighted_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.eye(2), trains_weights=False)
    tensor([0.6931])
    """
    log_probabilities = logits.float().log_softmax(1)
    probabilities = log_probabilities.exp()
    # Under autocast, the product would have the 8 significant bits of bfloat16.
    with torch.autocast(logits.device.type, enabled=False):
        weights = probabilities / (probabilities @ matrix).clamp_min(1e-6)
    return -(targets * (weights if trains_weights else weights.detach()) * log_probabilities).sum(1)


class _Correction(nn.Module):
    """Correction of a (C, C) transition matrix, which is zero at first."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(num_classes, num_classes))

    def forward(self, matrix: Tensor) -> Tensor:
        """Return the corrected matrix."""
        return matrix + self.values

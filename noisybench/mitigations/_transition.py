"""Loss correction by the transition matrix of the noise, which is estimated or privileged."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class TransitionCorrection(LossFunction, abc.ABC):
    """Base class of loss corrections by the transition matrix of the noise (Patrini et al. 2017)."""

    matrix: Literal["estimated", "oracle"] = parameter(
        "estimated", help="Transition matrix: `estimated`, or `oracle` for that of the noise model (privileged)"
    )
    warmup_epochs: int = parameter(10, ge=1, low=2, high=30, help="Epochs of cross-entropy before the estimate")
    percentile: float = parameter(
        97.0,
        gt=0,
        le=100,
        low=90.0,
        high=100.0,
        help="Percentile of the probability that selects a class's anchor point",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both sources of the matrix."""
        return {"warmup_epochs": 1}, {"matrix": "oracle"}

    @property
    def requirements(self) -> Requirements:
        """The true transition matrix, if it is not estimated."""
        return Requirements(privileged=("transition_matrix",) if self.matrix == "oracle" else ())

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the estimate, if there is one, comes before the last epoch."""
        if self.matrix == "oracle" or self.warmup_epochs < budget.epochs:
            return []
        return [
            f"the warm-up takes {self.warmup_epochs} of {budget.epochs} epochs, so the loss would never be corrected; "
            "lower warmup_epochs or train longer"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Read the matrix, if it is not estimated."""
        if self.matrix == "oracle":
            self.state["matrix"] = self.privileged.transition_matrix.float()

    def on_epoch_start(self, task: Learner) -> None:
        """Estimate the matrix after the warm-up from the network's predictions on the training set."""
        # The state is part of checkpoints: a resumed run keeps its matrix instead of estimating it from later predictions.
        if "matrix" in self.state or task.current_epoch < self.warmup_epochs:
            return
        self.state["matrix"] = estimate_transitions(task.training_probabilities(), self.percentile)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy before the matrix is known, and the corrected loss afterwards."""
        logits = task.logits(batch.inputs)
        if "matrix" not in self.state:
            return cross_entropy(logits, batch)
        return self.corrected_loss(logits, batch.targets)

    @abc.abstractmethod
    def corrected_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the (B,) corrected loss of (B, C) logits against (B, C) observed targets."""

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the posterior probability that the clean class is the observed one, by Bayes' rule with the matrix."""
        if "matrix" not in self.state:
            return None
        return self._posterior(task, training_set).gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the most likely clean class given the prediction and the observed class."""
        return self._posterior(task, training_set).argmax(1) if "matrix" in self.state else None

    def _posterior(self, task: Learner, training_set: TrainingSet) -> Tensor:
        # P(c | x, y) is proportional to P(c | x) T_cy; row y of the transpose has T_cy for all c.
        joint = task.training_probabilities() * self.state["matrix"].T[training_set.targets]
        return joint / joint.sum(1, keepdim=True).clamp_min(1e-12)


def estimate_transitions(probabilities: Tensor, percentile: float) -> Tensor:
    """Return the (C, C) transition matrix from (N, C) predictions of a network trained on the observed labels.

    Row c is the prediction for the anchor point of class c: the example whose probability of class c is at the given
    percentile. Near 100, this is an example that the network considers a perfect example of its class.

    >>> estimate_transitions(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), percentile=100)
    tensor([[0.8000, 0.2000],
            [0.3000, 0.7000]])
    """
    # A rank instead of an interpolated quantile: an anchor point has to be an example, with a whole prediction.
    rank = round(percentile / 100 * (len(probabilities) - 1))
    anchors = probabilities.argsort(dim=0)[rank]  # (C,) positions
    rows: Any = probabilities[anchors]
    return torch.as_tensor(rows / rows.sum(1, keepdim=True))

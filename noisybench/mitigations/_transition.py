"""What forward and backward correction have in common: the transition matrix, given or estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TransitionCorrection(LossFunction):
    """A correction by the transition matrix of the noise (Patrini et al. 2017)."""

    matrix: Literal["estimated", "given"] = parameter(
        "estimated", help="estimate it, or be told it, which is knowledge"
    )
    warmup_epochs: int = parameter(10, ge=1, low=2, high=30, help="epochs of cross-entropy before the estimate")
    percentile: float = parameter(97.0, gt=0, le=100, low=90.0, high=100.0, help="which example stands for a class")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Both sources of the matrix."""
        return {"warmup_epochs": 1}, {"matrix": "given"}

    @property
    def requirements(self) -> Requirements:
        """The true transition matrix, where it is given."""
        return Requirements(privileged=("transition_matrix",) if self.matrix == "given" else ())

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Take the matrix, where it is given."""
        if self.matrix == "given":
            self.state["matrix"] = self.privileged.transition_matrix.float()

    def on_epoch_start(self, task: Learner) -> None:
        """Estimate the matrix when the warm-up is over, from the network's predictions on the training set."""
        if "matrix" in self.state or task.current_epoch < self.warmup_epochs:
            return
        self.state["matrix"] = estimate_transitions(task.training_probabilities(), self.percentile)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Cross-entropy until there is a matrix, the corrected loss from then on."""
        logits = task.logits(batch.inputs)
        if "matrix" not in self.state:
            return cross_entropy(logits, batch)
        return self.corrected(logits, batch.targets)

    def corrected(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) corrected loss of (B, C) logits against (B, C) observed targets."""
        raise NotImplementedError

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Probability of the observed class after Bayes' rule with the matrix."""
        if "matrix" not in self.state:
            return None
        return self._posterior(task, training_set).gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Most likely clean class given prediction and observed class."""
        return self._posterior(task, training_set).argmax(1) if "matrix" in self.state else None

    def _posterior(self, task: Learner, training_set: TrainingSet) -> Tensor:
        joint = task.training_probabilities() * self.state["matrix"].T[training_set.targets]
        return joint / joint.sum(1, keepdim=True).clamp_min(1e-12)


def estimate_transitions(probabilities: Tensor, percentile: float) -> Tensor:
    """(C, C) transition matrix from (N, C) predictions of a network trained on the observed labels.

    Row c is the prediction for the example whose probability of class c is at the given percentile: near 100 that is
    an example which the network holds for a perfect one of its class.
    """
    place = round(percentile / 100 * (len(probabilities) - 1))
    examples = probabilities.argsort(dim=0)[place]
    rows: Any = probabilities[examples]
    return torch.as_tensor(rows / rows.sum(1, keepdim=True))

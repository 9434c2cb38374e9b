"""Loss correction by the transition matrix of the noise, which is estimated or privileged."""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.errors import TrainingError, shorten
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements, public_name
from noisybench.training.roles import LabelPosterior, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

MIN_ADVANTAGE = 0.05
"""Smallest plausible advantage of the diagonal over chance, (T_cc - 1/C) / (1 - 1/C).

It is .10 for symmetric noise of 90 %, the strongest in published comparisons, and 0 for a network that has learned
nothing. The inverse matrix multiplies losses by its inverse, here 20.
"""


class TransitionCorrection(LossFunction, LabelPosterior, abc.ABC):
    """Base class of loss corrections by the transition matrix of the noise (Patrini et al. 2017)."""

    matrix: Literal["estimated", "oracle"] = parameter(
        "estimated", help="Transition matrix: `estimated`, or `oracle` for that of the noise model (privileged)"
    )
    warmup_epochs: int = parameter(10, ge=1, low=2, high=30, help="Epochs of cross-entropy before the estimate")
    percentile: float | None = parameter(
        None,
        gt=0,
        le=100,
        low=97.0,
        high=100.0,
        help="Percentile of the probability that selects a class's anchor point; by default it depends on the class's size",
    )
    implausible: Literal["refuse", "warn"] = parameter(
        "refuse", help="Reaction to an implausible estimate: stop the run, or continue with a warning"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both sources of the matrix."""
        return {"warmup_epochs": 1, "implausible": "warn"}, {"matrix": "oracle"}

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

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that a given percentile is high enough for the anchor point of every class to be one of its examples."""
        if self.matrix == "oracle" or self.percentile is None:
            return []
        size, counts = len(training_set), torch.bincount(training_set.targets, minlength=training_set.num_classes)
        smallest = int(counts.masked_fill(counts == 0, size).argmin())
        count = int(counts[smallest])
        if size - 1 - anchor_rank(self.percentile, size) < count:
            return []
        # Rounded up, so that the value shown is accepted.
        bound = math.ceil(10_000 * (size - count) / (size - 1)) / 100
        return [
            f"percentile: at {self.percentile:g}, class {smallest} has no anchor point, because only {count} of {size} "
            f"labels are of it; leave percentile out, or set it to at least {bound:g}"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Read the matrix, if it is not estimated."""
        if self.matrix == "oracle":
            self.state["matrix"] = self.privileged.transition_matrix.float()

    def on_epoch_start(self, task: Learner) -> None:
        """Estimate the matrix after the warm-up from the network's predictions on the training set.

        Raises:
            TrainingError: the estimate is implausible, and `implausible` does not allow it.
        """
        # The state is part of checkpoints: a resumed run keeps its matrix instead of estimating it from later predictions.
        if "matrix" in self.state or task.current_epoch < self.warmup_epochs:
            return
        probabilities = task.training_probabilities()
        matrix = estimate_transitions_of_observed(probabilities, task.training_set.targets, self.percentile)
        problem = describe_implausible(matrix, self.warmup_epochs)
        if problem and self.implausible == "refuse":
            raise TrainingError(
                f"mitigations.{public_name(self)}: {problem}; use a longer warm-up (warmup_epochs), the matrix of the "
                "noise model (matrix=oracle), another percentile, or continue all the same with implausible=warn"
            )
        self.warnings += [problem] if problem else []
        self.state["matrix"] = matrix

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
        """Return the posterior probability that the clean class is the observed one."""
        posterior = self._posterior_of_all(task, training_set)
        return None if posterior is None else posterior.gather(1, training_set.targets[:, None]).squeeze(1)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the most likely clean class given the prediction and the observed class."""
        posterior = self._posterior_of_all(task, training_set)
        return None if posterior is None else posterior.argmax(1)

    def posterior(self, probabilities: Tensor, observed: Tensor) -> Tensor | None:
        """Return the posterior probabilities of the clean classes by Bayes' rule with the matrix, once it is known."""
        return clean_posterior(probabilities, self.state["matrix"], observed) if "matrix" in self.state else None

    def _posterior_of_all(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        if "matrix" not in self.state:  # without a pass over the training set
            return None
        return self.posterior(task.training_probabilities(), training_set.targets)


def clean_posterior(probabilities: Tensor, matrix: Tensor, observed: Tensor) -> Tensor:
    """Return the (N, C) probabilities of the clean classes given predictions and observed labels, by Bayes' rule.

    Args:
        probabilities: (N, C) predictions of the clean classes.
        matrix: (C, C) transition matrix.
        observed: (N,) observed labels.

    >>> clean_posterior(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([1]))
    tensor([[0.2000, 0.8000]])
    """
    # P(c | x, y) is proportional to P(c | x) T_cy; row y of the transpose has T_cy for all c.
    joint = probabilities * matrix.T[observed]
    return joint / joint.sum(1, keepdim=True).clamp_min(1e-12)


def estimate_transitions(probabilities: Tensor, percentile: float | None = None) -> Tensor:
    """Return the (C, C) transition matrix from (N, C) predictions of a network trained on the observed labels.

    Row c is the prediction for the anchor point of class c: the example whose probability of class c is at a
    percentile. Near 100, this is an example that the network considers a perfect example of its class. A lower
    percentile is less affected by outliers, but the anchor point of a small class then belongs to another class. By
    default, the percentile is that of `anchor_percentiles`.

    >>> estimate_transitions(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), percentile=100)
    tensor([[0.8000, 0.2000],
            [0.3000, 0.7000]])
    """
    num_classes = probabilities.shape[1]
    percentiles = [percentile] * num_classes if percentile is not None else anchor_percentiles(probabilities).tolist()
    ranks = torch.tensor([anchor_rank(each, len(probabilities)) for each in percentiles], device=probabilities.device)
    anchors = probabilities.argsort(dim=0).gather(0, ranks[None])[0]  # (C,) positions
    rows: Any = probabilities[anchors]
    return torch.as_tensor(rows / rows.sum(1, keepdim=True))


def estimate_transitions_of_observed(
    probabilities: Tensor, observed: Tensor, percentile: float | None = None
) -> Tensor:
    """Return the matrix of `estimate_transitions`, with a row of the identity for classes that are never observed.

    Args:
        probabilities: (N, C) predictions of a network trained on the observed labels.
        observed: (N,) observed labels.
        percentile: percentile of the anchor points.

    >>> estimate_transitions_of_observed(torch.tensor([[0.8, 0.2], [0.7, 0.3]]), torch.tensor([0, 0]), 100)
    tensor([[0.8000, 0.2000],
            [0.0000, 1.0000]])
    """
    matrix = estimate_transitions(probabilities, percentile)
    counts = torch.bincount(observed, minlength=len(matrix))
    # Nothing is known about a class that is never observed; the identity leaves the others' loss as it is.
    matrix[counts == 0] = torch.eye(len(matrix)).to(matrix)[counts == 0]
    return matrix


def anchor_percentiles(probabilities: Tensor) -> Tensor:
    """Return the (C,) percentile at which each class's anchor point is, from (N, C) predictions.

    An example within the most confident 3 % of all, as in the paper's experiments with at most 10 classes, but also
    within the most confident 30 % of the examples that are predicted as the class: those are 3 % if the class is a
    tenth of the data. Predicted classes are counted rather than observed ones, because noise fills small classes with
    examples of the others.

    >>> anchor_percentiles(torch.eye(20).repeat(5, 1))[:3]
    tensor([98.5000, 98.5000, 98.5000])
    """
    count, num_classes = probabilities.shape
    shares = torch.bincount(probabilities.argmax(1), minlength=num_classes) / count
    return (100 - 30 * shares).clamp_min(97)


def anchor_rank(percentile: float, count: int) -> int:
    """Return the position from 0 of a percentile among a number of sorted values.

    >>> anchor_rank(97, 101)
    97
    """
    # Rounded instead of interpolated: an anchor point has to be an example, with a whole prediction.
    return round(percentile / 100 * (count - 1))


def describe_implausible(matrix: Tensor, epochs: int) -> str:
    """Return in words which rows of an estimated (C, C) matrix are implausible; an empty string if none is.

    Args:
        matrix: (C, C) estimated transition matrix.
        epochs: number of epochs after which it was estimated.

    >>> describe_implausible(torch.tensor([[0.8, 0.2], [0.6, 0.4]]), epochs=3)
    'the matrix estimated after 3 epochs is implausible for class 1 of 2 (0.4 on the diagonal, 0.6 beside it)'
    """
    rows = implausible_rows(matrix)
    return f"the matrix estimated after {epochs} epochs is implausible for {rows}" if rows else ""


def implausible_rows(matrix: Tensor) -> str:
    """Return in words the implausible rows of an estimated (C, C) matrix; an empty string if there are none.

    A row is implausible if another class than its own is as likely to be observed, or if its own class is hardly more
    likely than by chance: by less than 5 % of the way from 1/C to 1.

    >>> implausible_rows(torch.eye(2))
    ''
    """
    num_classes, diagonal = len(matrix), matrix.diagonal()
    others = matrix.masked_fill(torch.eye(num_classes, dtype=torch.bool, device=matrix.device), -1.0).amax(1)
    chance = 1 / num_classes
    is_implausible = (diagonal <= others) | (diagonal < chance + MIN_ADVANTAGE * (1 - chance))
    classes = torch.nonzero(is_implausible).squeeze(1).tolist()
    if not classes:
        return ""
    first = f"{float(diagonal[classes[0]]):.2g} on the diagonal, {float(others[classes[0]]):.2g} beside it"
    if len(classes) == 1:
        return f"class {classes[0]} of {num_classes} ({first})"
    names = shorten(", ".join(map(str, classes)), 60)
    return f"{len(classes)} of {num_classes} classes: {names} (class {classes[0]}: {first})"

"""Optimized gradient clipping."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.schedule import learning_rate_at
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

SMALLEST = 1e-7
"""Smallest probability of a label, and the distance of the largest one from 1."""

GRID_SIZE = 1000
"""Number of losses at which the expected gradients are summed."""

BISECTIONS = 10
"""Number of times that the interval of the threshold is halved."""

EM_ITERATIONS = 10
"""Largest number of iterations in which a mixture is fitted."""

EM_TOLERANCE = 1e-3
"""Change of the mean log-likelihood below which a fit ends."""

VARIANCE_FLOOR = 1e-3
"""Added to the variances of a mixture."""


class OGC(LossFunction):
    """Clip the gradient of cross-entropy at a threshold that follows the losses during training (optimized gradient clipping).

    The gradient is that with respect to the probability of the label, which is largest for labels that contradict the network.
    Every `interval` steps, a mixture of two Gaussians is fitted to the last `queue_size` losses, and the threshold becomes the
    largest one at which examples of the higher component have at most 1 + `epsilon` · learning rate times the expected gradient
    of those of the lower one (Ye et al. 2025). The learning rate is the budget's. Until the queue is full, the loss is
    cross-entropy.
    """

    fidelity = Fidelity(
        formula="L = -ln p_y if p_y > t, else 1 - p_y / t - ln t; t is the smallest of the probabilities that ten bisections "
        "reach with E_high[min(1/p, 1/t)] / E_low[min(1/p, 1/t)] < 1 + epsilon · learning rate",
        reference="https://github.com/Virusdoll/OGC",
        commit="a6b342af647257f1c1de3dc52bac85c35c88c70f",
        license="not stated",
        compared="losses, gradients, thresholds and mixtures over 24 steps with three learning rates",
        difference="2.4e-7 in the loss, 9.3e-9 in the gradient, 4.3e-8 in the thresholds, 1.1e-6 in the mixtures (single "
        "precision)",
        golden=("ogc",),
        deviations=(
            Deviation(
                "the mixture starts from the division of the losses into two groups with the smallest squared distances; the "
                "authors' starts from k-means with a random start",
                "a resumed run has the same thresholds, and the host does not wait for the device",
                "none where k-means finds that division",
            ),
            Deviation(
                "only cross-entropy is clipped; the authors also clip the focal loss and generalized cross-entropy",
                "the main variant of the paper",
                "none for cross-entropy",
            ),
        ),
    )

    epsilon: float = parameter(
        20.0,
        ge=0,
        low=1.0,
        high=100.0,
        log=True,
        help="Excess of the gradients of high losses over those of low ones, per unit of learning rate",
    )
    interval: int = parameter(32, ge=1, low=8, high=256, log=True, help="Steps between two estimates of the threshold")
    queue_size: int = parameter(
        4096, ge=16, low=512, high=16384, log=True, help="Number of losses to which the mixture is fitted"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a short queue."""
        return ({"epsilon": 1.0, "interval": 2, "queue_size": 32},)

    @property
    def requirements(self) -> Requirements:
        """A queue with the loss of each of the last samples."""
        return Requirements(per_sample_state=True)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the queue is full at the time of an estimate."""
        steps = math.ceil(examples / budget.batch_size)
        seen = budget.epochs * steps // self.interval * self.interval * examples // steps
        if seen >= self.queue_size:
            return []
        return [
            f"queue_size={self.queue_size} is more than the {seen} losses before the last estimate of the threshold in a budget "
            f"of {budget.epochs} epochs, so that no gradient would be clipped; decrease queue_size or interval, or train longer"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Start with an empty queue, whose places hold a value below zero, and without clipping."""
        self.state = {
            "losses": torch.full((self.queue_size,), -1.0),
            "threshold": torch.tensor(SMALLEST),
            "batches": torch.tensor(0),
        }

    def on_epoch_start(self, task: Learner) -> None:
        """Continue to count batches."""
        self._batches = self._first_batch = int(self.state["batches"])

    def on_epoch_end(self, task: Learner) -> None:
        """Keep the count, and report the threshold."""
        self.state["batches"].fill_(self._batches)
        self.diagnostics = {"clipping_threshold": 1 / float(self.state["threshold"])}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the clipped cross-entropy; for soft targets, its expectation over the target's class."""
        log_probabilities = task.logits(batch.inputs).float().log_softmax(1)
        self._follow(task, log_probabilities.detach().gather(1, batch.observed[:, None]).squeeze(1))
        return clipped_cross_entropy(log_probabilities, batch.targets, self.state["threshold"])

    def _follow(self, task: Learner, log_probabilities: Tensor) -> None:
        """Put the losses of the observed labels into the queue, and estimate the threshold if it is time."""
        losses = (-log_probabilities).clamp(-math.log1p(-SMALLEST), -math.log(SMALLEST))
        queue = torch.cat([self.state["losses"], losses])[-self.queue_size :]
        # Parts of a batch are one step of the optimizer.
        parts = task.budget.gradient_accumulation or 1
        passed = (self._batches - self._first_batch) // parts / task.sampler.steps_per_epoch
        self._batches += 1
        self.state["losses"] = queue
        if self._batches % (self.interval * parts) == 0:
            learning_rate = learning_rate_at(task.budget, task.current_epoch + passed)
            found = clipping_threshold(*fit_mixture(queue), limit=1 + learning_rate * self.epsilon)
            self.state["threshold"] = torch.where((queue >= 0).all(), found, self.state["threshold"])


def clipped_cross_entropy(log_probabilities: Tensor, targets: Tensor, threshold: Tensor) -> Tensor:
    """Return the (B,) cross-entropy that is continued as a straight line below a probability.

    Args:
        log_probabilities: (B, C) logarithms of the probabilities.
        targets: (B, C) target probabilities.
        threshold: scalar probability; below it, the gradient with respect to a probability is that at the threshold.

    >>> clipped_cross_entropy(torch.tensor([[0.1, 0.9]]).log(), torch.tensor([[1.0, 0.0]]), torch.tensor(0.5))
    tensor([1.4931])
    """
    probabilities = log_probabilities.exp()
    line = 1 - probabilities / threshold - threshold.log()
    return (targets * torch.where(probabilities > threshold, -log_probabilities, line)).sum(1)


def fit_mixture(values: Tensor) -> tuple[Tensor, Tensor]:
    """Fit two Gaussian components to (N,) values on their device, without a wait of the host.

    Returns:
        (2,) means and (2,) variances, the component with the smaller mean first.

    >>> means, _ = fit_mixture(torch.tensor([0.1, 0.2, 0.3, 3.9, 4.0, 4.1]))
    >>> means
    tensor([0.2000, 4.0000])
    """
    ordered = values.sort().values
    count = len(ordered)
    # The division with the smallest squared distances is that with the largest squared means, weighted by size.
    sizes = torch.arange(1, count, device=values.device)
    sums = ordered.cumsum(0)
    first, second = sums[:-1], sums[-1] - sums[:-1]
    best = (first.square() / sizes + second.square() / (count - sizes)).argmax()
    is_first = (torch.arange(count, device=values.device) <= best).float()
    weights, means, variances = _maximize(ordered, torch.stack([is_first, 1 - is_first]))
    bound, is_active = torch.full_like(ordered[0], -math.inf), torch.ones_like(ordered[0], dtype=torch.bool)
    for _ in range(EM_ITERATIONS):
        log_joint = weights.log()[:, None] + _log_density(ordered, means, variances)
        log_total = log_joint.logsumexp(0)
        found = _maximize(ordered, (log_joint - log_total).exp())
        weights, means, variances = (
            torch.where(is_active, new, old) for new, old in zip(found, (weights, means, variances), strict=True)
        )
        is_active = is_active & ((log_total.mean() - bound).abs() >= EM_TOLERANCE)
        bound = log_total.mean()
    order = means.argsort()
    return means[order], variances[order]


def _maximize(values: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (2,) weights, means and variances of components with (2, N) shares of the values."""
    sizes = shares.sum(1) + 10 * torch.finfo(values.dtype).eps
    means = (shares * values).sum(1) / sizes
    variances = (shares * (values - means[:, None]).square()).sum(1) / sizes + VARIANCE_FLOOR
    return sizes / len(values), means, variances


def _log_density(values: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Return the (2, N) logarithms of normal densities."""
    return -0.5 * ((values - means[:, None]).square() / variances[:, None] + (2 * math.pi * variances[:, None]).log())


def clipping_threshold(means: Tensor, variances: Tensor, limit: float) -> Tensor:
    """Return the probability below which gradients are clipped, so that those of high losses are limited.

    Args:
        means: (2,) means of the low and of the high losses.
        variances: (2,) variances.
        limit: largest ratio of the expected gradients of high and low losses.

    >>> clipping_threshold(torch.tensor([0.2, 3.0]), torch.tensor([0.1, 1.0]), limit=3.0)
    tensor(0.2275)
    >>> clipping_threshold(torch.tensor([0.2, 0.3]), torch.tensor([0.1, 0.1]), limit=3.0)
    tensor(1.0000e-07)
    """
    losses = torch.linspace(SMALLEST, -math.log(SMALLEST), GRID_SIZE, device=means.device)
    # The normal distributions are truncated to the grid.
    density = _log_density(losses, means, variances).softmax(1)
    gradients = losses.exp()

    def is_within(threshold: Tensor) -> Tensor:
        low, high = (density * gradients.minimum(1 / threshold)).sum(1)
        within: Tensor = high / low < limit
        return within

    lowest = torch.full_like(means[0], SMALLEST)
    left, right = lowest, 1 - lowest
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        moves = is_within(middle)
        left, right = torch.where(moves, left, middle), torch.where(moves, middle, right)
    return torch.where(is_within(lowest), lowest, right)

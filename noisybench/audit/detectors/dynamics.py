"""Detectors that read what was recorded while training: losses, margins, correct predictions and gradients."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.audit.detectors.result import DetectorResult, Floats, Labels
from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.errors import UserError
from noisybench.evaluation.mixture import two_components


def small_loss(*, losses: Floats) -> DetectorResult:
    """Return the posterior probability of the component of large losses in a mixture of two Gaussians; flag above 1/2.

    The mixture is that of DivideMix (Li et al. 2020). Losses of several epochs, (E, N), are averaged.

    Example:
        >>> small_loss(losses=np.array([0.1, 0.2, 0.1, 0.2, 3.0, 3.1])).flagged
        array([False, False, False, False,  True,  True])
    """
    scores = two_components(torch.from_numpy(np.atleast_2d(losses).mean(0))).high.double().numpy()
    return DetectorResult(scores, scores > 0.5)


def aum(*, margins: Floats) -> DetectorResult:
    """Return minus the area under the margin: the mean, over training steps, of the logged margins (Pleiss et al. 2020).

    A margin is the logit of the observed label minus the largest other logit; (E, N) or, averaged already, (N,).

    Example:
        >>> aum(margins=np.array([[2.0, -1.0], [4.0, -3.0]])).scores
        array([-3.,  2.])
    """
    return DetectorResult(-np.atleast_2d(margins).mean(0))


def forgetting(*, correct: NDArray[np.bool_]) -> DetectorResult:
    """Return how often a correct prediction became incorrect, from (E, N) flags of E epochs (Toneva et al. 2019).

    An example that was never predicted correctly counts E times.

    Example:
        >>> forgetting(correct=np.array([[True, False, True], [False, False, True], [True, False, True]])).scores
        array([1., 3., 0.])
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(0)
    return DetectorResult(np.where(correct.any(0), forgotten, len(correct)).astype(np.float64))


def vog(*, labels: Labels, gradients: Floats) -> DetectorResult:
    """Return the variance of gradients over checkpoints, normalized within each label (VoG, Agarwal et al. 2022).

    The standard deviation over K checkpoints of the gradient of the label's logit with respect to each number of the input is
    averaged over the input. Of these values, the scores are z-scores among the examples with the same label.

    Args:
        labels: (N,) labels.
        gradients: (K, N, ...) gradients of the logit of the label with respect to the input. Those of its loss rank mislabeled
            examples higher (VoLG, of the package mislabeled).

    Raises:
        UserError: there is only one checkpoint.

    Examples:
        >>> gradients = np.array([[[1.0], [1.0], [1.0]], [[1.0], [1.0], [3.0]]])
        >>> vog(labels=np.array([0, 0, 0]), gradients=gradients).scores.round(2)
        array([-0.71, -0.71,  1.41])

        Gradients of a network of PyTorch at three checkpoints; one backward pass gives those of all examples:

        >>> inputs, labels = torch.randn(8, 4), torch.arange(8) % 2
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()
        >>> optimizer, recorded = torch.optim.SGD(network.parameters(), lr=0.1), []
        >>> for _ in range(3):
        ...     points = inputs.clone().requires_grad_()
        ...     losses = torch.nn.functional.cross_entropy(network(points), labels, reduction="none")
        ...     recorded += torch.autograd.grad(losses.sum(), points, retain_graph=True)
        ...     optimizer.zero_grad()
        ...     losses.mean().backward()
        ...     optimizer.step()
        >>> vog(labels=labels.numpy(), gradients=torch.stack(recorded).double().numpy()).scores.shape
        (8,)
    """
    if len(gradients) < 2:
        raise UserError(
            "gradients: variances need at least two checkpoints, but there is one; record gradients more often"
        )
    values = gradients.std(0).reshape(len(labels), -1).mean(1)
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        members = labels == label
        # Equal values have no z-scores, whatever rounding leaves of their deviation.
        if np.ptp(values[members]) > 0:
            scores[members] = (values[members] - values[members].mean()) / values[members].std()
    return DetectorResult(scores)


CARDS: dict[str, Fidelity] = {
    "aum": Fidelity(
        formula="score = -mean over steps of (z_y - max_k≠y z_k)",
        reference="https://github.com/asappresearch/aum",
        commit="892e76eda4b6b85e21bda441d86134e0430ded7a",
        license="MIT",
        compared="areas of 12 examples of 5 classes after 6 epochs",
        difference="1.1e-7 of 6.5 in the areas",
        golden=("aum",),
        deviations=(
            Deviation(
                "labels are ranked; the authors flag by the margins of a fake class",
                "a fake class must be trained, as the mitigation `aum` does",
                "no flags; none in the order",
            ),
        ),
    ),
    "forgetting": Fidelity(
        formula="score = how often a correct prediction is followed by an incorrect one; E if none of E is correct",
        reference="https://github.com/mtoneva/example_forgetting",
        commit="d51c1aaa51c5a5cd3b8a584f8d5dee2c8957653e",
        license="MIT",
        compared="counts of 40 examples over 9 epochs and 2 networks, which never learn 7 and 4 of them",
        difference="0 events",
        golden=("forgetting",),
        deviations=(
            Deviation(
                "one network is scored; the authors add the counts of several",
                "what is given is that of one network",
                "none if the caller adds the scores",
            ),
        ),
    ),
    "small_loss": Fidelity(
        formula="score = P(component with the larger mean | l),  a mixture of two Gaussians of losses l scaled to [0, 1]",
        reference="https://github.com/LiJunnan1992/DivideMix",
        commit="d9d3058fa69a952463b896f84730378cdee6ec39",
        license="MIT",
        compared="posteriors and flags of 120 examples in each of six epochs",
        difference="1.3e-7 in the posteriors; no flag differs",
        golden=("dividemix",),
        deviations=(
            Deviation(
                "losses of several epochs are averaged, then scaled; the authors scale those of each epoch, then average the "
                "last five, and do so only at a noise rate of .9",
                "losses of one unit, and no rate is known",
                "in the frozen vectors, posteriors differ by up to .27 and no flag after five epochs, by up to 1 and 2 of 120 "
                "flags after six",
            ),
            Deviation(
                "the mixture starts from a fixed random state; the authors' code seeds nothing",
                "equal calls give equal flags",
                "over 20 random states, at most 3 of 50,000 simulated examples change sides at 20 or 50 % noise, 930 at 80 %",
            ),
        ),
    ),
    "vog": Fidelity(
        formula="score = z-score, among the label's examples, of the mean over inputs x of std over checkpoints of dz_y/dx",
        reference="https://github.com/chirag126/VOG",
        commit="8f266afbeee714fe98ae557e96b61fb06089af52",
        license="not stated",
        compared="scores of 50 examples of 2 classes from the gradients of 15 epochs of the authors' toy experiment",
        difference="0 in the scores",
        golden=("vog",),
        deviations=(
            Deviation(
                "gradients are given; in the authors' toy experiment they are those of probabilities, and add up over epochs",
                "a detector trains nothing; the paper takes those of logits",
                "on the digits with 20 % of incorrect labels, 10 epochs of a multilayer perceptron and three seeds, an AUROC of "
                ".32 to .46 with logits, .05 to .07 with probabilities and .99 with losses",
            ),
            Deviation(
                "the examples of a label with equal values have the score 0; the authors divide by 0",
                "scores must be numbers",
                "only such labels, such as those of one example",
            ),
        ),
    ),
}
"""Fidelity cards by detector."""

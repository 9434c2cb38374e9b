"""EL2N scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import ScorePruning, check_schedule
from noisybench.mitigations._scores import EarlyScores
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class EL2N(ScorePruning):
    """Prune by the error norm of examples after a few epochs (EL2N).

    The score is the Euclidean norm of predicted probabilities minus the one-hot observed label, averaged over several
    networks that are trained for a few epochs with the run's own recipe on all observed labels (Paul et al. 2021). On
    clean data the paper keeps the highest scores. Mislabeled examples have the very highest scores, so by default
    those are dropped; a window drops both ends. `keep_highest` is for comparison only: under noise it trains mostly on
    mislabeled examples.

    Scores lose their value once incorrect labels are memorized: the number of epochs matters more than the number of
    networks. Without `keep_fraction`, a two-component Gaussian mixture of the scores decides how much is dropped, which
    is our choice; the paper tunes both ends of the window. Pruned runs take as many gradient steps as others
    (`match: steps`), as in the paper. Scores do not depend on the run's seed: all runs of a setting share them, and
    each run is charged for them.
    """

    fidelity = Fidelity(
        formula="score = mean over networks of ‖p - y‖₂",
        reference="https://github.com/mansheej/data_diet",
        commit="aee462eab93aa0fb14c1ddfeba45d645b85a5fbb",
        license="Apache-2.0",
        compared="scores of 24 examples under a convolutional network with batch normalization",
        difference="1.1e-16 in the score",
        golden=("data_diet",),
        deviations=(
            Deviation(
                "by default the highest scores are dropped; the authors keep them",
                "under noise they are mislabeled examples",
                "`strategy=keep_highest` is the authors' on clean data",
            ),
            Deviation(
                "how much is dropped without `keep_fraction` is decided by a mixture of two Gaussian distributions; "
                "the authors give the fraction",
                "no fraction is known under noise",
                "which examples are kept, unless `keep_fraction` is given",
            ),
        ),
    )

    num_networks: int = parameter(10, ge=1, low=1, high=10, help="Number of networks whose scores are averaged")
    epochs: int = parameter(10, ge=1, low=2, high=20, help="Training epochs of each network before it scores")
    score_seed: int = parameter(0, ge=0, help="Random seed of the scoring networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return a mixture of the scores, a window, and the true noise rate within each class."""
        quick = {"num_networks": 2, "epochs": 1}
        return (
            {**quick, "allow_empty_classes": True},
            {**quick, "strategy": "window", "keep_fraction": 0.6, "offset": 0.1, "per_class": True},
            {**quick, "noise_rate": "oracle", "match": "epochs", "allow_empty_classes": True},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the networks are scored within the schedule."""
        return super().check(network, budget, examples) + check_schedule(self.epochs, budget)

    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) mean error norm over the networks."""
        run = EarlyScores(task, self.num_networks, self.epochs, self.score_seed)
        return task.auxiliary(run)["el2n"].mean(0)

"""Nearest neighbors in trained features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._feature_classifiers import extract_features, feature_width, set_classifier
from noisybench.mitigations._neighbor_search import NeighborSearch
from noisybench.nn.features import last_linear
from noisybench.nn.frozen import FrozenBackbone
from noisybench.nn.neighbors import (
    NeighborClassifier,
    nearest_neighbors,
    unit_rows,
    vote_scores,
    vote_shares,
)
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, PostProcessor, SampleSelector
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class KNN(PostProcessor, DetectorProvider):
    """Replace the trained classifier by the votes of the nearest training examples.

    The class of an example is that with most votes among the observed labels of its nearest neighbors, by cosine
    similarity of the features that enter the trained classifier (deep k nearest neighbors; for noisy labels Bahri et al.
    2020). Predicted probabilities are shares of votes. With a `temperature`, a vote counts exp(similarity / temperature)
    as in Wu et al. (2018), who use 200 neighbors and 0.07.

    An example never votes for itself: scores of training examples are those of the others' votes, and the label quality is
    the share of votes for the observed label. Examples that the stack leaves out do not vote. The search is exact. Where
    training does not change the features (precomputed ones, frozen backbones), neighbors are searched once and shared by
    all label sets and seeds; the cost is charged to each run.
    """

    fidelity = Fidelity(
        formula="weight of a vote = exp(similarity / temperature)",
        reference="https://github.com/zhirongw/lemniscate.pytorch",
        commit="f7cfe298357cb2b169cd59eb540aca24bed1f9b8",
        license="not stated",
        compared=(
            "shares of votes of 15 neighbors for 25 queries with the temperature; with equal votes and with the temperature, "
            "also classes and shares of scikit-learn's `KNeighborsClassifier` (brute force, cosine distance)"
        ),
        difference="1e-6 in the shares; no class differs",
        golden=("knn",),
        deviations=(
            Deviation(
                "training examples are scored without their own vote",
                "with it, the observed label would always have a vote",
                "only training scores and label quality; test predictions are those of scikit-learn",
            ),
        ),
    )

    neighbors: int = parameter(20, ge=1, low=5, high=200, log=True, help="Number of neighbors that vote")
    temperature: float | None = parameter(
        None,
        gt=0,
        low=0.02,
        high=1.0,
        log=True,
        help="Temperature of votes by similarity; by default all votes count alike",
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing else may replace the classifier."""
        return Requirements(replaces_classifier=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._constant: tuple[Tensor, Tensor] | None = None
        self._shares: dict[int, Tensor] = {}
        self._is_refined = False

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both kinds of votes."""
        return {"neighbors": 5}, {"temperature": 0.07}

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that there are features, and enough examples."""
        if feature_width(network) is None or isinstance(network, nn.Linear):
            return [f"`{budget.network}` has no linear classifier to replace; choose another network"]
        if self.neighbors >= examples:
            return [
                f"neighbors: {examples} examples have at most {examples - 1} neighbors each, but neighbors is "
                f"{self.neighbors}; set a smaller number"
            ]
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Search the neighbors before training if training changes neither features nor the examples that vote."""
        assert isinstance(task, Task)
        if has_constant_features(task.networks[0]) and not task.stack.with_role(SampleSelector):
            points = unit_rows(extract_features(task, task.networks[0], training_set.inputs))
            found = task.auxiliary(NeighborSearch(points, self.neighbors))
            self._constant = found["similarities"].to(points.device), found["neighbors"].to(points.device).long()
            self._vote(0, *self._constant, training_set.targets.to(points.device), training_set.num_classes)

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Replace the classifier of every network."""
        assert isinstance(task, Task)
        weights = task.sampler.weights
        self._shares = {}
        for number, network in enumerate(task.networks):
            points = unit_rows(extract_features(task, network, training_set.inputs))
            targets = training_set.targets.to(points.device)
            kept = slice(None) if weights is None else torch.nonzero(weights.to(points.device) > 0).squeeze(1)
            voters, classes = points[kept], targets[kept]
            # The selection may leave fewer examples than there are neighbors.
            count = min(self.neighbors, len(voters) - 1)
            found = self._constant
            if found is None:
                own = torch.full_like(targets, -1)
                own[kept] = torch.arange(len(voters), device=own.device)
                found = nearest_neighbors(points, voters, count, own)
            self._vote(number, *found, classes, training_set.num_classes)
            layer = NeighborClassifier(voters, classes, training_set.num_classes, count, self.temperature)
            if self._constant is not None:
                # Test features are those of every other run as well.
                layer.folder = task.auxiliary_cache.folder / "neighbors"
            set_classifier(network, layer.to(task.device))
        self._is_refined = True
        return True

    def _vote(self, number: int, similarities: Tensor, neighbors: Tensor, classes: Tensor, num_classes: int) -> None:
        self._shares[number] = vote_shares(similarities, classes[neighbors], num_classes, self.temperature)

    def rebuild(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        """Give a newly built network the classifier of saved weights."""
        last = last_linear(network)
        assert last is not None  # checked before training
        name, layer = last
        points, targets = weights[f"{name}.weight"], weights[f"{name}.targets"]
        count = min(self.neighbors, len(points) - 1)
        set_classifier(network, NeighborClassifier(points, targets, layer.out_features, count, self.temperature))

    def training_logits(self, network: int) -> Tensor | None:
        """Return the (N, C) scores of the training examples without their own votes, once the network is changed."""
        return vote_scores(self._shares[network]) if self._is_refined else None

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the share of votes for other classes than the observed one; flagged where another class has more."""
        if 0 not in self._shares:
            return {}
        shares = self._shares[0]
        targets = training_set.targets.to(shares.device)
        own = shares.gather(1, targets[:, None]).squeeze(1)
        return {"knn": Detector(1 - own, shares.amax(1) > own)}


def has_constant_features(network: nn.Module) -> bool:
    """Return True if training changes nothing before the classifier: no weight is trained, and no statistic updated.

    >>> has_constant_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    True
    >>> has_constant_features(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    False
    """
    last = last_linear(network)
    assert last is not None  # checked before training
    frozen = [f"{name}." for name, module in network.named_modules() if isinstance(module, FrozenBackbone)]
    constant = (f"{last[0]}.", *frozen)
    return all(name.startswith(constant) for name in network.state_dict())

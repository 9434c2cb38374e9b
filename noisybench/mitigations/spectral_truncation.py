"""Spectral truncation of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._feature_classifiers import (
    NEVER_PREDICTED,
    Inputs,
    extract_features,
    feature_width,
    gaussian_classifier,
    predict_linear,
    replace_classifier,
)
from noisybench.nn.features import last_linear
from noisybench.nn.spectrum import (
    Spectrum,
    effective_rank,
    participation_ratio,
    predict_by_rank,
    rank_explaining,
    rank_grid,
    spectrum_of,
)
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import PostProcessor, Probe, ProbeProvider
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SpectralTruncation(PostProcessor, ProbeProvider):
    """EXPERIMENTAL: classify by the leading principal components of the trained features.

    Inspired by the abstract of a preprint that its author withdrew without a stated reason (arXiv 2603.02293, March
    2026). There, networks are said to encode classes in a few leading directions of their features and incorrect labels in the
    others, which can then be removed. None of its claims is taken as established; the run records controls beside it.

    Features are the inputs of the last linear layer for the training set in evaluation mode; components are centered,
    not whitened, and computed without labels. `head` keeps the trained classifier and filters its input; `ridge` fits a
    regression of the observed labels to the leading components (`penalty` in units of the mean eigenvalue; 0 is least
    squares); `logistic` fits a strongly regularized logistic regression. Each of them becomes a linear classifier that
    replaces the trained one. The rank is fixed, selected by accuracy on the noisy validation split (the smaller one on
    a tie), or 1.5 times the number of classes.

    It can follow any training: `elr+spectral_truncation`. The record has one row before and one after it, so early
    stopping (`noisy_val` before it) is measured on the same run. It also has a probe: classifiers at every rank, after
    the epochs of `probe_epochs` and at the end; at the end with the controls full-rank ridge, nearest class mean, a
    random projection, the components that are removed, and ridge on the untrained network. If truncation is not better
    than these, its gain is not due to the position of noise in the spectrum.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared=(
            "components and singular values equal those of a decomposition in double precision, regressions those of "
            "least squares and scikit-learn at every rank, and a full-rank head is the trained classifier"
        ),
        deviations=(
            Deviation(
                "the preprint has no code, and its text was withdrawn; the construction is ours",
                "only its abstract is public",
                "not measurable; the probe records six controls beside it",
            ),
        ),
    )

    mode: Literal["head", "ridge", "logistic"] = parameter(
        "ridge", help="Classifier on the truncated features", always_in_label=True
    )
    rank: int | None = parameter(
        None, ge=1, low=5, high=60, log=True, help="Number of components to keep; by default selected by `choose`"
    )
    choose: Literal["noisy_val", "classes"] = parameter(
        "noisy_val", help="Rank selection: best on the noisy validation split, or 1.5 times the number of classes"
    )
    penalty: float = parameter(0.0, ge=0, low=0.0, high=3.0, help="Ridge penalty in units of the mean eigenvalue")
    inverse_strength: float = parameter(
        0.01, gt=0, low=0.001, high=1.0, log=True, help="Inverse strength C of the logistic regression's L2 penalty"
    )
    features: Literal["trained", "untrained"] = parameter(
        "trained", help="Network of the features: trained, or as initialized (a control)"
    )
    probe_epochs: list[int] = parameter(
        [], help="Numbers of epochs after which the probe is recorded; 0 is before training"
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing else may replace the classifier."""
        return Requirements(replaces_classifier=True)

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return every mode, and the probe from the start."""
        return (
            {"probe_epochs": [0, 2]},
            {"mode": "head", "choose": "classes"},
            {"mode": "logistic", "rank": 12},
            {"penalty": 1.0, "features": "untrained", "rank": 128},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that there are features, and that ranks and epochs are in range."""
        width, problems = feature_width(network), []
        if width is None:
            return [
                f"`{budget.network}` has no linear classifier whose inputs could be truncated; choose another network"
            ]
        if self.rank is not None and self.rank > width:
            problems.append(
                f"rank: the features of `{budget.network}` have {width} dimensions, but rank is {self.rank}"
            )
        if self.features == "untrained" and self.mode == "head":
            problems.append(
                "features: the head of an untrained network cannot classify; set mode=ridge or mode=logistic to refit it"
            )
        invalid = [epochs for epochs in self.probe_epochs if not 0 <= epochs <= budget.epochs]
        if invalid:
            problems.append(f"probe_epochs: must be from 0 to {budget.epochs}, but got {invalid}")
        return problems

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that there is a validation split if the rank is selected on it."""
        if self.rank is not None or self.choose != "noisy_val" or training_set.validation is not None:
            return []
        return [
            "the rank is selected on the noisy validation split, but there is none; set dataset.validation_fraction, a "
            "rank, or choose=classes"
        ]

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Replace the classifier of every network."""
        for number, network in enumerate(task.networks):
            if self.features == "untrained":
                network.load_state_dict(_initial_network(task, number).state_dict())
            points = extract_features(task, network, training_set.inputs)
            classifiers = _TruncatedClassifiers(self, network, points, training_set)
            rank = self._select_rank(task, network, classifiers, training_set)
            replace_classifier(network, *classifiers.at_rank(rank))
            if number == 0:
                self.diagnostics |= {"rank": float(rank), **_spectrum_diagnostics(classifiers.spectrum)}
        return True

    def _select_rank(
        self, task: Learner, network: nn.Module, classifiers: _TruncatedClassifiers, training_set: TrainingSet
    ) -> int:
        width = len(classifiers.spectrum.values)
        if self.rank is not None:
            return self.rank
        if self.choose == "classes":
            # C - 1 is enough for collapsed features with clean labels, but too small after training on noisy ones.
            return min(width, round(1.5 * training_set.num_classes))
        assert training_set.validation is not None  # checked in `check_data`
        points = extract_features(task, network, training_set.validation.inputs)
        ranks = rank_grid(training_set.num_classes, width)
        # Under symmetric noise below a rate of (C - 1) / C, noisy accuracy increases with clean accuracy.
        correct = classifiers.predict(points, ranks) == training_set.validation.targets.to(points.device)
        # `argmax` returns the first maximum: the smaller rank on a tie.
        return ranks[int(correct.double().mean(1).argmax())]

    def probe(self, task: Learner, training_set: TrainingSet, epochs: int, last: bool) -> Probe | None:
        """Return classifiers by rank, with the controls at the end of training."""
        if not last and epochs not in self.probe_epochs:
            return None
        network = task.networks[0]
        points = extract_features(task, network, training_set.inputs)
        classifiers = _TruncatedClassifiers(self, network, points, training_set)
        ranks = rank_grid(training_set.num_classes, points.shape[1])
        controls = _controls(task, training_set, classifiers) if last else {}

        def predict(inputs: Inputs) -> Tensor:
            # The features of the training set are known; extracting them again would be a pass over all inputs.
            features = points if inputs is training_set.inputs else extract_features(task, network, inputs)
            by_rank = classifiers.predict(features, ranks)
            return torch.stack([*by_rank, *(control(inputs, features) for control in controls.values())]).cpu()

        def energy(targets: Tensor) -> Tensor:
            shares = classifiers.spectrum.energies(points, targets.to(points.device)).cumsum(0)
            return shares[torch.tensor(ranks, device=shares.device) - 1].cpu()

        return Probe("rank", ranks, predict, tuple(controls), energy, _spectrum_diagnostics(classifiers.spectrum))


class _TruncatedClassifiers:
    """Classifiers of one network's features by rank, fitted to the observed labels of the training set."""

    def __init__(
        self, settings: SpectralTruncation, network: nn.Module, points: Tensor, training_set: TrainingSet
    ) -> None:
        self.settings, self.points = settings, points
        self.targets = training_set.targets.to(points.device)
        self.spectrum = spectrum_of(points, self.targets, training_set.num_classes)
        last = last_linear(network)
        assert last is not None  # checked before training
        weights = last[1].weight.detach().to(points.device)
        bias = weights.new_zeros(len(weights)) if last[1].bias is None else last[1].bias.detach().to(points.device)
        # In float64 like the spectrum, whose small eigenvalues are below the resolution of float32.
        self.head = weights.double(), bias.double()

    def at_rank(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return (C, D) weights and (C,) bias for the original features."""
        if self.settings.mode == "head":
            return self.spectrum.truncated(*self.head, rank)
        if self.settings.mode == "ridge":
            return self.spectrum.least_squares(rank, self.settings.penalty)
        return self._logistic(rank)

    def predict(self, points: Tensor, ranks: list[int]) -> Tensor:
        """Return the (R, N) predicted classes for (N, D) features."""
        if self.settings.mode == "logistic":
            return torch.stack([predict_linear(points, *self.at_rank(rank)) for rank in ranks])
        spectrum = self.spectrum
        if self.settings.mode == "head":
            weights, bias = self.head
            coefficients, start = (weights @ spectrum.vectors).T, bias + weights @ spectrum.mean
        else:
            coefficients, start = spectrum.coefficients(self.settings.penalty), spectrum.shares
        # Components are orthogonal: the next rank adds terms to the scores and leaves the others as they are.
        return predict_by_rank(spectrum.components(points), coefficients, start, ranks)

    def _logistic(self, rank: int) -> tuple[Tensor, Tensor]:
        from sklearn.linear_model import LogisticRegression

        spectrum = self.spectrum
        # One scale for all components: whitening would give the last ones as much weight as the leading ones.
        scale = spectrum.values[0].sqrt().clamp_min(1e-12)
        inputs = ((self.points.double() - spectrum.mean) @ spectrum.vectors[:, :rank] / scale).cpu().numpy()
        regression = LogisticRegression(C=self.settings.inverse_strength, max_iter=1000)
        regression.fit(inputs, self.targets.cpu().numpy())
        slopes, offsets = (
            torch.from_numpy(values).to(spectrum.mean) for values in (regression.coef_, regression.intercept_)
        )
        if len(regression.classes_) == 2:  # scikit-learn then has scores of the second class only
            # Half of the score on each side: the softmax then equals the sigmoid of scikit-learn.
            slopes, offsets = torch.cat([-slopes, slopes]) / 2, torch.cat([-offsets, offsets]) / 2
        present = torch.from_numpy(regression.classes_).to(spectrum.mean.device)
        weights = torch.zeros_like(self.head[0])
        # A class without observed examples must not be predicted.
        bias = torch.full_like(self.head[1], NEVER_PREDICTED)
        weights[present] = slopes @ spectrum.vectors[:, :rank].T / scale
        bias[present] = offsets
        return weights, bias - weights @ spectrum.mean


def _spectrum_diagnostics(spectrum: Spectrum) -> dict[str, float]:
    values = spectrum.values
    components = {
        f"components_for_{percent}_percent": rank_explaining(values, percent / 100) for percent in (90, 95, 99)
    }
    return {
        "effective_rank": effective_rank(values),
        "participation_ratio": participation_ratio(values),
        **{name: float(count) for name, count in components.items()},
    }


def _initial_network(task: Learner, number: int) -> nn.Module:
    """Return a network of the run as it was initialized."""
    # The same seed as at the start of the run gives the same weights, so no copy has to be kept during training.
    torch.manual_seed(torch_seed("initialisation", task.seed, number))
    return task.build_network().to(task.device)


def _controls(task: Learner, training_set: TrainingSet, classifiers: _TruncatedClassifiers) -> dict[str, Any]:
    """Return the classifiers that truncation must beat, by name; each maps inputs and trained features to classes."""
    spectrum, targets = classifiers.spectrum, classifiers.targets
    width, classes = len(spectrum.values), training_set.num_classes
    rank = min(width, round(1.5 * classes))
    ridge, means = spectrum.least_squares(width, 1.0), spectrum.class_means()
    nearest = gaussian_classifier(means, torch.eye(width, dtype=means.dtype, device=means.device))
    # Only the largest score is used here, so minus infinity is safe.
    nearest = nearest[0], torch.where(spectrum.shares > 0, nearest[1], nearest[1].new_full((), -torch.inf))
    # Orthonormal, so that the control differs from principal components in direction only; (D, rank).
    directions = torch.linalg.qr(torch.from_numpy(Stream("projection", task.seed).normal(width, rank)))[0].to(means)
    projected = spectrum_of(classifiers.points.double() @ directions, targets, classes)
    full, leading = spectrum.least_squares(width), spectrum.least_squares(rank)
    # The removed components alone: their weights are the difference, and the bias restores the class shares.
    rest = full[0] - leading[0], spectrum.shares - (full[0] - leading[0]) @ spectrum.mean
    network = _initial_network(task, 0)
    initial = spectrum_of(extract_features(task, network, training_set.inputs), targets, classes)

    def untrained(penalty: float, kept: int) -> Any:
        return lambda inputs, features: predict_linear(
            extract_features(task, network, inputs), *initial.least_squares(kept, penalty)
        )

    return {
        "full_rank_ridge": lambda inputs, features: predict_linear(features, *ridge),
        "nearest_class_mean": lambda inputs, features: predict_linear(features, *nearest),
        "random_projection": lambda inputs, features: predict_linear(
            features.double() @ directions, *projected.least_squares(rank)
        ),
        "rest_of_components": lambda inputs, features: predict_linear(features, *rest),
        "untrained_ridge": untrained(1.0, width),
        "untrained_truncated": untrained(0.0, min(width, 4 * classes)),
    }

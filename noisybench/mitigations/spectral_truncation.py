"""Truncated spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.mitigations._post_hoc import (
    Inputs,
    feature_width,
    features,
    gaussian_classifier,
    predicted,
    replace_classifier,
)
from noisybench.nn.features import classifier
from noisybench.nn.spectrum import (
    Spectrum,
    effective_rank,
    explaining,
    participation_ratio,
    predictions_by_rank,
    rank_grid,
    spectrum_of,
)
from noisybench.training.roles import PostProcessor, Probe, ProbeProvider
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SpectralTruncation(PostProcessor, ProbeProvider):
    """EXPERIMENTAL: after training, classifies by the leading principal components of the features alone.

    Inspired by the abstract of a preprint that its author withdrew without a stated reason (arXiv 2603.02293, March
    2026): networks are said to keep classes in a few leading directions of their features and wrong labels in the
    rest, which may then be cut off. None of its claims is taken as established; the run records controls beside it.

    Features are the inputs of the last linear layer, for the training set in evaluation mode; components are centred, not
    whitened, and found without labels. `head` keeps the trained classifier and filters its input; `ridge` fits a
    regression of the observed labels to the leading components (`penalty` in units of the mean eigenvalue; 0 is least
    squares); `logistic` fits a strongly regularised logistic regression. All come out as another linear classifier in the
    place of the trained one. The rank is fixed, chosen by accuracy on the noisy validation split (smaller on a tie), or
    1.5 times the number of classes.

    It can follow any training: `elr+spectral_truncation`. The record has a row before and one after it, so early
    stopping (`noisy_val` before it) is measured on the same run; and a probe: classifiers at every rank, after the
    epochs of `probe_epochs` and at the end, there with full-rank ridge, nearest class mean, a random projection, the
    components that are cut off, and ridge on the untrained network. Where it is not better than these, the gain is
    not due to where noise lies in the spectrum.
    """

    mode: Literal["head", "ridge", "logistic"] = parameter(
        "ridge", help="how the truncated features are classified", always_in_label=True
    )
    rank: int | None = parameter(
        None, ge=1, low=5, high=60, log=True, help="components kept; without it, `choose` decides"
    )
    choose: Literal["noisy_val", "classes"] = parameter(
        "noisy_val", help="the rank that is best on the noisy validation split, or 1.5 times the number of classes"
    )
    penalty: float = parameter(0.0, ge=0, low=0.0, high=3.0, help="ridge penalty, in units of the mean eigenvalue")
    inverse_strength: float = parameter(
        0.01, gt=0, low=0.001, high=1.0, log=True, help="inverse strength C of the logistic regression's L2 penalty"
    )
    features: Literal["trained", "untrained"] = parameter(
        "trained", help="of the trained network, or as a control of the same one before training"
    )
    probe_epochs: list[int] = parameter(
        [], help="numbers of epochs after which the probe is recorded; 0 is before training"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Every mode, and the probe from the start."""
        return (
            {"probe_epochs": [0, 2]},
            {"mode": "head", "choose": "classes"},
            {"mode": "logistic", "rank": 12},
            {"penalty": 1.0, "features": "untrained", "rank": 128},
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """There are features, and enough of them."""
        width, problems = feature_width(network), []
        if width is None:
            return [
                f"`{budget.network}` has no linear classifier whose inputs could be truncated; choose another network"
            ]
        if self.rank is not None and self.rank > width:
            problems.append(
                f"rank: the features of `{budget.network}` have {width} dimensions, but {self.rank} shall be kept"
            )
        if self.features == "untrained" and self.mode == "head":
            problems.append(
                "features: the head of an untrained network knows nothing; refit one by mode=ridge or logistic"
            )
        late = [each for each in self.probe_epochs if not 0 <= each <= budget.epochs]
        if late:
            problems.append(f"probe_epochs: must be from 0 to {budget.epochs}, but got {late}")
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Nothing, but where the rank is chosen on a validation split there must be one.

        Raises:
            UserError: there is none.
        """
        if self.rank is None and self.choose == "noisy_val" and training_set.validation is None:
            raise UserError(
                "mitigations.spectral_truncation: the rank is chosen on the noisy validation split, but there is none; set "
                "dataset.validation_fraction, a rank, or choose=classes"
            )

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Replace the classifier of every network."""
        for number, network in enumerate(task.networks):
            if self.features == "untrained":
                network.load_state_dict(_untrained(task, number).state_dict())
            points = features(task, network, training_set.inputs)
            fitted = _Fitted(self, network, points, training_set)
            rank = self._rank(task, network, fitted, training_set)
            replace_classifier(network, *fitted.classifier(rank))
            if number == 0:
                self.diagnostics |= {"rank": float(rank), **_described(fitted.spectrum)}
        return True

    def _rank(self, task: Learner, network: nn.Module, fitted: _Fitted, training_set: TrainingSet) -> int:
        width = len(fitted.spectrum.values)
        if self.rank is not None:
            return self.rank
        if self.choose == "classes":
            return min(width, round(1.5 * training_set.num_classes))
        assert training_set.validation is not None  # seen to before training
        points = features(task, network, training_set.validation.inputs)
        ranks = rank_grid(training_set.num_classes, width)
        right = fitted.predictions(points, ranks) == training_set.validation.targets.to(points.device)
        # The first of the greatest: the smaller rank on a tie.
        return ranks[int(right.double().mean(1).argmax())]

    def probe(self, task: Learner, training_set: TrainingSet, epochs: int, last: bool) -> Probe | None:
        """Classifiers by rank; at the end, the controls as well."""
        if not last and epochs not in self.probe_epochs:
            return None
        network = task.networks[0]
        points = features(task, network, training_set.inputs)
        fitted = _Fitted(self, network, points, training_set)
        ranks = rank_grid(training_set.num_classes, points.shape[1])
        controls = _controls(self, task, training_set, fitted) if last else {}

        def predict(inputs: Inputs) -> Tensor:
            seen = points if inputs is training_set.inputs else features(task, network, inputs)
            by_rank = fitted.predictions(seen, ranks)
            return torch.stack([*by_rank, *(each(inputs, seen) for each in controls.values())]).cpu()

        def energy(targets: Tensor) -> Tensor:
            shares = fitted.spectrum.energies(points, targets.to(points.device)).cumsum(0)
            return shares[torch.tensor(ranks, device=shares.device) - 1].cpu()

        return Probe("rank", ranks, predict, tuple(controls), energy, _described(fitted.spectrum))


class _Fitted:
    """Classifiers of one network's features by rank, fitted to the observed labels of the training set."""

    def __init__(
        self, settings: SpectralTruncation, network: nn.Module, points: Tensor, training_set: TrainingSet
    ) -> None:
        self.settings, self.points = settings, points
        self.targets = training_set.targets.to(points.device)
        self.spectrum = spectrum_of(points, self.targets, training_set.num_classes)
        found = classifier(network)
        assert found is not None  # checked before training
        weights = found[1].weight.detach().to(points.device)
        bias = weights.new_zeros(len(weights)) if found[1].bias is None else found[1].bias.detach().to(points.device)
        self.head = weights.double(), bias.double()

    def classifier(self, rank: int) -> tuple[Tensor, Tensor]:
        """(C, D) weights and (C,) bias for features as they are."""
        if self.settings.mode == "head":
            return self.spectrum.truncated(*self.head, rank)
        if self.settings.mode == "ridge":
            return self.spectrum.least_squares(rank, self.settings.penalty)
        return self._logistic(rank)

    def predictions(self, points: Tensor, ranks: list[int]) -> Tensor:
        """(R, N) predicted classes for (N, D) features."""
        if self.settings.mode == "logistic":
            return torch.stack([predicted(points, *self.classifier(rank)) for rank in ranks])
        spectrum = self.spectrum
        if self.settings.mode == "head":
            weights, bias = self.head
            coefficients, start = (weights @ spectrum.vectors).T, bias + weights @ spectrum.mean
        else:
            coefficients, start = spectrum.coefficients(self.settings.penalty), spectrum.shares
        return predictions_by_rank(spectrum.components(points), coefficients, start, ranks)

    def _logistic(self, rank: int) -> tuple[Tensor, Tensor]:
        from sklearn.linear_model import LogisticRegression

        spectrum = self.spectrum
        scale = spectrum.values[0].sqrt().clamp_min(1e-12)
        inputs = ((self.points.double() - spectrum.mean) @ spectrum.vectors[:, :rank] / scale).cpu().numpy()
        fitted = LogisticRegression(C=self.settings.inverse_strength, max_iter=1000).fit(
            inputs, self.targets.cpu().numpy()
        )
        slopes, offsets = (
            torch.from_numpy(fitted.coef_).to(spectrum.mean),
            torch.from_numpy(fitted.intercept_).to(spectrum.mean),
        )
        if len(fitted.classes_) == 2:  # scikit-learn then keeps the second class's scores alone
            slopes, offsets = torch.cat([-slopes, slopes]) / 2, torch.cat([-offsets, offsets]) / 2
        present = torch.from_numpy(fitted.classes_).to(spectrum.mean.device)
        weights = torch.zeros_like(self.head[0])
        # A class that no label names is not predicted.
        bias = torch.full_like(self.head[1], -1e4)
        weights[present] = slopes @ spectrum.vectors[:, :rank].T / scale
        bias[present] = offsets
        return weights, bias - weights @ spectrum.mean


def _described(spectrum: Spectrum) -> dict[str, float]:
    values = spectrum.values
    return {
        "effective_rank": effective_rank(values),
        "participation_ratio": participation_ratio(values),
        **{
            f"components_for_{share:.0%}".replace("%", "_percent"): float(explaining(values, share))
            for share in (0.9, 0.95, 0.99)
        },
    }


def _untrained(task: Learner, number: int) -> nn.Module:
    """A network of the run as it was initialised."""
    torch.manual_seed(torch_seed("initialisation", task.seed, number))
    return task.build_network().to(task.device)


def _controls(
    settings: SpectralTruncation, task: Learner, training_set: TrainingSet, fitted: _Fitted
) -> dict[str, Any]:
    """Classifiers that a truncation must beat, by name; each maps inputs and their trained features to classes."""
    spectrum, targets = fitted.spectrum, fitted.targets
    width, classes = len(spectrum.values), training_set.num_classes
    rank = min(width, round(1.5 * classes))
    # Scores beside the components are judged after the mean is put back.
    ridge, means = spectrum.least_squares(width, 1.0), spectrum.class_means()
    nearest = gaussian_classifier(means, torch.eye(width, dtype=means.dtype, device=means.device))
    nearest = nearest[0], torch.where(spectrum.shares > 0, nearest[1], nearest[1].new_full((), -torch.inf))
    directions = torch.linalg.qr(torch.from_numpy(Stream("projection", task.seed).normal(width, rank)))[0].to(means)
    projected = spectrum_of(fitted.points.double() @ directions, targets, classes)
    whole, leading = spectrum.least_squares(width), spectrum.least_squares(rank)
    rest = whole[0] - leading[0], spectrum.shares - (whole[0] - leading[0]) @ spectrum.mean
    network = _untrained(task, 0)
    fresh = spectrum_of(features(task, network, training_set.inputs), targets, classes)

    def untrained(penalty: float, kept: int) -> Any:
        return lambda inputs, seen: predicted(features(task, network, inputs), *fresh.least_squares(kept, penalty))

    return {
        "full_rank_ridge": lambda inputs, seen: predicted(seen, *ridge),
        "nearest_class_mean": lambda inputs, seen: predicted(seen, *nearest),
        "random_projection": lambda inputs, seen: predicted(seen.double() @ directions, *projected.least_squares(rank)),
        "rest_of_components": lambda inputs, seen: predicted(seen, *rest),
        "untrained_ridge": untrained(1.0, width),
        "untrained_truncated": untrained(0.0, min(width, 4 * classes)),
    }

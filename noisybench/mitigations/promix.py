"""ProMix: two networks that train on as many clean examples as possible."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._fmix import draw_mask
from noisybench.mitigations._pseudo_labels import pseudo_loss, sharpen
from noisybench.mitigations.dividemix import entropy
from noisybench.mitigations.mixup import draw_partners, mix
from noisybench.nn.features import last_linear
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import PolicyView

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

NETWORKS = 2
"""Number of networks, each with a classifier and an auxiliary classifier."""

STRONG_VIEW = PolicyView("rand_augment", num_ops=3, magnitude=None, cutout=(0.0, 0.5))
"""View that is trained on the targets of the weak one."""

MAX_SELECTED = 0.9
"""Largest fraction of a batch up to which examples on which the networks agree are added."""

MIXUP_ALPHA = 4.0
"""Both parameters of mixup's Beta distribution."""

UNRELIABLE_WEIGHT = 0.1
"""Weight of unreliable examples at the end of its ramp."""


class ProMix(LossFunction, DetectorProvider):
    """Train two networks on small-loss and confident examples, with an auxiliary classifier for all others (ProMix).

    After a warm-up, each network selects the examples of each class with the smallest losses, and those whose label it
    predicts with confidence (Xiao et al. 2023). They are trained in a weak and a strong view, with mixup and with FMix. In
    the last epochs, examples on which both networks confidently agree are added with their prediction. An auxiliary
    classifier of each network also trains on pseudo-labels of the others, for a while. Scores are adjusted by running means
    of the predictions, so that frequent classes are not preferred. The deployed prediction is that of the mean scores.
    """

    fidelity = Fidelity(
        formula="L = Σ over classifiers CE(p, y) + ramp · (CE(p(strong), y) + mixup + FMix) on selected examples, with scores + "
        "debias_loss · ln π; and for auxiliary ones 0.1 · ramp2 · (CE(p, q) + ramp · CE(p(strong), q)) on the others; "
        "q = sharpen(softmax(scores - debias_labels · ln π)), π running mean of p",
        reference="https://github.com/Justherozen/ProMix",
        commit="40d8378193f1a098473479ebcb56dbafa89dfacb",
        license="not stated",
        compared="weights and batch statistics of two networks with two classifiers each, and running means, after two SGD steps "
        "in the ramps and two with agreement, from the same mixing; the warm-up with its penalty; examples that small losses "
        "select; masks of FMix at three sizes",
        difference="6.0e-8 in weights, statistics and running means; no example and no pixel",
        golden=("promix",),
        deviations=(
            Deviation(
                "the last batch of an epoch is trained on even if it is not full; the authors leave it out after the warm-up",
                "all methods have one order of examples",
                "fewer than 256 examples per epoch at the authors' batch size",
            ),
            Deviation(
                "a batch with fewer than two selected examples is not mixed, and means over no example are zero; the loss of the "
                "authors' code is not a number then",
                "batch normalization needs two examples",
                "no run that the authors' code completes",
            ),
            Deviation(
                "the strong view has RandAugment of torchvision before the crop, and its Cutout has the mean color; the authors' "
                "operations are 14 similar ones, and Cutout precedes the crop in another gray",
                "all methods have the same operations",
                "strength of the strong view; the accuracy was not measured",
            ),
        ),
    )

    warmup_epochs: int = parameter(10, ge=1, low=1, high=30, help="Epochs of cross-entropy before the first selection")
    ramp_epochs: int = parameter(
        50,
        ge=1,
        low=5,
        high=100,
        help="Epochs until strong views and mixing have full weight; unreliable examples take twice",
    )
    keep_fraction: float = parameter(
        0.5, gt=0, le=1, low=0.2, high=0.8, help="Fraction of the examples of balanced classes with small losses (rho)"
    )
    confidence: float = parameter(
        0.99, gt=0, lt=1, low=0.8, high=0.99, help="Probability above which a predicted class is confident (tau)"
    )
    agreement_epochs: int = parameter(
        250, ge=0, low=0, high=300, help="Last epochs in which examples on which both networks agree are added"
    )
    debias_loss: float = parameter(
        0.8, ge=0, low=0.2, high=1.0, help="Power of the running mean by which trained scores are adjusted"
    )
    debias_labels: float = parameter(
        0.8, ge=0, low=0.2, high=1.0, help="Power of the running mean by which pseudo-labels are adjusted"
    )
    prior_momentum: float = parameter(
        0.9999, ge=0, lt=1, low=0.99, high=0.9999, help="Momentum of the running means of predictions"
    )
    sharpening: float = parameter(
        2.0, ge=1, low=1.0, high=4.0, help="Power to which pseudo-labels are raised, 1 / temperature"
    )
    confidence_penalty: bool = parameter(
        False, help="Penalize confident predictions during the warm-up, for asymmetric noise"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return short ramps with agreement, and the settings for asymmetric noise."""
        short = {"warmup_epochs": 1, "ramp_epochs": 2}
        return {**short, "confidence": 0.3, "agreement_epochs": 1}, {**short, "confidence_penalty": True}

    @property
    def requirements(self) -> Requirements:
        """Two networks that are deployed together, and a strong view."""
        return Requirements(
            networks=NETWORKS,
            ensemble="logits",
            views=("weak", STRONG_VIEW),
            per_sample_state=True,
            mixes_samples=True,
        )

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the network has features for the auxiliary classifier, and that the warm-up ends before training."""
        problems = []
        if last_linear(network) is None:
            problems.append(
                f"the auxiliary classifier reads the inputs of the last linear layer, but `{budget.network}` has none; choose "
                "another network"
            )
        if self.warmup_epochs >= budget.epochs:
            problems.append(
                f"the warm-up takes {self.warmup_epochs} of {budget.epochs} epochs, so that no example would be selected; "
                "decrease warmup_epochs or train longer"
            )
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Select nothing, start from uniform running means, and add the auxiliary classifiers."""
        count, classes = len(training_set), training_set.num_classes
        self.state = {
            "selected": torch.zeros(NETWORKS, count, dtype=torch.bool),
            "losses": torch.zeros(NETWORKS, count),
            # By network: of reliable and of unreliable examples.
            "priors": torch.full((NETWORKS, 2, classes), 1 / classes),
        }
        for number in range(NETWORKS):
            last = last_linear(task.networks[number])
            assert last is not None  # checked before training
            task.add_head(f"auxiliary_{number}", functools.partial(nn.Linear, last[1].in_features, classes))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy in the warm-up, then the loss on selected and on other examples, summed over networks."""
        if task.current_epoch < self.warmup_epochs:
            return torch.stack([self._warmup_loss(task, batch, number) for number in range(NETWORKS)]).sum(0)
        views = (batch.inputs, batch.views[STRONG_VIEW])
        # By network, view and classifier.
        scores = [[_scores(task, view, number) for view in views] for number in range(NETWORKS)]
        predictions = torch.stack([each[0][0].detach().softmax(1) for each in scores])
        losses = [self._network_loss(task, batch, number, scores[number], predictions) for number in range(NETWORKS)]
        # A scalar that every example has enters the mean over the batch once.
        return torch.stack(losses).sum().expand(len(batch.index))

    def _warmup_loss(self, task: Learner, batch: Batch, number: int) -> Tensor:
        """Return the (B,) cross-entropies of one network."""
        logits = task.logits(batch.inputs, number)
        losses = cross_entropy(logits, batch)
        # Negative scores count as zero in the penalty of the authors' code.
        return losses - entropy(logits.clamp_min(1e-12)) if self.confidence_penalty else losses

    def _network_loss(
        self, task: Learner, batch: Batch, number: int, scores: list[tuple[Tensor, Tensor]], predictions: Tensor
    ) -> Tensor:
        """Return the loss of both classifiers of one network, and update its running means.

        Args:
            task: networks in training.
            batch: examples.
            number: number of the network.
            scores: (B, C) scores of both classifiers, for the weak and for the strong view.
            predictions: (2, B, C) class probabilities of both networks for the weak view.
        """
        primary, adjustments = scores[0][0].detach(), self.state["priors"][number].log()
        observed = batch.targets.float()
        selected = self.state["selected"][number, batch.index]
        selected = selected | ((observed * predictions[number]).sum(1) > self.confidence)
        classes = (primary - self.debias_labels * adjustments[0]).argmax(1)
        targets = torch.where(selected[:, None], observed, functional.one_hot(classes, batch.num_classes).float())
        if task.current_epoch >= task.budget.epochs - self.agreement_epochs:
            selected = selected | self._agreed(predictions, selected)
        ramp = min(task.current_epoch / self.ramp_epochs, 1.0)
        reliable, unreliable = self.debias_loss * adjustments
        chosen = torch.nonzero(selected).squeeze(1)
        total = torch.zeros((), device=primary.device)
        for classifier in range(2):
            weak, strong = (pseudo_loss(targets, view[classifier] + reliable) for view in scores)
            total = total + _mean(weak, selected) + ramp * _mean(strong, selected)
            if len(chosen) > 1:
                inputs = batch.inputs[chosen], targets[chosen]
                total = total + ramp * self._mixed_loss(task, *inputs, number, classifier, reliable)
        # The weight rises in twice the epochs of the other ramp, after which it is zero.
        progress = task.current_epoch / (2 * self.ramp_epochs)
        if progress < 1:
            guessed = sharpen((primary - self.debias_labels * adjustments[1]).softmax(1), self.sharpening)
            weak, strong = (pseudo_loss(guessed, auxiliary + unreliable) for _, auxiliary in scores)
            others = _mean(weak, ~selected) + ramp * _mean(strong, ~selected)
            total = total + UNRELIABLE_WEIGHT * progress * others
        self._update_priors(number, predictions[number], selected)
        return total

    def _agreed(self, predictions: Tensor, selected: Tensor) -> Tensor:
        """Return the (B,) examples that are added: the most confident ones on which both networks agree."""
        confidence, classes = predictions.max(2)
        agreed = (confidence > self.confidence).all(0) & (classes[0] == classes[1]) & ~selected
        room = int(MAX_SELECTED * len(selected)) - selected.sum()
        # Ranks by confidence among those that agree, without a number for which the host would wait.
        order = torch.where(agreed, -confidence.mean(0), torch.inf).argsort()
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return agreed & (rank < room)

    def _mixed_loss(
        self, task: Learner, inputs: Tensor, targets: Tensor, number: int, classifier: int, adjustment: Tensor
    ) -> Tensor:
        """Return the mean losses of selected examples after mixup, and after FMix with one mask for all."""
        weight, partner = draw_partners(MIXUP_ALPHA, inputs, task.rng, task.generator)
        weight = max(weight, 1 - weight)
        scores = _scores(task, mix(inputs, partner, weight), number)[classifier] + adjustment
        loss = pseudo_loss(mix(targets, partner, weight), scores).mean()
        weight, mask = draw_mask(inputs, task.rng, task.generator)
        partner = torch.randperm(len(inputs), generator=task.generator, device=inputs.device)
        scores = _scores(task, mask * inputs + (1 - mask) * inputs[partner], number)[classifier] + adjustment
        classes = targets.argmax(1)
        own, other = (functional.cross_entropy(scores, labels) for labels in (classes, classes[partner]))
        return loss + own * weight + other * (1 - weight)

    def _update_priors(self, number: int, predictions: Tensor, selected: Tensor) -> None:
        """Move the running means of reliable and unreliable examples toward the mean predictions of a batch."""
        priors = self.state["priors"]
        for kind, members in enumerate((selected, ~selected)):
            mean = torch.where(members[:, None], predictions, 0.0).sum(0) / members.sum()
            moved = torch.lerp(mean, priors[number, kind], self.prior_momentum)
            # Without a member, the mean is not a number. Nor is it after an overflow in half precision, whose step is skipped.
            priors[number, kind] = torch.where(moved.isfinite(), moved, priors[number, kind])

    def on_epoch_end(self, task: Learner) -> None:
        """Select the examples of each class with the smallest losses, for the next epoch."""
        if task.current_epoch < self.warmup_epochs - 1:
            return
        targets, classes = task.training_set.targets, task.training_set.num_classes
        # As many of each class as if the classes were balanced; a rare class is selected as a whole.
        weights = task.sampler.weights
        # Another mitigation may leave out examples for the whole run.
        kept = torch.ones_like(targets, dtype=torch.bool) if weights is None else weights > 0
        most = max(math.ceil(int(kept.sum()) * (1 / classes) * self.keep_fraction), 1)
        for number in range(NETWORKS):
            losses = functional.cross_entropy(task.training_outputs(number).logits, targets, reduction="none")
            selected = torch.zeros_like(targets, dtype=torch.bool)
            for label in range(classes):
                members = torch.nonzero((targets == label) & kept).squeeze(1)
                selected[members[losses[members].argsort()[:most]]] = True
            self.state["losses"][number], self.state["selected"][number] = losses, selected
        self.diagnostics["small_loss"] = float(self.state["selected"].float().mean())
        if task.current_epoch == task.budget.epochs - 1 < self.ramp_epochs:
            self.warnings.append(
                f"strong views and mixing reached {task.current_epoch / self.ramp_epochs:.0%} of their weight, because its ramp "
                f"ends in epoch {self.ramp_epochs}; decrease ramp_epochs or train longer"
            )

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the mean loss of both networks, flagged if neither of them selects the example by its small loss."""
        if task.current_epoch < self.warmup_epochs - 1:
            return {}
        return {"loss": Detector(self.state["losses"].mean(0), ~self.state["selected"].any(0))}


def _scores(task: Learner, inputs: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the (B, C) scores of the classifier and of the auxiliary one of a network."""
    features, logits = task.features_and_logits(inputs, number)
    return logits.float(), task.heads[f"auxiliary_{number}"](features).float()


def _mean(losses: Tensor, members: Tensor) -> Tensor:
    """Return the mean of (B,) losses over some examples; zero without any."""
    return torch.where(members, losses, 0.0).sum() / members.sum().clamp_min(1)

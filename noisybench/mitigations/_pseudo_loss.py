"""Pseudo-loss selection, the common base of PLS and LSA."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.evaluation.mixture import Components, Mixture, two_components
from noisybench.mitigations._pseudo_labels import (
    class_pairs,
    contrastive_loss,
    interpolated_pairs,
    pseudo_label_weights,
    sharpen,
    uniform_prior_penalty,
    weighted_cross_entropy,
)
from noisybench.nn.features import last_linear
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import PolicyView, View

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class PseudoLossSelection(LossFunction, DetectorProvider):
    """Base class of methods that flag labels, replace them by pseudo-labels, and weight those by their own loss.

    `state` has one row for each network: `flags` and `weights` (K, N), `pseudo_labels` (K, N, C), and the scores of the
    detector, `scaled_loss` and `high_loss` (K, N).

    Attributes:
        predicts_in_warmup: predict pseudo-labels in the last epoch of the warm-up, so that those of the first epoch of
            correction have weights; otherwise all have weight 1 in that epoch.
    """

    predicts_in_warmup: ClassVar[bool] = False

    warmup_epochs: int = parameter(
        1, ge=1, low=1, high=30, help="Epochs on all labels before the first correction (at least)"
    )
    warmup_steps: int = parameter(
        150, ge=0, help="Steps on all labels before the first correction (at least, rounded up to full epochs)"
    )
    flag_threshold: float = parameter(
        0.95, gt=0, lt=1, low=0.5, high=0.99, help="Posterior probability of a high loss above which a label is flagged"
    )
    sharpening: float = parameter(
        2.0, ge=1, low=1.0, high=4.0, help="Power to which pseudo-labels are raised (gamma), 1 / temperature"
    )
    temperature: float = parameter(
        0.2, gt=0, low=0.05, high=0.5, log=True, help="Temperature of the contrastive term (mu)"
    )
    projection: int = parameter(128, ge=2, help="Output dimension of the linear contrastive head")
    alpha: float = parameter(1.0, gt=0, help="Both parameters of mixup's Beta distribution")
    pseudo_label_views: Literal[1, 2] = parameter(
        2, help="Number of weak views whose mean prediction is the pseudo-label"
    )
    pseudo_label_bn: Literal["train", "eval"] = parameter(
        "train", help="Mode of batch normalization while pseudo-labels are predicted"
    )
    contrastive: Literal["pls", "lsa", "none"] = parameter(
        "pls",
        help="Contrastive term: pairs weighted by pseudo-label weights (pls), pairs of the same class (lsa), or none",
    )
    strong_on_flagged: bool = parameter(False, help="Train flagged examples on a strong view")
    strong_magnitude: int = parameter(
        6, ge=0, le=30, help="Magnitude of the operation of RandAugment in the strong view"
    )
    uniform_prior: bool = parameter(True, help="Penalize a mean prediction that differs from the uniform distribution")
    cotrain: Literal["none", "consensus", "independent", "cross"] = parameter(
        "none",
        help="Second network: none, or two that share flags, pseudo-labels and weights (consensus), keep their own "
        "(independent), or share pseudo-labels and use each other's flags and weights (cross)",
    )

    @property
    def num_networks(self) -> int:
        """Number of networks: one, or two that are trained together and deployed as an ensemble."""
        return 1 if self.cotrain == "none" else 2

    @property
    def strong_view(self) -> PolicyView:
        """A resized crop and one operation of RandAugment."""
        return PolicyView("rand_augment", num_ops=1, magnitude=self.strong_magnitude, crop="resized")

    @property
    def requirements(self) -> Requirements:
        """Two weak views, the views of the optional terms, and a second network for co-training."""
        views: list[View] = ["weak", "weak_2"]
        views += [self.strong_view] if self.strong_on_flagged else []
        views += ["contrastive"] if self.contrastive != "none" else []
        return Requirements(
            networks=self.num_networks,
            ensemble="logits" if self.num_networks == 2 else None,
            views=tuple(views),
            per_sample_state=True,
            mixes_samples=True,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the network has features for the contrastive head, and that the warm-up ends before training."""
        problems = []
        if self.contrastive != "none" and last_linear(network) is None:
            problems.append(
                f"the contrastive term uses the inputs of the last linear layer, but `{budget.network}` has none; "
                "choose another network, or contrastive=none"
            )
        steps = math.ceil(examples / budget.batch_size)
        if self._warmup(steps) >= budget.epochs:
            problems.append(
                f"the warm-up takes {self._warmup(steps)} epochs (warmup_epochs={self.warmup_epochs}, "
                f"warmup_steps={self.warmup_steps} at {steps} steps per epoch), but the budget has {budget.epochs} epochs, "
                "so no label would be corrected; shorten the warm-up or train longer"
            )
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Flag nothing, use the observed labels as pseudo-labels, and add the contrastive heads."""
        count, networks = len(training_set), self.num_networks
        observed = functional.one_hot(training_set.targets, training_set.num_classes).float()
        self.state = {
            "flags": torch.zeros(networks, count, dtype=torch.bool),
            "weights": torch.ones(networks, count),
            # `expand` shares memory among the networks, but their rows are written separately.
            "pseudo_labels": observed.expand(networks, -1, -1).clone(),
            "scaled_loss": torch.zeros(networks, count),
            "high_loss": torch.zeros(networks, count),
        }
        self._components: Components | None = None
        if self.contrastive != "none":
            for number in range(networks):
                last = last_linear(task.networks[number])
                assert last is not None
                # The task builds the head with a random stream of its own, so that the networks start as without it.
                head = functools.partial(nn.Linear, last[1].in_features, self.projection)
                task.add_head(f"projection_{number}", head)

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return mixup on all labels during the warm-up, and the selection loss afterwards, summed over networks."""
        # One weight for the batch, drawn on the host, so that nothing waits for the device. Both streams restart in
        # every epoch: a resumed run mixes the same pairs.
        mix_weight = float(task.rng.beta(self.alpha, self.alpha))
        mix_weight = max(mix_weight, 1 - mix_weight)  # the example itself dominates its partner
        partner = torch.randperm(len(batch.index), generator=task.generator, device=batch.index.device)
        observed = batch.targets.float()
        warmup = self._warmup(task.sampler.steps_per_epoch)
        if task.current_epoch < warmup:
            if self.predicts_in_warmup and task.current_epoch == warmup - 1:
                self._predict_pseudo_labels(task, batch, in_warmup=True)
            ones = torch.ones(len(batch.index), device=observed.device)
            # `lerp` reads and writes the images once, without the temporaries of a weighted sum.
            mixed = batch.inputs.lerp(batch.inputs[partner], 1 - mix_weight)
            return sum(
                weighted_cross_entropy(task.logits(mixed, number), observed, ones, partner, mix_weight)
                for number in range(self.num_networks)
            )  # type: ignore[return-value]
        pseudo_labels = self._predict_pseudo_labels(task, batch)
        total = torch.zeros(len(batch.index), device=observed.device)
        for number in range(self.num_networks):
            flagged = self.state["flags"][number, batch.index]
            targets = torch.where(flagged[:, None], pseudo_labels[number], observed)
            weights = torch.where(flagged, self.state["weights"][number, batch.index], 1.0)
            inputs = batch.inputs
            if self.strong_on_flagged:
                inputs = torch.where(flagged[:, None, None, None], batch.views[self.strong_view], inputs)
            mixed = inputs.lerp(inputs[partner], 1 - mix_weight)
            total = total + self._network_loss(task, number, mixed, batch, targets, weights, partner, mix_weight)
        return total

    def _network_loss(
        self,
        task: Learner,
        number: int,
        mixed: Tensor,
        batch: Batch,
        targets: Tensor,
        weights: Tensor,
        partner: Tensor,
        mix_weight: float,
    ) -> Tensor:
        """Return the (B,) loss of one network after the warm-up."""
        if self.contrastive == "none":
            logits = task.logits(mixed, number)
            loss = weighted_cross_entropy(logits, targets, weights, partner, mix_weight)
        else:
            # One forward pass per view: batch normalization must not mix their statistics.
            features, logits = task.features_and_logits(mixed, number)
            keys, _ = task.features_and_logits(batch.views["contrastive"], number)
            head = task.heads[f"projection_{number}"]
            pairs = (
                class_pairs(targets, partner, mix_weight)
                if self.contrastive == "lsa"
                else interpolated_pairs(targets, weights, partner, mix_weight)
            )
            loss = weighted_cross_entropy(logits, targets, weights, partner, mix_weight)
            # All terms have coefficient 1, in PLS as in LSA.
            loss = loss + contrastive_loss(head(features), head(keys), pairs, self.temperature)
        return loss + uniform_prior_penalty(logits) if self.uniform_prior else loss

    @torch.no_grad()
    def _predict_pseudo_labels(self, task: Learner, batch: Batch, in_warmup: bool = False) -> Tensor:
        """Return (K, B, C) sharpened pseudo-labels, and keep them for the pseudo-loss at the end of the epoch.

        Networks that exchange flags share their mean prediction, except in the warm-up, where each keeps its own.
        """
        # In training mode, this forward pass also updates the running statistics, as in the code of PLS and LSA.
        # Evaluation mode changes the results.
        if self.pseudo_label_bn == "eval":
            task.networks.eval()
        # A single view is the one that is not trained on: otherwise the target would be predicted from the input itself.
        views = ["weak", "weak_2"][-self.pseudo_label_views :]
        predictions = [
            torch.stack([probabilities_in_float32(task.logits(batch.views[view], number)) for view in views]).mean(0)
            for number in range(self.num_networks)
        ]
        if self.pseudo_label_bn == "eval":
            task.networks.train()
        if self.cotrain in ("consensus", "cross") and not in_warmup:
            predictions = [torch.stack(predictions).mean(0)] * self.num_networks
        pseudo_labels = torch.stack([sharpen(prediction, self.sharpening) for prediction in predictions])
        # Examples that are not flagged need theirs as well: they can be flagged at the end of this epoch.
        self.state["pseudo_labels"][:, batch.index] = pseudo_labels
        return pseudo_labels

    def on_epoch_end(self, task: Learner) -> None:
        """Flag labels and weight pseudo-labels with the current networks."""
        epoch, warmup = task.current_epoch, self._warmup(task.sampler.steps_per_epoch)
        # The first epoch after the warm-up trains with flags from the end of the last warm-up epoch.
        if epoch < warmup - 1:
            return
        flags = torch.stack([self._detect(task, number) for number in range(self.num_networks)])
        weights = torch.ones_like(self.state["weights"])
        if epoch >= warmup - self.predicts_in_warmup:  # no pseudo-label has been predicted before
            pseudo_labels = self.state["pseudo_labels"]
            if self.cotrain in ("consensus", "cross"):
                # Each network weights the pseudo-labels of the other, so that it does not confirm its own errors.
                pseudo_labels = pseudo_labels.flip(0)
            weights = torch.stack([
                pseudo_label_weights(pseudo_labels[number], task.training_outputs(number).logits, flags[number])
                for number in range(self.num_networks)
            ])  # fmt: skip
        if self.cotrain == "consensus":
            # Both mixtures are fitted to a network's own flags, before those that only one has flagged are left out.
            flags = flags.all(0).expand_as(flags)
            weights = torch.where(flags, weights.mean(0), 1.0)
        elif self.cotrain == "cross":
            # As in DivideMix, each network trains with the flags and weights that the other has found.
            flags, weights = flags.flip(0), weights.flip(0)
        # The rows of an expanded tensor share memory; `contiguous` gives each network its own.
        self.state["flags"], self.state["weights"] = flags.contiguous(), weights.contiguous()
        self._report(task)

    def _detect(self, task: Learner, number: int) -> Tensor:
        """Return the (N,) flags of one network, here by small loss."""
        return self._detect_by_loss(task, number)

    def _detect_by_loss(self, task: Learner, number: int) -> Tensor:
        """Return the (N,) flags by the mixture of one network's losses, and store its scores."""
        mixture = losses_mixture(task, number)
        self.state["scaled_loss"][number], self.state["high_loss"][number] = mixture.scaled, mixture.high
        if number == 0:
            self._components = mixture.components
        return mixture.high > self.flag_threshold

    def _report(self, task: Learner) -> None:
        """Report diagnostics of the epoch, and warn about degenerate selections."""
        flags, weights = self.state["flags"][0], self.state["weights"][0]
        count = int(flags.sum())
        self.diagnostics["flagged"] = count / len(flags)
        if count:
            self.diagnostics["mean_weight_of_flagged"] = float(weights[flags].mean())
        if count in (0, len(flags)):
            self.warnings.append("the detector flags no example" if not count else "the detector flags every example")
        num_classes = task.training_set.num_classes
        observed, corrected = task.training_set.targets, self._correct(task.training_set)
        after = torch.bincount(corrected, minlength=num_classes)
        vanished = (after == 0) & (torch.bincount(observed, minlength=num_classes) > 0)
        if bool(vanished.any()):
            self.diagnostics["vanished_classes"] = float(vanished.sum())
            classes = ", ".join(str(label) for label in vanished.nonzero().flatten().tolist())
            self.warnings.append(f"no example is left with class {classes} after correction")

    def _warmup(self, steps_per_epoch: int) -> int:
        """Return the number of warm-up epochs, which is sufficient for both `warmup_epochs` and `warmup_steps`."""
        return max(self.warmup_epochs, math.ceil(self.warmup_steps / steps_per_epoch))

    def _correct(self, training_set: TrainingSet) -> Tensor:
        pseudo_labels = self.state["pseudo_labels"].mean(0).argmax(1)
        return torch.where(self.state["flags"][0], pseudo_labels, training_set.targets)

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return one minus the posterior probability of a high loss, averaged over the networks."""
        return 1 - self.state["high_loss"].mean(0)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely class of the pseudo-label for flagged labels."""
        return self._correct(training_set)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the small-loss detector after the warm-up."""
        if task.current_epoch < self._warmup(task.sampler.steps_per_epoch) - 1:
            return {}
        flagged = (self.state["high_loss"] > self.flag_threshold).all(0)
        return {"loss": Detector(self.state["scaled_loss"].mean(0), flagged, self._components)}


def losses_mixture(task: Learner, number: int) -> Mixture:
    """Return the mixture of one network's losses for the observed labels of the training set."""
    logits, observed = task.training_outputs(number).logits, task.training_set.targets
    # From scores rather than probabilities, of which one that underflows to 0 would be an infinite loss.
    return two_components(functional.cross_entropy(logits, observed, reduction="none"))

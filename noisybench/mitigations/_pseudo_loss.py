"""Pseudo-loss selection, on which PLS and LSA are built: its parts as functions, and the mitigation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.mitigations._detection import Components, Mixture, two_components
from noisybench.nn.features import classifier
from noisybench.training.batch import Batch, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


def sharpened(probabilities: Tensor, power: float) -> Tensor:
    """(B, C) probabilities raised to a power and normalised again; 1 changes nothing, more moves mass to the greatest."""
    raised = probabilities**power
    return raised / raised.sum(1, keepdim=True)


def pseudo_loss(guesses: Tensor, probabilities: Tensor) -> Tensor:
    """(N,) cross-entropies in nats of (N, C) present predictions against (N, C) guesses."""
    return -(guesses * probabilities.clamp_min(1e-12).log()).sum(1)


def trust(guesses: Tensor, probabilities: Tensor, flagged: Tensor) -> Tensor:
    """(N,) weights of the guesses: 1 where nothing is flagged, else the posterior of a low pseudo-loss.

    The mixture is fitted to the flagged examples alone. With two of them or fewer, all weights are 1.

    Args:
        guesses: (N, C) targets that the flagged examples were trained on.
        probabilities: (N, C) present predictions.
        flagged: (N,) bool.
    """
    weights = torch.ones_like(probabilities[:, 0])
    if int(flagged.sum()) > 2:
        weights[flagged] = 1 - two_components(pseudo_loss(guesses[flagged], probabilities[flagged])).high
    return weights


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, partner: Tensor, share: float) -> Tensor:
    """(B,) nats of mixed inputs against both partners' targets, whose mean is normalised by the sum of weights.

    Args:
        logits: (B, C) of inputs mixed with `share` of the example and the rest of its partner.
        targets: (B, C) of the examples before mixing.
        weights: (B,) trust in each target.
        partner: (B,) positions of the partners.
        share: of the example itself, in [0.5, 1].
    """
    losses = -logits.float().log_softmax(1)
    scale = len(weights) / weights.sum().clamp_min(1e-8)  # the partners' weights have the same sum
    own = weights * (targets * losses).sum(1)
    other = weights[partner] * (targets[partner] * losses).sum(1)
    return scale * (share * own + (1 - share) * other)


def class_pairs(targets: Tensor, partner: Tensor, share: float) -> Tensor:
    """(B, B) pairs of the same class, each row normalised and then mixed with its partner's (LSA)."""
    classes = targets.argmax(1)
    same = (classes[:, None] == classes[None, :]).to(targets.dtype)
    same = same / same.sum(1, keepdim=True)
    return share * same + (1 - share) * same[partner]


def interpolated_pairs(targets: Tensor, weights: Tensor, partner: Tensor, share: float) -> Tensor:
    """(B, B) pairs between class supervision (trusted) and instance discrimination (distrusted), mixed (PLS).

    w_i w_j [same class] + (1 - w_i)^2 [i = j]. The class is the greatest of the mixed target; rows are normalised after
    mixing.
    """
    classes = (share * targets + (1 - share) * targets[partner]).argmax(1)
    same = (classes[:, None] == classes[None, :]).to(targets.dtype)
    pairs = weights[:, None] * weights[None, :] * same + torch.diag((1 - weights) ** 2)
    pairs = share * pairs + (1 - share) * pairs[partner]
    return pairs / pairs.sum(1, keepdim=True)


def contrastive_loss(mixed: Tensor, keys: Tensor, pairs: Tensor, temperature: float) -> Tensor:
    """(B,) nats: how badly each (B, D) projection finds the (B, D) keys that it is paired with, by (B, B) shares."""
    similarity = functional.normalize(mixed.float(), dim=1) @ functional.normalize(keys.float(), dim=1).T
    return -(pairs * (similarity / temperature).log_softmax(1)).sum(1)


def imbalance(logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the mean prediction of (B, C) logits from the uniform distribution."""
    mean = logits.float().softmax(1).mean(0).clamp_min(1e-12)
    return -(mean * len(mean)).log().mean()


class PseudoLossSelection(LossFunction, DetectorProvider):
    """Wrong labels are detected, replaced by guesses, and the guesses trusted by their own loss (Albert et al. 2023)."""

    warmup_epochs: int = parameter(1, ge=1, low=1, high=30, help="epochs on all labels before the first correction")
    warmup_steps: int = parameter(150, ge=0, help="and at least so many steps, in whole epochs")
    threshold: float = parameter(
        0.95, gt=0, lt=1, low=0.5, high=0.99, help="posterior of a high loss that flags a label"
    )
    sharpening: float = parameter(2.0, ge=1, low=1.0, high=4.0, help="power to which guesses are raised (gamma)")
    temperature: float = parameter(0.2, gt=0, low=0.05, high=0.5, log=True, help="of the contrastive term (mu)")
    projection: int = parameter(128, ge=2, help="dimensions of the linear contrastive head")
    alpha: float = parameter(1.0, gt=0, help="both parameters of mixup's Beta distribution")
    guess_views: Literal[1, 2] = parameter(2, help="weak views whose mean prediction is the guess")
    guess_mode: Literal["train", "eval"] = parameter("train", help="mode of batch normalisation while guessing")
    contrastive: Literal["pls", "lsa", "none"] = parameter(
        "pls", help="pairs weighted by trust (pls), pairs of the same class (lsa), or no contrastive term"
    )
    strong_on_flagged: bool = parameter(False, help="train flagged examples on a strong view")
    class_penalty: bool = parameter(True, help="penalise a mean prediction far from uniform")
    cotrain: Literal["none", "vote", "independent", "exchange"] = parameter(
        "none", help="two networks that share flags and guesses, keep their own, or use each other's flags"
    )

    @property
    def num_networks(self) -> int:
        """Number of networks: one, or two that are trained together and deployed as an ensemble."""
        return 1 if self.cotrain == "none" else 2

    @property
    def requirements(self) -> Requirements:
        """Two weak views, those of the optional terms, and a second network for co-training."""
        views = ["weak", "weak_2"]
        views += ["strong"] if self.strong_on_flagged else []
        views += ["contrastive"] if self.contrastive != "none" else []
        return Requirements(
            networks=self.num_networks,
            ensemble=self.num_networks == 2,
            views=tuple(views),
            per_sample_state=True,
            mixes_samples=True,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """The network has features for the contrastive head, and the warm-up ends before the training."""
        problems = []
        if self.contrastive != "none" and classifier(network) is None:
            problems.append(
                f"the contrastive term reads what enters the last linear layer, but `{budget.network}` has none; "
                "choose another network, or contrastive=none"
            )
        steps = math.ceil(examples / budget.batch_size)
        if self._warmup(steps) >= budget.epochs:
            problems.append(
                f"the warm-up takes {self._warmup(steps)} epochs (warmup_epochs={self.warmup_epochs}, "
                f"warmup_steps={self.warmup_steps} at {steps} steps an epoch), but there are {budget.epochs}, so that nothing "
                "would be corrected; lower them or train longer"
            )
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Nothing is flagged, and every guess is the observed label."""
        count, kinds = len(training_set), self.num_networks
        observed = functional.one_hot(training_set.targets, training_set.num_classes).float()
        self.state = {
            "flags": torch.zeros(kinds, count, dtype=torch.bool),
            "weights": torch.ones(kinds, count),
            "guesses": observed.expand(kinds, -1, -1).clone(),
            "scaled_loss": torch.zeros(kinds, count),
            "high_loss": torch.zeros(kinds, count),
        }
        self._components: Components | None = None
        if self.contrastive != "none":
            for number in range(kinds):
                found = classifier(task.networks[number])
                assert found is not None
                task.add_head(f"projection_{number}", lambda: nn.Linear(found[1].in_features, self.projection))  # noqa: B023

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Mixup on all labels while warming up; then the weighted, contrastive objective. Networks are summed."""
        share = float(task.rng.beta(self.alpha, self.alpha))
        share = max(share, 1 - share)
        partner = torch.randperm(len(batch.index), generator=task.generator, device=batch.index.device)
        observed = batch.targets.float()
        if task.current_epoch < self._warmup(task.sampler.steps_per_epoch):
            ones = torch.ones(len(batch.index), device=observed.device)
            mixed = batch.inputs.lerp(batch.inputs[partner], 1 - share)
            return sum(
                weighted_cross_entropy(task.logits(mixed, number), observed, ones, partner, share)
                for number in range(self.num_networks)
            )  # type: ignore[return-value]
        guesses = self._guess(task, batch)
        total = torch.zeros(len(batch.index), device=observed.device)
        for number in range(self.num_networks):
            flagged = self.state["flags"][number, batch.index]
            targets = torch.where(flagged[:, None], guesses[number], observed)
            weights = torch.where(flagged, self.state["weights"][number, batch.index], 1.0)
            inputs = batch.inputs
            if self.strong_on_flagged:
                inputs = torch.where(flagged[:, None, None, None], batch.views["strong"], inputs)
            mixed = inputs.lerp(inputs[partner], 1 - share)
            total = total + self._loss(task, number, mixed, batch, targets, weights, partner, share)
        return total

    def _loss(
        self,
        task: Learner,
        number: int,
        mixed: Tensor,
        batch: Batch,
        targets: Tensor,
        weights: Tensor,
        partner: Tensor,
        share: float,
    ) -> Tensor:
        """(B,) objective of one network after the warm-up."""
        if self.contrastive == "none":
            logits = task.logits(mixed, number)
            loss = weighted_cross_entropy(logits, targets, weights, partner, share)
        else:
            features, logits = task.features_and_logits(mixed, number)
            keys, _ = task.features_and_logits(batch.views["contrastive"], number)
            head = task.heads[f"projection_{number}"]
            pairs = (
                class_pairs(targets, partner, share)
                if self.contrastive == "lsa"
                else interpolated_pairs(targets, weights, partner, share)
            )
            loss = weighted_cross_entropy(logits, targets, weights, partner, share)
            loss = loss + contrastive_loss(head(features), head(keys), pairs, self.temperature)
        return loss + imbalance(logits) if self.class_penalty else loss

    @torch.no_grad()
    def _guess(self, task: Learner, batch: Batch) -> Tensor:
        """(K, B, C) sharpened guesses of the networks, kept for the pseudo-loss at the end of the epoch."""
        if self.guess_mode == "eval":
            task.networks.eval()
        views = ["weak_2", "weak"][: self.guess_views]
        each = [
            torch.stack([probabilities_in_float32(task.logits(batch.views[view], number)) for view in views]).mean(0)
            for number in range(self.num_networks)
        ]
        task.networks.train()
        if self.cotrain == "vote":
            each = [torch.stack(each).mean(0)] * self.num_networks
        guesses = torch.stack([sharpened(guess, self.sharpening) for guess in each])
        self.state["guesses"][:, batch.index] = guesses
        return guesses

    def on_epoch_end(self, task: Learner) -> None:
        """Detect wrong labels, and find out which guesses to trust, from the networks as they are now."""
        epoch, warmup = task.current_epoch, self._warmup(task.sampler.steps_per_epoch)
        if epoch < warmup - 1:
            return
        flags = torch.stack([self._detect(task, number) for number in range(self.num_networks)])
        if self.cotrain == "vote":
            flags = flags.all(0).expand_as(flags)
        elif self.cotrain == "exchange":
            flags = flags.flip(0)
        weights = torch.ones_like(self.state["weights"])
        if epoch >= warmup:  # else no guess has been made yet
            weights = torch.stack(
                [
                    trust(self.state["guesses"][number], task.training_outputs(number).probabilities, flags[number])
                    for number in range(self.num_networks)
                ]
            )
        if self.cotrain == "vote":
            weights = weights.mean(0).expand_as(weights)
        self.state["flags"], self.state["weights"] = flags.contiguous(), weights.contiguous()
        self._report(task)

    def _detect(self, task: Learner, number: int) -> Tensor:
        """(N,) flags of one network: by small loss."""
        return self._small_loss(task, number)

    def _small_loss(self, task: Learner, number: int) -> Tensor:
        """(N,) flags by the mixture on one network's losses, whose scores are kept."""
        mixture = losses_mixture(task, number)
        self.state["scaled_loss"][number], self.state["high_loss"][number] = mixture.scaled, mixture.high
        if number == 0:
            self._components = mixture.components
        return mixture.high > self.threshold

    def _report(self, task: Learner) -> None:
        """Facts of the epoch, and what a reader should be warned of."""
        flags, weights = self.state["flags"][0], self.state["weights"][0]
        count = int(flags.sum())
        self.diagnostics["flagged"] = count / len(flags)
        if count:
            self.diagnostics["mean_weight_of_flagged"] = float(weights[flags].mean())
        if count in (0, len(flags)):
            self.warnings.append("the detector flags nothing" if not count else "the detector flags every example")
        observed, corrected = task.training_set.targets, self._corrected(task.training_set)
        left = torch.bincount(corrected, minlength=task.training_set.num_classes)
        gone = (left == 0) & (torch.bincount(observed, minlength=task.training_set.num_classes) > 0)
        if bool(gone.any()):
            self.diagnostics["vanished_classes"] = float(gone.sum())
            names = ", ".join(str(each) for each in gone.nonzero().flatten().tolist())
            self.warnings.append(f"no example is left with class {names} after correction")

    def _warmup(self, steps_per_epoch: int) -> int:
        """Epochs of warm-up: as many as asked for, and enough for the steps asked for."""
        return max(self.warmup_epochs, math.ceil(self.warmup_steps / steps_per_epoch))

    def _corrected(self, training_set: TrainingSet) -> Tensor:
        guesses = self.state["guesses"].mean(0).argmax(1)
        return torch.where(self.state["flags"][0], guesses, training_set.targets)

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """One minus the posterior of a high loss, averaged over the networks."""
        return 1 - self.state["high_loss"].mean(0)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The most likely class of the guess, where the label is flagged."""
        return self._corrected(training_set)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Small loss, once the warm-up is over."""
        if task.current_epoch < self._warmup(task.sampler.steps_per_epoch) - 1:
            return {}
        return {"loss": self._loss_detector()}

    def _loss_detector(self) -> Detector:
        flagged = (self.state["high_loss"] > self.threshold).all(0)
        return Detector(self.state["scaled_loss"].mean(0), flagged, self._components)


def losses_mixture(task: Learner, number: int) -> Mixture:
    """The mixture on one network's losses for the observed labels of the training set."""
    probabilities, observed = task.training_outputs(number).probabilities, task.training_set.targets
    return two_components(-probabilities.gather(1, observed[:, None]).squeeze(1).clamp_min(1e-12).log())

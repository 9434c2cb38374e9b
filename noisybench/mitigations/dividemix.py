"""DivideMix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.mitigations._detection import Components, two_components
from noisybench.mitigations._pseudo_loss import imbalance, sharpened
from noisybench.training.batch import Batch, BatchPlan, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, EpochPlanner, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

RAMP = 16
"""Epochs after the warm-up in which the weight of the unlabelled loss grows."""

PAPER = {
    # Upper end of the realised rate: weight of the unlabelled loss for up to 10 classes, for more, threshold.
    0.30: (0.0, 25.0, 0.5),
    0.60: (25.0, 150.0, 0.5),
    0.77: (25.0, 150.0, 0.5),
    1.00: (50.0, 150.0, 0.6),
}


class DivideMix(LossFunction, EpochPlanner, DetectorProvider):
    """Two networks divide the data for each other into labelled and unlabelled, and learn by MixMatch (Li et al. 2020).

    After a warm-up with cross-entropy, a mixture on one network's losses says which labels the other may use. Labels
    of these are refined by the network's own prediction, those of the rest are guessed by both; guesses are sharpened
    at temperature 1/2, all is mixed (Beta(4, 4)), and the unlabelled part learns by squared error. Networks train one
    after the other in each epoch, on batches of half labelled and half unlabelled examples, as many as the labelled
    ones fill; the deployed prediction is the mean of both.

    The paper tunes the weight of the unlabelled loss for each noise rate on clean data. Here one setting serves all
    rates; `settings: paper` takes the published ones by the true rate and type of the noise, which is declared
    knowledge. The paper's batches of 64 + 64 are a budget's batch of 128; the last labelled batch is left out where
    it is not full, and the ramp of the unlabelled loss moves by epochs, not by steps.
    """

    warmup_epochs: int = parameter(10, ge=1, low=1, high=30, help="epochs of cross-entropy before the first division")
    settings: Literal["one", "paper"] = parameter(
        "one", help="one setting for all noise, or the published ones for the true noise, which is knowledge"
    )
    unlabelled_weight: float = parameter(
        25.0, ge=0, low=1.0, high=150.0, log=True, help="of the squared error (lambda_u)"
    )
    threshold: float = parameter(0.5, gt=0, lt=1, low=0.3, high=0.7, help="posterior of a low loss that keeps a label")
    sharpening: float = parameter(
        2.0, ge=1, low=1.0, high=4.0, help="power to which guesses are raised, 1 / temperature"
    )
    alpha: float = parameter(4.0, gt=0, low=0.5, high=8.0, help="both parameters of mixup's Beta distribution")
    confidence_penalty: bool = parameter(False, help="penalise confidence while warming up, for asymmetric noise")
    averaged_epochs: int = parameter(1, ge=1, le=10, help="epochs whose losses are averaged before a division")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """One setting, and those of the paper."""
        return {"warmup_epochs": 1, "averaged_epochs": 2}, {"warmup_epochs": 1, "settings": "paper"}

    @property
    def requirements(self) -> Requirements:
        """Two networks and two weak views; the noise for the paper's settings."""
        return Requirements(
            networks=2,
            ensemble=True,
            views=("weak", "weak_2"),
            privileged=("noise_rate", "noise_type") if self.settings == "paper" else (),
            per_sample_state=True,
            mixes_samples=True,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """The warm-up ends before the training."""
        if self.warmup_epochs >= budget.epochs:
            return [
                f"the warm-up takes {self.warmup_epochs} of {budget.epochs} epochs, so that nothing would be divided; lower "
                "warmup_epochs or train longer"
            ]
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """All labels are kept; take the paper's settings, where they are asked for."""
        self._weight, self._threshold = self.unlabelled_weight, self.threshold
        self._penalty, averaged = self.confidence_penalty, self.averaged_epochs
        if self.settings == "paper":
            rate, kind = self.privileged.noise_rate, self.privileged.noise_type
            row = next(values for end, values in PAPER.items() if rate <= end)
            flips = kind.startswith(("asymmetric", "pair"))
            self._weight = 0.0 if flips and training_set.num_classes <= 10 else row[training_set.num_classes > 10]
            self._threshold, self._penalty, averaged = row[2], flips, 5 if row[2] > 0.5 else 1
        self.state = {
            "clean": torch.ones(2, len(training_set)),
            "scaled_loss": torch.zeros(2, len(training_set)),
            "history": torch.full((2, averaged, len(training_set)), torch.nan),
        }
        self._components: Components | None = None
        self._labelled = [0, 0]

    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """After the warm-up: for each network batches of half labelled and half unlabelled examples, both shuffled."""
        if task.current_epoch < self.warmup_epochs:
            return None
        half, steps = task.budget.batch_size // 2, list[BatchPlan]()
        for network in range(2):
            order = task.sampler.epoch_order(task.current_epoch, network + 1)
            kept = self.state["clean"][1 - network, order] > self._threshold
            labelled, unlabelled = order[kept], order[~kept]
            if len(labelled) < 2:
                self.warnings.append(
                    f"no label is kept for network {network}: it trains on all labels, as while warming up"
                )
                labelled, unlabelled = order, order[:0]
            size = self._labelled[network] = min(half, len(labelled))
            count = len(labelled) // size
            # The unlabelled examples go round as often as it takes.
            turns = torch.arange(count * half if len(unlabelled) else 0, device=order.device) % max(1, len(unlabelled))
            filler = unlabelled[turns]
            for step in range(count):
                parts = (labelled[step * size : (step + 1) * size], filler[step * half : (step + 1) * half])
                steps.append(BatchPlan(torch.cat(parts), network))
        return steps

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Cross-entropy of both networks while warming up, then MixMatch of the network whose turn it is."""
        if task.current_epoch < self.warmup_epochs:
            total = torch.zeros(len(batch.index), device=batch.index.device)
            for network in range(2):
                logits = task.logits(batch.inputs, network)
                total = total + cross_entropy(logits, batch)
                if self._penalty:
                    total = total - entropy(logits)
            return total
        network, size = batch.phase, self._labelled[batch.phase]
        views = [batch.views["weak"], batch.views["weak_2"]]
        targets = self._targets(task, batch, views, network, size)
        share = float(task.rng.beta(self.alpha, self.alpha))
        share = max(share, 1 - share)
        inputs, twice = torch.cat(views), torch.cat([targets, targets])
        partner = torch.randperm(len(inputs), generator=task.generator, device=inputs.device)
        logits = task.logits(inputs.lerp(inputs[partner], 1 - share), network)
        mixed = twice.lerp(twice[partner], 1 - share)
        labelled = -(mixed * logits.float().log_softmax(1)).sum(1)
        unlabelled = (logits.float().softmax(1) - mixed).square().mean(1)
        count = len(batch.index)
        ramp = min(max((task.current_epoch - self.warmup_epochs) / RAMP, 0.0), 1.0)
        # Each part by its own mean, put so that the mean over the batch is their sum; both views of an example together.
        first, second = labelled.view(2, count)[:, :size].mean(0), unlabelled.view(2, count)[:, size:].mean(0)
        parts = [first * (count / size)]
        if count > size:
            parts.append(self._weight * ramp * second * (count / (count - size)))
        return torch.cat(parts) + imbalance(logits)

    @torch.no_grad()
    def _targets(self, task: Learner, batch: Batch, views: list[Tensor], network: int, size: int) -> Tensor:
        """(B, C) refined targets of the labelled examples and guessed ones of the others."""
        own = torch.stack([probabilities_in_float32(task.logits(view, network)) for view in views]).mean(0)
        clean = self.state["clean"][1 - network, batch.index[:size], None]
        refined = sharpened(clean * batch.targets[:size].float() + (1 - clean) * own[:size], self.sharpening)
        if size == len(own):
            return refined
        task.networks[1 - network].eval()  # it is at rest while the other one learns
        other = torch.stack([probabilities_in_float32(task.logits(view[size:], 1 - network)) for view in views]).mean(0)
        task.networks[1 - network].train()
        return torch.cat([refined, sharpened((own[size:] + other) / 2, self.sharpening)])

    def on_epoch_end(self, task: Learner) -> None:
        """Divide the training set by each network's losses."""
        if task.current_epoch < self.warmup_epochs - 1:
            return
        observed, history = task.training_set.targets, self.state["history"]
        for network in range(2):
            probabilities = task.training_outputs(network).probabilities
            losses = functional.nll_loss(probabilities.clamp_min(1e-12).log(), observed, reduction="none")
            low, high = losses.min(), losses.max()
            history[network, task.current_epoch % history.shape[1]] = (losses - low) / (high - low).clamp_min(1e-12)
            mixture = two_components(history[network].nanmean(0))
            self.state["clean"][network], self.state["scaled_loss"][network] = 1 - mixture.high, mixture.scaled
            if network == 0:
                self._components = mixture.components
        self.diagnostics["labelled"] = float((self.state["clean"] > self._threshold).float().mean())

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The posterior of a low loss, averaged over the networks."""
        return self.state["clean"].mean(0)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The most likely class of the refined target."""
        clean = self.state["clean"].mean(0)[:, None]
        observed = functional.one_hot(training_set.targets, training_set.num_classes)
        return (clean * observed + (1 - clean) * task.training_probabilities()).argmax(1)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Small loss, once the warm-up is over."""
        if task.current_epoch < self.warmup_epochs - 1:
            return {}
        flagged = self.state["clean"].mean(0) <= self._threshold
        return {"loss": Detector(self.state["scaled_loss"].mean(0), flagged, self._components)}


def entropy(logits: Tensor) -> Tensor:
    """(B,) entropies in nats of the predictions of (B, C) logits."""
    logarithms = logits.float().log_softmax(1)
    return -(logarithms.exp() * logarithms).sum(1)

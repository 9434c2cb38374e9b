"""DivideMix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.evaluation.mixture import Components, two_components
from noisybench.mitigations._pseudo_labels import sharpen, uniform_prior_penalty
from noisybench.mitigations._semi_supervised import (
    mean_of_parts,
    mixed_scores,
    mixmatch_losses,
    plan_steps,
    ramp_weight,
    unreached_weight,
)
from noisybench.training.batch import Batch, BatchPlan, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, EpochPlanner, LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

MIN_BATCH_SIZE = 4
"""Smallest batch: batch normalization needs two examples in each half."""


class DivideMix(LossFunction, EpochPlanner, DetectorProvider):
    """Train two networks that divide the data for each other, with semi-supervised learning (DivideMix).

    After a warm-up with cross-entropy, a mixture of one network's losses decides which labels the other network uses (Li
    et al. 2020). The labels of these examples are refined by the network's own prediction; the others get pseudo-labels
    from both networks. Both are sharpened at temperature 1/2, all examples are mixed (Beta(4, 4)), and the unlabeled part
    is trained with the squared error. The networks train one after the other in each epoch, on batches of half labeled
    and half unlabeled examples, as many as the labeled examples fill. The deployed prediction is
    that of their mean scores.

    The paper tunes the weight of the unlabeled loss for each noise rate on clean data: `preset=paper` has these settings.
    Batches of 64 + 64 in the paper are a batch size of 128 here.
    """

    fidelity = Fidelity(
        reference="https://github.com/LiJunnan1992/DivideMix",
        commit="d9d3058fa69a952463b896f84730378cdee6ec39",
        license="MIT",
        compared="weights and batch statistics after two SGD steps of a network with batch normalization at lambda_u 0, 25 and "
        "150 and after a warm-up step for asymmetric noise; posteriors and divisions of six epochs, of one epoch's losses "
        "and of the mean over five; classes that two networks predict",
        difference="6.0e-8 in weights and statistics, 2.5e-7 in posteriors, no decision and no class",
        golden=("dividemix",),
        deviations=(
            Deviation(
                "a last labeled batch that is not full is left out; the authors' code trains on it",
                "all steps of a network have one shape",
                "fewer than 64 labeled examples of a network in an epoch at a batch size of 128, other ones in each epoch",
            ),
            Deviation(
                "unlabeled examples are repeated in one order per epoch and fill every batch; the authors' code shuffles them "
                "anew each time and has a smaller last batch",
                "an epoch is planned in advance",
                "order only; none if there are fewer unlabeled than labeled steps",
            ),
            Deviation(
                "within an epoch, the second network trains after the first on the schedule's later half, if the schedule "
                "changes with every step; the authors' code has one learning rate per epoch",
                "one optimizer step follows another in one schedule",
                "half of the change of the learning rate within an epoch; none with budget.lr_interval=epoch",
            ),
            Deviation(
                "if fewer than two labels are kept, a network trains on all labels for an epoch; the authors' code fails",
                "a run does not end after hours",
                "no run that the authors' code completes",
            ),
            Deviation(
                "the mixture starts from a fixed random state; the authors' code seeds nothing",
                "a resumed or repeated run has the same flags",
                "over 20 random states, at most 3 of 50,000 simulated examples change sides at 20 or 50 % noise, 930 at 80 %",
            ),
        ),
    )

    warmup_epochs: int = parameter(10, ge=1, low=1, high=30, help="Epochs of cross-entropy before the first division")
    unlabeled_weight: float = parameter(
        25.0, ge=0, low=1.0, high=150.0, log=True, help="Weight of the squared error on unlabeled examples (lambda_u)"
    )
    threshold: float = parameter(
        0.5, gt=0, lt=1, low=0.3, high=0.7, help="Posterior probability of a low loss above which a label is kept"
    )
    sharpening: float = parameter(
        2.0, ge=1, low=1.0, high=4.0, help="Power to which pseudo-labels are raised, 1 / temperature"
    )
    alpha: float = parameter(4.0, gt=0, low=0.5, high=8.0, help="Both parameters of mixup's Beta distribution")
    confidence_penalty: bool = parameter(
        False, help="Penalize confident predictions during the warm-up, for asymmetric noise"
    )
    loss_history: int = parameter(1, ge=1, le=10, help="Number of epochs whose losses are averaged before a division")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return averaged losses, and the settings for asymmetric noise."""
        asymmetric = {"confidence_penalty": True, "unlabeled_weight": 0.0}
        return {"warmup_epochs": 1, "loss_history": 2}, {"warmup_epochs": 1, **asymmetric}

    @property
    def requirements(self) -> Requirements:
        """Two networks that are deployed together, and two weak views."""
        return Requirements(
            networks=2,
            ensemble="logits",
            views=("weak", "weak_2"),
            per_sample_state=True,
            mixes_samples=True,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the warm-up ends before training, and that both halves of a batch have batch statistics."""
        problems = []
        if self.warmup_epochs >= budget.epochs:
            problems.append(
                f"the warm-up takes {self.warmup_epochs} of {budget.epochs} epochs, so the data would never be divided; "
                "lower warmup_epochs or train longer"
            )
        if budget.batch_size < MIN_BATCH_SIZE:
            problems.append(
                f"budget.batch_size: must be at least {MIN_BATCH_SIZE}, half labeled and half unlabeled, but got "
                f"{budget.batch_size}"
            )
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Keep all labels."""
        self.state = {
            "clean": torch.ones(2, len(training_set)),
            "scaled_loss": torch.zeros(2, len(training_set)),
            # NaN marks epochs that have not been recorded, so that the mean over the history skips them.
            "history": torch.full((2, self.loss_history, len(training_set)), torch.nan),
        }
        self._components: Components | None = None
        self._num_labeled, self._num_steps, self._steps_done = [0, 0], [1, 1], [0, 0]

    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """Return all batches of the first network, then those of the second, each in an order of its own.

        After the warm-up, half of a batch is labeled and half is unlabeled.
        """
        if task.current_epoch < self.warmup_epochs:
            return [step for network in range(2) for step in task.sampler.plan(task.current_epoch, network, 2)]
        half, steps = task.budget.batch_size // 2, list[BatchPlan]()
        for network in range(2):
            # Order 0 is that of ordinary epochs; each network has an independent order of its own.
            order = task.sampler.epoch_order(task.current_epoch, network + 1)
            # The other network divides the data, so that a network does not confirm its own errors.
            kept = self.state["clean"][1 - network, order] > self.threshold
            labeled, unlabeled = order[kept], order[~kept]
            if len(labeled) < 2:
                self.warnings.append(
                    f"no label is kept for network {network}: it trains on all labels, as during the warm-up"
                )
                labeled, unlabeled = order, order[:0]
            size = self._num_labeled[network] = min(half, len(labeled))
            count = len(labeled) // size
            # One more than there are whole batches, as in the authors' code.
            self._num_steps[network], self._steps_done[network] = count + 1, 0
            steps += plan_steps(labeled, unlabeled, (size, half), count, network)
        return steps

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy during the warm-up, then MixMatch, of the network in training."""
        network, size = batch.phase, self._num_labeled[batch.phase]
        if task.current_epoch < self.warmup_epochs:
            logits = task.logits(batch.inputs, network)
            loss = cross_entropy(logits, batch)
            return loss - entropy(logits) if self.confidence_penalty else loss
        views = [batch.views["weak"], batch.views["weak_2"]]
        targets = self._targets(task, batch, views, network, size)
        logits, mixed = mixed_scores(task, views, targets, self.alpha, network)
        progress = task.current_epoch - self.warmup_epochs + self._steps_done[network] / self._num_steps[network]
        ramp = ramp_weight(progress)
        self._steps_done[network] += 1
        labeled, unlabeled = mixmatch_losses(logits, mixed, len(views), size)
        losses = mean_of_parts(labeled, self.unlabeled_weight * ramp * unlabeled)
        # A scalar that is added to every value enters the mean over the batch once.
        return losses + uniform_prior_penalty(logits)

    @torch.no_grad()
    def _targets(self, task: Learner, batch: Batch, views: list[Tensor], network: int, size: int) -> Tensor:
        """Return (B, C) targets: refined labels of the first `size` examples, and pseudo-labels of the others."""
        pseudo_labels = []
        # Four forward passes of the network in training, in the order of the authors' code: batch normalization must not
        # mix the statistics of labeled and unlabeled examples, and each pass updates its running statistics.
        if size < len(batch.index):
            predictions = [probabilities_in_float32(task.logits(view[size:], network)) for view in views]
            # The other network is not in training: its batch statistics must not change.
            task.networks[1 - network].eval()
            predictions += [probabilities_in_float32(task.logits(view[size:], 1 - network)) for view in views]
            task.networks[1 - network].train()
            pseudo_labels.append(sharpen(torch.stack(predictions).mean(0), self.sharpening))
        prediction = torch.stack([probabilities_in_float32(task.logits(view[:size], network)) for view in views]).mean(
            0
        )
        clean = self.state["clean"][1 - network, batch.index[:size], None]
        refined = sharpen(clean * batch.targets[:size].float() + (1 - clean) * prediction, self.sharpening)
        return torch.cat([refined, *pseudo_labels])

    def on_epoch_end(self, task: Learner) -> None:
        """Divide the training set by the losses of each network."""
        if task.current_epoch < self.warmup_epochs - 1:
            return
        observed, history = task.training_set.targets, self.state["history"]
        for network in range(2):
            losses = functional.cross_entropy(task.training_outputs(network).logits, observed, reduction="none")
            # Each epoch is scaled by itself: otherwise the large losses of early epochs would dominate the mean.
            low, high = losses.min(), losses.max()
            history[network, task.current_epoch % history.shape[1]] = (losses - low) / (high - low).clamp_min(1e-12)
            # Not scaled again: the mixture's fixed variance floor is in units of the scaled losses.
            mixture = two_components(history[network].nanmean(0), rescale=False)
            self.state["clean"][network], self.state["scaled_loss"][network] = 1 - mixture.high, mixture.scaled
            if network == 0:
                self._components = mixture.components
        self.warnings += unreached_weight(task, self.warmup_epochs)
        self.diagnostics["labeled"] = float((self.state["clean"] > self.threshold).float().mean())

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the posterior probability of a low loss, averaged over the networks."""
        return self.state["clean"].mean(0)

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the most likely class of the refined target."""
        clean = self.state["clean"].mean(0)[:, None]
        observed = functional.one_hot(training_set.targets, training_set.num_classes)
        return (clean * observed + (1 - clean) * task.training_probabilities()).argmax(1)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the small-loss detector after the warm-up."""
        if task.current_epoch < self.warmup_epochs - 1:
            return {}
        flagged = self.state["clean"].mean(0) <= self.threshold
        return {"loss": Detector(self.state["scaled_loss"].mean(0), flagged, self._components)}


def entropy(logits: Tensor) -> Tensor:
    """Return the (B,) entropies in nats of the predictions of (B, C) logits.

    >>> entropy(torch.zeros(1, 2))
    tensor([0.6931])
    """
    log_probabilities = logits.float().log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)

"""Combination of several mitigations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from noisybench.errors import TrainingError, UserError
from noisybench.training.batch import BatchPlan, probabilities_in_float32
from noisybench.training.combination import combined_requirements, incompatibilities
from noisybench.training.mitigation import BatchLoss, Mitigation, Requirements, public_name
from noisybench.training.roles import (
    EpochPlanner,
    GradientTransform,
    LabelPosterior,
    LossFunction,
    LossWrapper,
    ModelBuilder,
    PostProcessor,
    SampleSelector,
    StepCallback,
)
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import view_problems

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

Role = TypeVar("Role")


@dataclass
class Stack:
    """Mitigations in order. The loss function is innermost; loss wrappers wrap it from last to first.

    Attributes:
        mitigations: the mitigations.
        requirements: the combined requirements of all mitigations.

    Raises:
        UserError: the mitigations cannot be combined; lists every reason.

    >>> from noisybench.mitigations.gce import GCE
    >>> from noisybench.mitigations.mixup import Mixup
    >>> Stack([Mixup(), GCE()]).requirements.mixes_samples
    True
    >>> Stack([GCE(), GCE(q=0.5)])
    Traceback (most recent call last):
    noisybench.errors.UserError: mitigations: gce and gce both define the loss, but only one mitigation of a stack can; keep one
    """

    mitigations: Sequence[Mitigation]
    requirements: Requirements = field(init=False)

    def __post_init__(self) -> None:
        problems = incompatibilities(self.mitigations)
        if problems:
            raise UserError(*problems)
        self.requirements = combined_requirements([mitigation.requirements for mitigation in self.mitigations])

    @property
    def deployed_networks(self) -> range:
        """Numbers of the networks that are deployed: the first network, or those of an ensemble."""
        needs = self.requirements
        return range((needs.deployed or needs.networks) if needs.ensemble else 1)

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the (B, C, ...) float32 class probabilities of the deployed prediction.

        Args:
            logits: (B, C, ...) scores of each deployed network.

        >>> from noisybench.mitigations.dividemix import DivideMix
        >>> from noisybench.mitigations.ensemble import Ensemble
        >>> import torch
        >>> first, second = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> [Stack([mitigation]).combine([first, second]).round(decimals=2) for mitigation in (DivideMix(), Ensemble())]
        [tensor([[0.9500, 0.0500]]), tensor([[0.5600, 0.4400]])]
        """
        if self.requirements.ensemble == "logits":
            return probabilities_in_float32(torch.stack([scores.float() for scores in logits]).mean(0))
        by_network = [probabilities_in_float32(scores) for scores in logits]
        # A single network needs no mean, which would copy the largest tensor of a dense evaluation.
        return by_network[0] if len(by_network) == 1 else torch.stack(by_network).mean(0)

    def with_role(self, role: type[Role]) -> list[Role]:
        """Return the mitigations with a role, in order.

        >>> from noisybench.mitigations.mixup import Mixup
        >>> [type(mitigation).__name__ for mitigation in Stack([Mixup()]).with_role(LossWrapper)]
        ['Mixup']
        """
        return [mitigation for mitigation in self.mitigations if isinstance(mitigation, role)]

    def check(self, tasks: Sequence[str], available: Sequence[str], views: Sequence[str]) -> list[str]:
        """Return the reasons why this stack cannot run in a setting.

        Args:
            tasks: the task, and another one with which it is compatible; every mitigation must support one of them.
            available: names of the privileged information that the setting offers.
            views: names of the views that the task draws; ``policy`` for views with parameters.
        """
        problems = []
        for mitigation in self.mitigations:
            name, needs = public_name(mitigation), mitigation.requirements
            if not set(tasks) & set(mitigation.tasks):
                problems.append(
                    f"mitigations.{name}: supports the tasks {', '.join(mitigation.tasks)}, but the task is {tasks[0]}"
                )
            problems += [
                f"mitigations.{name}: needs the {info.replace('_', ' ')}, which this setting does not offer (it offers "
                f"{', '.join(available) or 'none'}); choose another noise model, or parameters that estimate it"
                for info in needs.privileged
                if info not in available
            ]
            problems += [f"mitigations.{name}: {problem}" for problem in view_problems(needs.views, views)]
        return problems

    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the network to train."""
        for builder in self.with_role(ModelBuilder):
            network = builder.build_model(network)
        return network

    def loss_function(self, task: Learner) -> BatchLoss:
        """Return the composed loss: (B,) nats per sample of a batch."""
        losses = self.with_role(LossFunction)
        composed: BatchLoss = (lambda batch: losses[0].loss(task, batch)) if losses else task.default_loss
        # From last to first, so that the first wrapper of the stack is outermost and sees the batch first.
        for wrapper in reversed(self.with_role(LossWrapper)):
            composed = _wrapped(wrapper, task, composed)
        return composed

    def on_epoch_start(self, task: Learner) -> None:
        """Notify every mitigation that an epoch begins."""
        for mitigation in self.mitigations:
            mitigation.on_epoch_start(task)

    def on_epoch_end(self, task: Learner) -> None:
        """Notify every mitigation that an epoch has ended."""
        for mitigation in self.mitigations:
            mitigation.on_epoch_end(task)

    def transform_gradients(self, task: Learner) -> None:
        """Let the mitigations change the gradients of a step, in order."""
        for transform in self.with_role(GradientTransform):
            transform.transform_gradients(task)

    def on_step_end(self, task: Learner) -> None:
        """Notify the mitigations that follow every optimizer step."""
        for callback in self.with_role(StepCallback):
            callback.on_step_end(task)

    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """Return the steps of this epoch if a mitigation plans it, else None."""
        planners = self.with_role(EpochPlanner)
        return planners[0].plan_epoch(task) if planners else None

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the (N,) product of all sample weights, or None if no mitigation selects samples.

        Raises:
            TrainingError: no example is left, or a weight is negative or not finite.
        """
        product = None
        for selector in self.with_role(SampleSelector):
            weights = selector.sample_weights(task, training_set)
            if weights.shape != (len(training_set),) or not bool((weights.isfinite() & (weights >= 0)).all()):
                raise TrainingError(
                    f"mitigations.{public_name(selector)}: sample weights must be {len(training_set)} finite numbers >= 0"
                )
            if bool((weights == 1).all()):
                selector.warnings.append("every example is kept with weight 1, so the selection changes nothing")
            # A product, so that an example left out by one selector cannot come back through another.
            product = weights.float() if product is None else product * weights
            if not bool((product > 0).any()):
                raise TrainingError(
                    f"mitigations.{public_name(selector)}: the selection is empty, so no example is left to train on; "
                    "keep more examples"
                )
        return product

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Run all post-processors, and return True if any of them changed a network."""
        # A list: `any` over a generator would skip everything after the first change.
        changed = [processor.refine(task, training_set) for processor in self.with_role(PostProcessor)]
        return any(changed)

    def training_logits(self, network: int) -> Tensor | None:
        """Return the (N, C) scores of the training examples that a post-processor has found, else None."""
        found = [processor.training_logits(network) for processor in self.with_role(PostProcessor)]
        return next((scores for scores in found if scores is not None), None)

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return the (N,) label quality of the last mitigation that estimates it, else the networks' own."""
        for mitigation in reversed(self.mitigations):
            quality = mitigation.label_quality(task, training_set)
            if quality is not None:
                return quality
        return task.training_label_quality()

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the (N,) corrected labels of the last mitigation that has some, else None."""
        for mitigation in reversed(self.mitigations):
            labels = mitigation.corrected_labels(task, training_set)
            if labels is not None:
                return labels
        return None

    def sampled_labels(
        self, task: Learner, training_set: TrainingSet, rows: Tensor, probabilities: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return label quality and corrected labels of a sample, without a pass over the training set if possible.

        Args:
            task: networks as trained so far.
            training_set: training set with observed targets.
            rows: (S,) positions of the sample.
            probabilities: (S, C) deployed prediction for the sample.

        Returns:
            (S,) label quality, and (S,) corrected labels or None, by the same mitigations as those of all examples.
        """
        observed = training_set.targets[rows]
        quality: Tensor | None = None
        corrected: Tensor | None = None
        for mitigation in reversed(self.mitigations):
            if isinstance(mitigation, LabelPosterior):
                posterior = mitigation.posterior(probabilities, observed)
                if posterior is not None:
                    quality = of_targets(posterior, observed) if quality is None else quality
                    corrected = posterior.argmax(1) if corrected is None else corrected
                continue
            if quality is None and (of_all := mitigation.label_quality(task, training_set)) is not None:
                quality = of_all[rows]
            if corrected is None and (of_all := mitigation.corrected_labels(task, training_set)) is not None:
                corrected = of_all[rows]
        return of_targets(probabilities, observed) if quality is None else quality, corrected


def of_targets(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the (B,) probabilities of (B,) targets in (B, C) predictions.

    >>> of_targets(torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([0, 1]))
    tensor([0.9000, 0.3000])
    """
    return probabilities.gather(1, targets[:, None]).squeeze(1)


def _wrapped(wrapper: LossWrapper, task: Learner, inner_loss: BatchLoss) -> BatchLoss:
    # A separate function, because a lambda in the caller's loop would see the last wrapper and loss only.
    return lambda batch: wrapper.wrap_loss(task, batch, inner_loss)

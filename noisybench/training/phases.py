"""Phases of training: parts of a run with an optimizer, a schedule and initial weights of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.errors import UserError
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.utils.seeds import torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

OPTIMIZER_SETTINGS = ("optimizer", "learning_rate", "momentum", "nesterov", "adam_beta1", "weight_decay")
"""Settings of the budget that a phase can replace without a schedule of its own."""

SCHEDULE_SETTINGS = (
    "lr_schedule", "lr_milestones", "lr_gamma", "lr_restart_period", "lr_restart_factor", "lr_constant_epochs", "lr_min",
    "lr_interval", "warmup_epochs",
)  # fmt: skip
"""Settings of the budget that a phase with `lr_schedule` replaces, all of them."""


@dataclass(frozen=True)
class Phase:
    """A part of a run. It begins with a new optimizer, without momentum of the phase before.

    Attributes:
        epochs: number of epochs. None takes the epochs of the budget that are left by the others, as one phase can.
        weights: weights of networks and heads at its start: ``"current"`` keeps them, ``"fresh"`` initializes the networks
            anew and keeps the heads, ``"best"`` takes those of the epoch of the phase before with the highest accuracy on
            the noisy validation split, the earliest of several. The first phase has the current ones.
        settings: settings of the budget's optimizer and schedule that differ in this phase. If `lr_schedule` is one of them,
            the schedule spans the phase alone and forgets that of the budget; otherwise the budget's schedule continues,
            from the phase's `learning_rate` if it has one.
        restarts_schedule: the budget's schedule begins anew and spans the phase alone, as if it were a training of its own.

    >>> Phase(epochs=5, weights="best", settings={"optimizer": "adam", "learning_rate": 5e-7}).settings["optimizer"]
    'adam'
    """

    epochs: int | None = None
    weights: Literal["current", "fresh", "best"] = "current"
    settings: Mapping[str, Any] = field(default_factory=dict)
    restarts_schedule: bool = False


class Span(NamedTuple):
    """A phase in a run.

    Attributes:
        start: first epoch, from 0.
        end: epoch after the last.
        budget: budget with the settings of the phase.
        schedule_start: epoch from which the schedule counts.
        weights: weights at its start, see `Phase.weights`.
    """

    start: int
    end: int
    budget: Budget
    schedule_start: int
    weights: str


def find_problems(phases: Sequence[Phase], budget: Budget, has_validation: bool) -> list[str]:
    """Return the reasons why phases do not fit a budget.

    Args:
        phases: phases in order; none is always right.
        budget: budget of the run.
        has_validation: whether the dataset has a validation split.

    >>> find_problems([Phase(4), Phase(8)], Budget(epochs=10), has_validation=True)
    ['its phases of 4 and 8 epochs take 12, but budget.epochs is 10; set budget.epochs=12']
    """
    if not phases:
        return []
    problems = []
    fixed = [phase.epochs for phase in phases if phase.epochs is not None]
    if any(epochs < 1 for epochs in fixed):
        problems.append(f"a phase has {min(fixed)} epochs, but needs at least 1; leave it out")
    if len(phases) - len(fixed) > 1:
        problems.append(
            f"{len(phases) - len(fixed)} phases take the rest of the epochs; give all but one of them a number of epochs"
        )
    if phases[0].weights != "current":
        problems.append(
            f"the first phase begins with {phases[0].weights} weights, but there is no phase before it; leave out weights="
        )
    needed = sum(fixed) + (len(phases) - len(fixed))
    is_exact = len(fixed) == len(phases)
    if needed > budget.epochs or (is_exact and needed < budget.epochs):
        listed = " and ".join("the rest" if phase.epochs is None else f"{phase.epochs}" for phase in phases)
        problems.append(
            f"its phases of {listed} epochs take {needed}{'' if is_exact else ' or more'}, but budget.epochs is "
            f"{budget.epochs}; set budget.epochs={needed}{'' if is_exact else ' or more, or shorten a phase'}"
        )
    if not has_validation and any(phase.weights == "best" for phase in phases):
        problems.append(
            "it continues with the best weights on noisy validation labels, but the dataset has no validation split; set "
            "for example dataset.validation_fraction=0.1"
        )
    if not problems:
        try:
            spans = plan(phases, budget)
        except UserError as error:
            return error.problems
        problems += [
            f"the learning rate rises for {span.budget.warmup_epochs:g} epochs, but its phase from epoch {span.start} has "
            f"{span.end - span.start}; decrease budget.warmup_epochs, or lengthen the phase"
            for span in spans
            if span.schedule_start == span.start and span.budget.warmup_epochs >= span.end - span.start
        ]
    return problems


def plan(phases: Sequence[Phase], budget: Budget) -> list[Span]:
    """Return the phases as they follow each other; without any, one that is the whole run.

    Raises:
        UserError: the settings of a phase contradict each other.

    >>> spans = plan([Phase(2), Phase(settings={"learning_rate": 0.5})], Budget(epochs=10))
    >>> [(span.start, span.end, span.budget.learning_rate) for span in spans]
    [(0, 2, 0.1), (2, 10, 0.5)]
    """
    rest = budget.epochs - sum(phase.epochs or 0 for phase in phases)
    spans: list[Span] = []
    for phase in phases or (Phase(),):
        start = spans[-1].end if spans else 0
        length = rest if phase.epochs is None else phase.epochs
        has_schedule = phase.restarts_schedule or "lr_schedule" in phase.settings
        settings = _budget_of(phase.settings, budget, length if has_schedule else budget.epochs)
        spans.append(Span(start, start + length, settings, start if has_schedule else 0, phase.weights))
    return spans


def _budget_of(settings: Mapping[str, Any], budget: Budget, epochs: int) -> Budget:
    """Return a budget with the settings of a phase."""
    if not settings and epochs == budget.epochs:
        return budget
    allowed = (*OPTIMIZER_SETTINGS, *(SCHEDULE_SETTINGS if "lr_schedule" in settings else ()))
    unknown = [name for name in settings if name not in allowed]
    if unknown:
        raise UserError(
            f"a phase cannot set {', '.join(unknown)}; it can set {', '.join(OPTIMIZER_SETTINGS)}, and with lr_schedule the "
            f"other settings of a schedule"
        )
    # What belongs to the algorithm or the schedule that the phase replaces has its default again.
    replaced = {
        *((*SCHEDULE_SETTINGS, "adam_beta1_in_decay") if "lr_schedule" in settings else ()),
        *(("nesterov", "adam_beta1", "adam_beta1_in_decay") if "optimizer" in settings else ()),
    }
    kept = {name: value for name, value in budget if name not in replaced}
    try:
        return Budget(**{**kept, **settings, "epochs": epochs})
    except ValueError as error:
        raise UserError(f"a phase has settings of the optimizer that are invalid: {error}") from error


class PhaseRunner:
    """The phases of one run: when each begins, with which weights, and by which schedule it trains.

    Args:
        phases: phases in order, if there are any.
        budget: budget of the run.

    Attributes:
        spans: phases in the run.
        best: highest accuracy on noisy validation labels in this phase and its weights, if a phase will need them.

    >>> PhaseRunner([Phase(2), Phase()], Budget(epochs=10)).number(3)
    1
    """

    def __init__(self, phases: Sequence[Phase], budget: Budget) -> None:
        self.spans = plan(phases, budget)
        self.best: dict[str, Any] = {}

    def number(self, epoch: int) -> int:
        """Return the number of the phase of an epoch, from 0."""
        return sum(epoch >= span.start for span in self.spans) - 1

    def span(self, epoch: int) -> Span:
        """Return the phase of an epoch."""
        return self.spans[self.number(epoch)]

    def start_epoch(
        self, learner: Learner, optimizer: torch.optim.Optimizer | None, build_model: Callable[[nn.Module], nn.Module]
    ) -> None:
        """Set the weights and the optimizer of a phase that begins with the current epoch.

        Args:
            learner: networks in training.
            optimizer: optimizer of the run, which changes with the phases.
            build_model: returns the model that the stack trains, from a new network.
        """
        number = self.number(learner.current_epoch)
        if number == 0 or learner.current_epoch != self.spans[number].start:
            return
        if self.spans[number].weights == "fresh":
            for position, network in enumerate(learner.networks):
                network.load_state_dict(_fresh_weights(learner, build_model, position, number))
        elif self.spans[number].weights == "best":
            learner.networks.load_state_dict(self.best["networks"])
            learner.heads.load_state_dict(self.best["heads"])
        self.best = {}
        learner.invalidate_cache()
        if isinstance(optimizer, PhaseOptimizer):
            optimizer.start(number)

    def end_epoch(self, learner: Learner) -> None:
        """Keep the weights of an epoch that are the best of its phase, if the next phase begins with them."""
        following = self.number(learner.current_epoch) + 1
        if following >= len(self.spans) or self.spans[following].weights != "best":
            return
        score = validation_accuracy(learner)
        if not self.best or score > self.best["score"]:
            modules = {"networks": learner.networks, "heads": learner.heads}
            weights = {
                name: {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
                for name, module in modules.items()
            }
            self.best = {"score": score, **weights}


def _fresh_weights(
    learner: Learner, build_model: Callable[[nn.Module], nn.Module], position: int, phase: int
) -> dict[str, Tensor]:
    """Return new weights of a network: random from a stream of the phase, pre-trained where they were."""
    torch.manual_seed(torch_seed("initialisation", learner.seed, position, phase))
    network = learner.build_network()
    network.load_state_dict({**network.state_dict(), **learner.pretrained})
    torch.manual_seed(torch_seed("adaptation", learner.seed, position, phase))
    weights: dict[str, Tensor] = build_model(network).state_dict()
    return weights


def validation_accuracy(learner: Learner) -> float:
    """Return the fraction of noisy validation labels that the deployed prediction agrees with."""
    validation = learner.training_set.validation
    assert validation is not None  # checked before training
    predictions = learner.predict(validation.inputs).argmax(1)
    return float((predictions == validation.targets.to(predictions.device)).float().mean())

"""How mitigations stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.training.batch import VIEWS, BatchPlan
from noisybench.training.mitigation import Mitigation, Objective, public_name
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.task import Task


@dataclass
class Stack:
    """Mitigations in order. The one with an objective is innermost; the others wrap it from last to first."""

    mitigations: Sequence[Mitigation]
    owner: Mitigation | None = field(init=False)

    def __post_init__(self) -> None:
        owners = [each for each in self.mitigations if each.overrides("objective")]
        problems = []
        if len(owners) > 1:
            names = ", ".join(public_name(each) for each in owners)
            problems.append(f"mitigations: {names} each bring an objective, but a stack can have one; keep one of them")
        for mixer in (each for each in self.mitigations if each.mixes):
            problems += [
                f"mitigations: {public_name(each)} keeps state per example and cannot follow {public_name(mixer)}, which "
                "mixes examples; use one of them"
                for each in self.mitigations
                if each.per_example and each is not mixer
            ]
        several = [each for each in self.mitigations if each.networks > 1]
        if len(several) > 1:
            names = ", ".join(public_name(each) for each in several)
            problems.append(f"mitigations: {names} each train networks of their own number; keep one of them")
        for repeater in (each for each in self.mitigations if each.repeats):
            problems += [
                f"mitigations: {public_name(each)} keeps one state per example and cannot train the several networks of "
                f"{public_name(repeater)}; use one of them"
                for each in self.mitigations
                if each.per_example
            ]
        adapters = [public_name(each) for each in self.mitigations if each.overrides("adapt")]
        if len(adapters) > 1:
            problems.append(
                f"mitigations: {', '.join(adapters)} each decide what is trained of a network; keep one of them"
            )
        planners = [public_name(each) for each in self.mitigations if each.overrides("plan")]
        if len(planners) > 1:
            problems.append(
                f"mitigations: {', '.join(planners)} each plan the epoch, but one alone can; keep one of them"
            )
        if len({each.feature_stage for each in self.mitigations} - {None}) > 1:
            names = ", ".join(public_name(each) for each in self.mitigations if each.feature_stage is not None)
            problems.append(f"mitigations: {names} read features of different stages; give them the same one")
        if problems:
            raise UserError(*problems)
        self.owner = owners[0] if owners else None

    @property
    def networks(self) -> int:
        """How many networks the stack trains."""
        return max((each.networks for each in self.mitigations), default=1)

    @property
    def ensemble(self) -> bool:
        """Whether the deployed prediction is the mean over all networks."""
        return any(each.ensemble for each in self.mitigations)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the stack needs, the weak one first."""
        wanted = {name for each in self.mitigations for name in each.views} | {"weak"}
        return tuple(name for name in VIEWS if name in wanted)

    @property
    def learning_rate_times(self) -> float:
        """How many times the budget's learning rate is used."""
        return math.prod(each.learning_rate_times for each in self.mitigations)

    def adapt(self, network: nn.Module) -> nn.Module:
        """The network that is trained."""
        for each in self.mitigations:
            network = each.adapt(network)
        return network

    @property
    def equal_steps(self) -> bool:
        """Whether an epoch keeps its number of steps when examples are left out."""
        return all(each.equal_steps for each in self.mitigations)

    @property
    def feature_stage(self) -> int | None:
        """The stage whose outputs the stack needs."""
        return next((each.feature_stage for each in self.mitigations if each.feature_stage is not None), None)

    @property
    def privileged(self) -> tuple[str, ...]:
        """All declared knowledge, sorted."""
        return tuple(sorted({name for each in self.mitigations for name in each.privileged}))

    def check(self, tasks: Sequence[str], offered: Sequence[str]) -> list[str]:
        """Problems of this stack in a cell.

        Args:
            tasks: the task, and another that it is like; every mitigation must serve one of them.
            offered: knowledge that the cell can give.
        """
        problems = []
        for each in self.mitigations:
            name = public_name(each)
            if not set(tasks) & set(each.tasks):
                problems.append(f"mitigations.{name}: serves {', '.join(each.tasks)}, not {tasks[0]}")
            for fact in each.privileged:
                if fact not in offered:
                    problems.append(
                        f"mitigations.{name}: needs to know the {fact.replace('_', ' ')}, which this cell does not offer "
                        f"(it offers {', '.join(offered) or 'nothing'}); choose other noise, or a setting that estimates it"
                    )
        return problems

    def objective(self, task: Task) -> Objective:
        """The composed objective."""
        owner = self.owner
        composed: Objective = (lambda batch: owner.objective(task, batch)) if owner else task.plain_objective
        for each in reversed([each for each in self.mitigations if each.overrides("wrap")]):
            composed = _wrapped(each, task, composed)
        return composed

    def on_train_epoch_start(self, task: Task) -> None:
        """Tell every mitigation that an epoch begins."""
        for each in self.mitigations:
            each.on_train_epoch_start(task)

    def on_train_epoch_end(self, task: Task) -> None:
        """Tell every mitigation that an epoch is over."""
        for each in self.mitigations:
            each.on_train_epoch_end(task)

    def plan(self, task: Task) -> list[BatchPlan] | None:
        """The steps of this epoch of the one mitigation that plans it, if there is one."""
        plans = (each.plan(task) for each in self.mitigations if each.overrides("plan"))
        return next(plans, None)

    def weights(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """Product of all selections, or None where nothing selects.

        Raises:
            UserError: nothing is left to train on, or a weight is negative or not finite.
        """
        weights = None
        for each in self.mitigations:
            chosen = each.select(task, training_set)
            if chosen is None:
                continue
            if chosen.shape != (len(training_set),) or not bool((chosen.isfinite() & (chosen >= 0)).all()):
                raise UserError(
                    f"mitigations.{public_name(each)}: selection weights must be {len(training_set)} finite numbers >= 0"
                )
            weights = chosen.float() if weights is None else weights * chosen
            if not bool((weights > 0).any()):
                raise UserError(
                    f"mitigations.{public_name(each)}: the selection is empty, no example is left to train on; "
                    "choose a milder setting"
                )
        return weights

    def belief(self, task: Task, training_set: TrainingSet) -> Tensor:
        """(N,) belief of the last mitigation that has one; else the networks' probability of the observed target."""
        for each in reversed(self.mitigations):
            belief = each.belief(task, training_set)
            if belief is not None:
                return belief
        return task.training_belief()

    def correction(self, task: Task, training_set: TrainingSet) -> Tensor:
        """(N,) corrected targets of the last mitigation that has some; else the observed ones."""
        for each in reversed(self.mitigations):
            correction = each.correction(task, training_set)
            if correction is not None:
                return correction
        return training_set.targets


def _wrapped(mitigation: Mitigation, task: Task, inner: Objective) -> Objective:
    return lambda batch: mitigation.wrap(task, batch, inner)

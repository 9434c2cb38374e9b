"""Phases of training: when they begin, with which weights and optimizer, and which plans are refused."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from noisybench.config.budget import Budget
from noisybench.errors import UserError
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.runs.preparation import prepare_run
from noisybench.training.loop import load_optimizer
from noisybench.training.mitigation import Mitigation, Requirements
from noisybench.training.phases import Phase, find_problems, plan, validation_accuracy
from noisybench.training.roles import LossFunction, StepCallback
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from tests.helpers import flat_weights, toy_spec
from tests.training.test_lightning import fit, toy_task

pytestmark = pytest.mark.fast


def with_phases(*phases: Phase, **budget: Any) -> tuple[Task, list[dict[str, Any]]]:
    """Return a trained task, and weights, optimizer and validation accuracy around every epoch."""
    seen: list[dict[str, Any]] = []

    class Phased(StepCallback):
        @property
        def requirements(self) -> Requirements:
            return Requirements(phases=phases)

        def on_epoch_start(self, task: Any) -> None:
            seen.append({"first": weights(task), "kind": type(task._optimizer.parts[0]).__name__, "rates": []})
            seen[-1]["state"] = len(task._optimizer.state)

        def on_step_end(self, task: Any) -> None:
            seen[-1]["rates"].append(task._optimizer.param_groups[0]["lr"])

        def on_epoch_end(self, task: Any) -> None:
            seen[-1] |= {"last": weights(task), "accuracy": validation_accuracy(task)}

    task = toy_task("cross_entropy", **budget)
    replaced = Stack([Phased()])
    task = type(task)(task.budget, task.seed, task.training_set, replaced, **task.settings)
    fit(task, max_epochs=task.budget.epochs)
    return task, seen


def weights(task: Any) -> Tensor:
    return flat_weights(task.networks)


def test_a_phase_begins_with_a_new_optimizer_and_its_schedule_spans_it() -> None:
    adam = {"optimizer": "adam", "learning_rate": 0.002, "lr_schedule": "cosine"}
    _, seen = with_phases(Phase(2), Phase(settings=adam), epochs=4, lr_schedule="multistep", lr_milestones=(1,))
    assert [epoch["kind"] for epoch in seen] == ["SGD", "SGD", "Adam", "Adam"]
    assert [bool(epoch["state"]) for epoch in seen] == [False, True, False, True]
    assert [epoch["rates"][0] for epoch in seen] == pytest.approx([0.05, 0.005, 0.002, 0.001])
    for before, after in itertools.pairwise(seen):
        assert torch.equal(before["last"], after["first"])


def test_a_phase_without_a_schedule_follows_that_of_the_budget() -> None:
    _, seen = with_phases(
        Phase(1), Phase(settings={"learning_rate": 0.5}), epochs=3, lr_schedule="multistep", lr_milestones=(2,)
    )
    assert [epoch["rates"][0] for epoch in seen] == pytest.approx([0.05, 0.5, 0.05])


def test_a_phase_can_restart_the_schedule_of_the_budget() -> None:
    phases = Phase(2, restarts_schedule=True), Phase(weights="fresh", restarts_schedule=True)
    _, seen = with_phases(*phases, epochs=5, lr_schedule="multistep", lr_milestones=(1,))
    assert [epoch["rates"][0] for epoch in seen] == pytest.approx([0.05, 0.005, 0.05, 0.005, 0.005])
    assert [span.budget.epochs for span in plan(phases, Budget(epochs=5))] == [2, 3], "a cosine spans each phase"


def test_fresh_weights_are_new_and_depend_on_seed_and_phase() -> None:
    task, seen = with_phases(Phase(1), Phase(1, weights="fresh"), Phase(1, weights="fresh"))
    again, repeated = with_phases(Phase(1), Phase(1, weights="fresh"), Phase(1, weights="fresh"))
    starts = [epoch["first"] for epoch in seen]
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(starts))
    assert not torch.equal(starts[1], seen[0]["last"])
    assert torch.equal(starts[1], repeated[1]["first"])
    assert torch.equal(weights(task), weights(again))


def test_the_best_weights_are_those_of_the_first_epoch_with_the_highest_validation_accuracy() -> None:
    # A learning rate at which accuracy rises and falls.
    budget = {"epochs": 8, "learning_rate": 0.3, "lr_schedule": "constant"}
    _, seen = with_phases(Phase(7), Phase(weights="best"), **budget)
    accuracies = [epoch["accuracy"] for epoch in seen[:7]]
    best = accuracies.index(max(accuracies))
    assert best < 6, "the example must not end with its best epoch"
    assert torch.equal(seen[7]["first"], seen[best]["last"])
    assert not torch.equal(seen[7]["first"], seen[6]["last"])


def test_the_state_of_an_optimizer_is_restored_into_its_phase() -> None:
    layer = torch.nn.Linear(2, 1)

    def build(phase: int) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if phase else torch.optim.SGD
        return kind(layer.parameters(), lr=0.1)

    optimizer = PhaseOptimizer(build)
    optimizer.start(1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    resumed = PhaseOptimizer(build)
    load_optimizer(resumed, optimizer.state_dict())
    assert resumed.phase == 1
    assert type(resumed.parts[0]) is torch.optim.Adam
    assert torch.equal(resumed.parts[0].state[layer.weight]["exp_avg"], optimizer.state[layer.weight]["exp_avg"])


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (
            [Phase(6), Phase(6)],
            r"its phases of 6 and 6 epochs take 12, but budget\.epochs is 10; set budget\.epochs=12",
        ),
        ([Phase(4), Phase(4)], r"take 8, but budget\.epochs is 10; set budget\.epochs=8"),
        ([Phase(10), Phase()], r"of 10 and the rest epochs take 11 or more.*budget\.epochs=11 or more"),
        ([Phase(4), Phase(weights="best")], r"no validation split; set for example dataset\.validation_fraction"),
        ([Phase(4), Phase(settings={"batch_size": 4})], "a phase cannot set batch_size; it can set optimizer"),
        ([Phase(4), Phase(settings={"lr_milestones": (3,)})], "a phase cannot set lr_milestones"),
        ([Phase(4), Phase(settings={"learning_rate": -1.0})], "a phase has settings of the optimizer that are invalid"),
        ([Phase(), Phase(4), Phase()], "2 phases take the rest of the epochs; give all but one of them"),
        ([Phase(0), Phase()], "a phase has 0 epochs, but needs at least 1"),
        ([Phase(12), Phase(-2)], "a phase has -2 epochs, but needs at least 1"),
        (
            [Phase(4, weights="fresh"), Phase()],
            "the first phase begins with fresh weights, but there is no phase before",
        ),
    ],
)
def test_plans_that_do_not_fit_are_explained(phases: list[Phase], message: str) -> None:
    (problem,) = find_problems(phases, Budget(epochs=10), has_validation=False)
    assert re.search(message, problem), problem


def test_a_new_algorithm_and_a_new_schedule_forget_settings_of_the_budgets() -> None:
    budget = Budget(epochs=9, nesterov=True, lr_schedule="multistep", lr_milestones=(5,), warmup_epochs=2)
    adam = {"optimizer": "adam", "learning_rate": 0.01, "lr_schedule": "constant"}
    first, second = plan([Phase(), Phase(4, settings=adam)], budget)
    assert (first.start, first.end, first.budget) == (0, 5, budget)
    assert (second.start, second.end, second.schedule_start) == (5, 9, 5)
    expected = Budget(epochs=4, optimizer="adam", learning_rate=0.01, lr_schedule="constant")
    assert second.budget == expected


def test_a_phase_is_longer_than_the_warmup_of_its_learning_rate() -> None:
    stack = {"name": "cal", "sieve_epochs": 2, "warmup_epochs": 1}
    message = (
        r"cal: the learning rate rises for 2 epochs, but its phase from epoch 0 has 2; decrease budget\.warmup_epochs"
    )
    with pytest.raises(UserError, match=message):
        prepare_run(toy_spec(stack, dataset="digits", budget={"epochs": 6, "warmup_epochs": 2}))
    prepare_run(toy_spec(stack, dataset="digits", budget={"epochs": 6, "warmup_epochs": 1}))


def test_phases_longer_than_the_budget_are_refused_before_training() -> None:
    stack = {"name": "t_revision", "warmup_epochs": 2, "revision_epochs": 3}
    message = (
        r"mitigations\.t_revision: its phases of 2 and the rest and 3 epochs take 6 or more, but budget\.epochs is 3"
    )
    with pytest.raises(UserError, match=message):
        prepare_run(toy_spec(stack, dataset="digits"))
    best = {"name": "t_revision", "warmup_epochs": 1, "revision_epochs": 1, "continue_from": "best"}
    with pytest.raises(
        UserError, match="t_revision: it continues with the best weights on noisy validation labels, but"
    ):
        prepare_run(toy_spec(best, dataset={"name": "digits", "validation_fraction": 0.0}))


def test_one_mitigation_of_a_stack_can_train_in_phases() -> None:
    class First(Mitigation):
        requirements = Requirements(phases=(Phase(1), Phase(weights="fresh")))

    class Second(LossFunction):
        requirements = First.requirements

        def loss(self, task: Any, batch: Any) -> Tensor:
            raise AssertionError

    class Pretrained(Mitigation):
        requirements = Requirements(sets_initial_weights=True)

    with pytest.raises(UserError, match="both train in phases, but only one"):
        Stack([First(), Second()])
    with pytest.raises(UserError, match="initializes the networks again in a later phase, without the weights of"):
        Stack([First(), Pretrained()])

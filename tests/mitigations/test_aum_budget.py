"""AUM measures margins before labels are memorized: with a constant learning rate and a budget of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisybench.config.budget import Budget
from noisybench.config.resolve import resolve
from noisybench.errors import UserError
from noisybench.mitigations.aum import AUM
from noisybench.training.schedule import learning_rate_at
from noisybench.training.task import Task
from tests.helpers import prepared_toy, train_toy

SCHEDULES = [
    {"lr_schedule": "cosine", "warmup_epochs": 3},
    {"lr_schedule": "multistep", "lr_milestones": (4, 6), "lr_gamma": 0.5},
    {"lr_schedule": "constant_then_linear", "lr_constant_epochs": 2, "optimizer": "adam", "adam_beta1_in_decay": 0.1},
    {"lr_schedule": "cosine_warm_restarts", "lr_restart_period": 2, "lr_min": 0.001},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: str(schedule["lr_schedule"]))
def test_the_learning_rate_of_the_scoring_networks_is_constant(schedule: dict[str, object]) -> None:
    budget = Budget(**{"network": "mlp:8", "epochs": 9, "batch_size": 256, "learning_rate": 0.2, **schedule})  # type: ignore[arg-type]
    scoring = AUM().scoring_budget(budget)
    assert {learning_rate_at(scoring, epoch / 4) for epoch in range(20)} == {0.2}
    assert (scoring.epochs, scoring.batch_size, scoring.optimizer) == (5, 64, budget.optimizer)
    assert scoring.weight_decay == budget.weight_decay


def test_the_budget_of_the_scoring_networks_is_that_of_the_parameters() -> None:
    budget = Budget(network="mlp:8", epochs=9, batch_size=32)
    assert AUM().scoring_budget(budget).batch_size == 32
    scoring = AUM(epochs=150, learning_rate=0.3, batch_size=48, weight_decay=0.0).scoring_budget(budget)
    found = (scoring.epochs, scoring.learning_rate, scoring.batch_size, scoring.weight_decay)
    assert found == (150, 0.3, 48, 0.0)


@pytest.mark.parametrize("parameter", [{"batch_size": 1}, {"epochs": 10**6 + 1}])
def test_a_value_that_no_budget_allows_is_refused_before_training(parameter: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"mitigations.aum.{next(iter(parameter))}: input should be"):
        resolve({"mitigations": {"name": "aum", **parameter}})


def test_the_scoring_networks_are_trained_with_their_own_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = Task.on_before_optimizer_step

    def watched(self: Task, optimizer: object) -> None:
        step(self, optimizer)  # type: ignore[arg-type]
        if self.training_set.num_classes == 11:  # with the fake class
            seen.append((optimizer.param_groups[0]["lr"], self.sampler.batch_size))  # type: ignore[attr-defined]

    monkeypatch.setattr(Task, "on_before_optimizer_step", watched)
    stack = {
        "name": "aum",
        "epochs": 2,
        "learning_rate": 0.03,
        "batch_size": 60,
        "keep_fraction": 0.8,
        "per_class": True,
    }
    train_toy(prepared_toy(stack), tmp_path)
    # Two networks, two epochs, 120 examples.
    assert seen == [(0.03, 60)] * 8

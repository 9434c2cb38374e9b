"""Schedules as pure functions of the epoch, against PyTorch's schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from noisybench.config.budget import Budget
from noisybench.config.budget_checks import find_inactive
from noisybench.training.schedule import adam_beta1_at, learning_rate_at
from tests.helpers import prepared_toy, train_toy

RATE = 0.2


def torch_rates(make: Any, epochs: int) -> list[float]:
    """Return the learning rate of one of PyTorch's schedulers in each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler, rates = make(optimizer), []
    for _ in range(epochs):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def constant_then(epochs: int, after: Any) -> Any:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        constant = lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
        return lr_scheduler.SequentialLR(optimizer, [constant, after(optimizer)], milestones=[epochs])

    return make


CASES: list[tuple[dict[str, Any], Any]] = [
    (
        {"lr_schedule": "cosine_warm_restarts", "lr_restart_period": 10, "lr_min": 0.001},
        lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, eta_min=0.001),
    ),
    (
        {"lr_schedule": "cosine_warm_restarts", "lr_restart_period": 3, "lr_restart_factor": 2},
        lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=3, T_mult=2),
    ),
    (
        {"lr_schedule": "cosine", "lr_min": 0.0002},
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.0002),
    ),
    (
        {"lr_schedule": "constant_then_cosine", "lr_constant_epochs": 12, "lr_min": 0.01},
        constant_then(12, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=28, eta_min=0.01)),
    ),
    (
        {"lr_schedule": "constant_then_linear", "lr_constant_epochs": 16},
        constant_then(
            16, lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=24)
        ),
    ),
    (
        {"lr_schedule": "multistep", "lr_milestones": (8, 30), "lr_gamma": 0.01},
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [8, 30], gamma=0.01),
    ),
]


@pytest.mark.parametrize(("settings", "make"), CASES)
def test_schedules_equal_those_of_torch(settings: dict[str, Any], make: Any) -> None:
    budget = Budget(epochs=40, learning_rate=RATE, lr_interval="epoch", **settings)
    rates = [learning_rate_at(budget, epoch) for epoch in range(40)]
    assert rates == pytest.approx(torch_rates(make, 40), abs=1e-12)
    # Within an epoch the rate stays.
    assert [learning_rate_at(budget, epoch + 0.9) for epoch in range(40)] == rates


def test_by_default_the_rate_changes_with_every_step() -> None:
    budget = Budget(epochs=10, learning_rate=RATE, lr_schedule="constant_then_linear", lr_constant_epochs=5)
    assert [learning_rate_at(budget, epoch) for epoch in (4.5, 5, 7.5, 10, 11)] == [RATE, RATE, RATE / 2, 0, 0]


def test_co_teaching_switches_the_momentum_of_adam_where_its_decay_begins() -> None:
    budget = Budget(
        epochs=200, optimizer="adam", learning_rate=0.001, lr_schedule="constant_then_linear", lr_constant_epochs=80,
        adam_beta1_in_decay=0.1,
    )  # fmt: skip
    assert [adam_beta1_at(budget, epoch) for epoch in (0, 79.99, 80, 199)] == [0.9, 0.9, 0.1, 0.1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_schedule": "cosine_warm_restarts"}, "requires lr_restart_period"),
        ({"lr_restart_period": 3}, "requires lr_schedule=cosine_warm_restarts"),
        ({"lr_restart_factor": 3}, "requires lr_schedule=cosine_warm_restarts"),
        ({"lr_schedule": "constant_then_cosine"}, "requires lr_constant_epochs"),
        ({"lr_constant_epochs": 3}, "requires lr_schedule=constant_then_cosine"),
        ({"lr_schedule": "constant", "lr_min": 0.001}, "lr_min=0.001 requires"),
        ({"lr_min": 1.0}, "at most learning_rate=0.1"),
        ({"adam_beta1": 0.5}, "requires the optimizer adam"),
        ({"optimizer": "adam", "adam_beta1_in_decay": 0.5}, "requires lr_schedule=constant_then_cosine"),
    ],
)
def test_fields_that_have_no_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**settings)


def test_new_optional_fields_change_no_identity() -> None:
    assert not {name for name, value in Budget().model_dump().items() if value is None} & set(Budget().identity())
    assert len(Budget().identity()) == 18


def test_a_resumed_run_follows_the_schedule_and_the_momentum_to_the_same_bits(tmp_path: Path) -> None:
    budget = {
        "epochs": 4, "optimizer": "adam", "learning_rate": 0.01, "lr_schedule": "constant_then_linear",
        "lr_constant_epochs": 2, "adam_beta1_in_decay": 0.1, "gradient_clipping": 0.5,
    }  # fmt: skip
    whole = train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "whole")
    assert [row.learning_rate for row in whole.rows] == [0.01, 0.01, 0.005, 0.0]
    assert not train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "parts", stop_after=3).complete
    parts = train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "parts")
    assert parts.record({}).weights_sha256 == whole.record({}).weights_sha256
    same_momentum = {name: value for name, value in budget.items() if name != "adam_beta1_in_decay"}
    other = train_toy(prepared_toy("cross_entropy", budget=same_momentum), tmp_path / "other")
    assert other.record({}).weights_sha256 != whole.record({}).weights_sha256


def test_a_warm_up_rises_with_every_step_even_if_the_schedule_changes_by_epochs() -> None:
    budget = Budget(epochs=4, learning_rate=0.1, lr_schedule="cosine", warmup_epochs=1, lr_interval="epoch")
    assert [learning_rate_at(budget, epoch) for epoch in (0.25, 0.5, 0.99)] == pytest.approx([0.025, 0.05, 0.099])
    assert learning_rate_at(budget, 1.0) == learning_rate_at(budget, 1.9) == pytest.approx(0.1)
    assert learning_rate_at(budget, 2.0) == learning_rate_at(budget, 2.9) == pytest.approx(0.075)


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({"lr_schedule": "multistep", "lr_milestones": (4, 9)}, 10),
        ({"warmup_epochs": 6}, 7),
        ({"lr_schedule": "constant_then_cosine", "lr_constant_epochs": 6}, 7),
        ({"lr_schedule": "cosine_warm_restarts", "lr_restart_period": 5}, 6),
    ],
)
def test_only_schedules_that_end_too_late_are_noted(settings: dict[str, Any], last: int) -> None:
    assert find_inactive(Budget(epochs=last, **settings)) == []
    (note,) = find_inactive(Budget(epochs=last - 1, **settings))
    assert f"training ends after {last - 1} epochs" in note


@pytest.mark.parametrize("field", ["learning_rate", "gradient_clipping"])
def test_steps_that_round_to_nothing_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="greater than or equal to"):
        Budget(**{field: 1e-300})

"""Optimizers of the networks and of heads with settings of their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from noisybench.config.budget import Budget
from noisybench.errors import TrainingError
from noisybench.nn.joint_optimizer import JointOptimizer
from noisybench.training.loop import load_optimizer
from noisybench.training.optimizers import OptimizerSettings, build_optimizer, set_schedule

pytestmark = pytest.mark.fast

OWN = {
    "fast": OptimizerSettings(10.0),
    "adam": OptimizerSettings(0.01, "adam", weight_decay=0.1, follows_schedule=True),
}
BUDGET = Budget(epochs=4, learning_rate=0.1, lr_schedule="multistep", lr_milestones=(2,), lr_gamma=0.1)


def modules() -> tuple[nn.ModuleList, nn.ModuleDict]:
    torch.manual_seed(0)
    heads = nn.ModuleDict({"shared": nn.Linear(2, 2), "fast": nn.Linear(2, 2), "adam": nn.Linear(2, 2)})
    return nn.ModuleList([nn.Linear(2, 2)]), heads


def step(networks: nn.ModuleList, heads: nn.ModuleDict, optimizer: torch.optim.Optimizer, epoch: float) -> None:
    inputs = torch.tensor([[1.0, 2.0]])
    optimizer.zero_grad()
    sum(module(inputs).square().sum() for module in (*networks, *heads.values())).backward()
    set_schedule(optimizer, BUDGET, epoch, lr_multiplier=2.0)
    optimizer.step()


def weights(networks: nn.ModuleList, heads: nn.ModuleDict) -> list[torch.Tensor]:
    return [parameter.detach().clone() for module in (networks, heads) for parameter in module.parameters()]


def test_every_part_has_its_learning_rate_and_only_followers_have_the_schedule() -> None:
    optimizer = build_optimizer(BUDGET, *modules(), OWN, torch.device("cpu"))
    rates = {}
    for epoch in (0.0, 3.0):
        set_schedule(optimizer, BUDGET, epoch, lr_multiplier=2.0)
        rates[epoch] = [group["lr"] for group in optimizer.param_groups]
    assert rates[0.0] == pytest.approx([0.2, 10.0, 0.01])
    assert rates[3.0] == pytest.approx([0.02, 10.0, 0.001])


def test_parts_take_the_steps_of_optimizers_of_their_own() -> None:
    networks, heads = modules()
    optimizer = build_optimizer(BUDGET, networks, heads, OWN, torch.device("cpu"))
    other_networks, other_heads = copy.deepcopy(networks), copy.deepcopy(heads)
    shared = [*other_networks.parameters(), *other_heads["shared"].parameters()]
    separate = [
        torch.optim.SGD(shared, lr=0.2, momentum=BUDGET.momentum, weight_decay=BUDGET.weight_decay),
        torch.optim.SGD(other_heads["fast"].parameters(), lr=10.0),
        torch.optim.Adam(other_heads["adam"].parameters(), lr=0.01, weight_decay=0.1),
    ]
    for _ in range(3):
        step(networks, heads, optimizer, 0.0)
        for each in separate:
            each.zero_grad()
        inputs = torch.tensor([[1.0, 2.0]])
        sum(module(inputs).square().sum() for module in (*other_networks, *other_heads.values())).backward()
        for each in separate:
            each.step()
    for mine, theirs in zip(weights(networks, heads), weights(other_networks, other_heads), strict=True):
        assert torch.equal(mine, theirs)


def test_restored_state_continues_with_the_same_steps() -> None:
    networks, heads = modules()
    optimizer = build_optimizer(BUDGET, networks, heads, OWN, torch.device("cpu"))
    step(networks, heads, optimizer, 0.0)
    saved: Any = copy.deepcopy((networks.state_dict(), heads.state_dict(), optimizer.state_dict()))
    step(networks, heads, optimizer, 3.0)
    resumed_networks, resumed_heads = modules()
    resumed_networks.load_state_dict(saved[0])
    resumed_heads.load_state_dict(saved[1])
    resumed = build_optimizer(BUDGET, resumed_networks, resumed_heads, OWN, torch.device("cpu"))
    load_optimizer(resumed, saved[2])
    step(resumed_networks, resumed_heads, resumed, 3.0)
    for mine, theirs in zip(weights(resumed_networks, resumed_heads), weights(networks, heads), strict=True):
        assert torch.equal(mine, theirs)


def test_without_declared_heads_there_is_one_plain_optimizer() -> None:
    networks, heads = modules()
    optimizer = build_optimizer(BUDGET, networks, heads, {}, torch.device("cpu"))
    assert not isinstance(optimizer, JointOptimizer)
    assert len(optimizer.param_groups[0]["params"]) == 8


def test_settings_of_a_head_that_does_not_exist_are_an_error_that_names_the_heads() -> None:
    networks, heads = modules()
    with pytest.raises(TrainingError, match=r"no head fats .*shared, fast, adam"):
        build_optimizer(BUDGET, networks, heads, {"fats": OptimizerSettings(10.0)}, torch.device("cpu"))

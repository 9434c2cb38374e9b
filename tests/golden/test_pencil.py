"""PENCIL against the authors' training loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from noisybench.config.budget import Budget
from noisybench.mitigations.pencil import PENCIL
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.training.batch import Batch
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.phases import PhaseRunner
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.pencil import (
    ALPHA,
    BATCH,
    BETA,
    CLASSES,
    EXAMPLES,
    FEATURES,
    FINAL_RATE,
    LABEL_RATE,
    RATE,
    STAGES,
)
from tests.golden.test_t_revision import TinyLearner
from tests.golden.vectors import load_golden


@pytest.mark.fast
def test_all_parts_come_to_the_authors_weights_and_distributions() -> None:
    golden = load_golden("pencil")
    inputs, labels = golden.tensor("inputs"), golden.tensor("labels")
    pencil = PENCIL(
        warmup_epochs=STAGES[0], final_epochs=STAGES[2] - STAGES[1], final_learning_rate=FINAL_RATE,
        label_learning_rate=float(LABEL_RATE), compatibility_weight=ALPHA, entropy_weight=BETA,
    )  # fmt: skip
    budget = Budget(epochs=STAGES[2], learning_rate=RATE, momentum=0.0, weight_decay=1e-4, lr_schedule="constant")
    networks, heads = nn.ModuleList([nn.Linear(FEATURES, CLASSES)]), nn.ModuleDict()
    networks[0].load_state_dict({name: golden.tensor(f"{name}_0") for name in ("weight", "bias")})
    data = TrainingSet(inputs, labels, CLASSES)
    task: Any = TinyLearner(networks=networks, heads=heads, training_set=data, budget=budget, current_epoch=0, seed=0)
    pencil.prepare(task, data)
    needs = pencil.requirements
    runner = PhaseRunner(needs.phases, budget)
    optimizer = PhaseOptimizer(
        lambda phase: build_optimizer(
            runner.spans[phase].budget, networks, heads, needs.head_optimizers, torch.device("cpu")
        )
    )
    for task.current_epoch in range(STAGES[2]):
        runner.start_epoch(task, optimizer, lambda network: network)
        span = runner.span(task.current_epoch)
        for index in torch.arange(EXAMPLES).split(BATCH):
            batch = Batch({"weak": inputs[index]}, labels[index], index, CLASSES)
            optimizer.zero_grad()
            pencil.loss(task, batch).mean().backward()
            set_schedule(optimizer, span.budget, task.current_epoch - span.schedule_start, 1.0)
            optimizer.step()
        if task.current_epoch + 1 in STAGES:
            point, distributions = task.current_epoch + 1, heads["distributions"].get_parameter("weight")
            torch.testing.assert_close(networks[0].weight, golden.tensor(f"weight_{point}"), rtol=0, atol=2e-6)
            torch.testing.assert_close(networks[0].bias, golden.tensor(f"bias_{point}"), rtol=0, atol=2e-6)
            torch.testing.assert_close(distributions, golden.tensor(f"distributions_{point}"), rtol=0, atol=5e-5)

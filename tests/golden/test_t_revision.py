"""T-Revision against the authors' losses, and against their three phases from the best weights of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.mitigations.t_revision import TRevision, reweighted_cross_entropy
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.training.batch import Batch
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.phases import PhaseRunner
from noisybench.training.training_set import TrainingSet, ValidationSet
from tests.golden.generators.t_revision import (
    CLASSES,
    DECAY,
    EPOCHS,
    FEATURES,
    MILESTONE,
    RATE,
    REVISION_RATE,
    TRAIN,
)
from tests.golden.vectors import load_golden

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("count", CLASSES)
@pytest.mark.parametrize("name", ["fixed", "revised"])
def test_losses_and_gradients_are_the_authors(name: str, count: int) -> None:
    golden, is_revised = load_golden("t_revision"), name == "revised"
    logits = golden.tensor(f"logits_{count}").requires_grad_()
    correction = golden.tensor(f"correction_{count}").requires_grad_()
    targets = nn.functional.one_hot(golden.tensor(f"labels_{count}"), count).float()
    matrix = golden.tensor(f"matrix_{count}") + (correction if is_revised else 0)
    losses = reweighted_cross_entropy(logits, targets, matrix, trains_weights=is_revised)
    losses.mean().backward()
    torch.testing.assert_close(losses, golden.tensor(f"{name}_{count}"), rtol=0, atol=2e-6)
    torch.testing.assert_close(logits.grad, golden.tensor(f"{name}_gradient_{count}"), rtol=0, atol=2e-7)
    if is_revised:
        expected = golden.tensor(f"revised_correction_gradient_{count}")
        torch.testing.assert_close(correction.grad, expected, rtol=1e-5, atol=1e-6)


class TinyLearner(SimpleNamespace):
    """The parts of a task that phases and T-Revision use, with a linear network."""

    def logits(self, inputs: Tensor) -> Tensor:
        return self.networks[0](inputs)  # type: ignore[no-any-return]

    def predict(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return self.logits(inputs).softmax(1)

    def training_probabilities(self) -> Tensor:
        return self.predict(self.training_set.inputs)

    def add_head(self, name: str, build: Any) -> None:
        self.heads[name] = build()

    def invalidate_cache(self) -> None:
        pass


def test_three_phases_come_to_the_authors_matrix_and_weights() -> None:
    golden, count = load_golden("t_revision"), CLASSES[0]
    revision = TRevision(
        warmup_epochs=EPOCHS, warmup_momentum=0.0, revision_epochs=EPOCHS, revision_learning_rate=REVISION_RATE,
        continue_from="best", percentile=100.0, implausible="warn",
    )  # fmt: skip
    budget = Budget(
        epochs=3 * EPOCHS, learning_rate=RATE, momentum=0.9, weight_decay=DECAY, lr_schedule="multistep",
        lr_milestones=(EPOCHS + MILESTONE,), lr_gamma=0.1,
    )  # fmt: skip
    inputs, labels = golden.tensor("train_inputs"), golden.tensor("train_labels")
    validation = ValidationSet(golden.tensor("validation_inputs"), golden.tensor("validation_labels"))
    networks, heads = nn.ModuleList([nn.Linear(FEATURES, count)]), nn.ModuleDict()
    networks[0].load_state_dict({name: golden.tensor(f"first_{name}") for name in ("weight", "bias")})
    data = TrainingSet(inputs, labels, count, validation)
    task: Any = TinyLearner(networks=networks, heads=heads, training_set=data, budget=budget, current_epoch=0, seed=0)
    revision.prepare(task, data)
    runner = PhaseRunner(revision.requirements.phases, budget)
    optimizer = PhaseOptimizer(
        lambda phase: build_optimizer(runner.spans[phase].budget, networks, heads, {}, torch.device("cpu"))
    )
    for task.current_epoch in range(3 * EPOCHS):
        runner.start_epoch(task, optimizer, lambda network: network)
        revision.on_epoch_start(task)
        span = runner.span(task.current_epoch)
        for row in range(TRAIN):
            batch = Batch({"weak": inputs[[row]]}, labels[[row]], torch.tensor([row]), count)
            optimizer.zero_grad()
            revision.loss(task, batch).mean().backward()
            set_schedule(optimizer, span.budget, task.current_epoch - span.schedule_start + row / TRAIN, 1.0)
            optimizer.step()
        revision.on_epoch_end(task)
        runner.end_epoch(task)
    correction: Any = heads["correction"]
    torch.testing.assert_close(revision.state["matrix"], golden.tensor("matrix"), rtol=0, atol=1e-6)
    torch.testing.assert_close(networks[0].weight, golden.tensor("weight"), rtol=0, atol=2e-6)
    torch.testing.assert_close(networks[0].bias, golden.tensor("bias"), rtol=0, atol=2e-6)
    torch.testing.assert_close(correction.values, golden.tensor("correction"), rtol=0, atol=2e-6)

"""PES against the authors' training of a small network, from the same new weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.mitigations.pes import PES
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.training.batch import Batch
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.phases import PhaseRunner
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.pes import BATCH, CLASSES, EXAMPLES, LATE_EPOCHS, LATE_RATE, RATE, Network
from tests.golden.test_t_revision import TinyLearner
from tests.golden.vectors import Golden, load_golden


class Learner(TinyLearner):
    """The parts of a task that PES uses."""

    def predict(self, inputs: Tensor) -> Tensor:
        self.networks.eval()
        scores = super().predict(inputs)
        self.networks.train()
        return scores

    def training_predictions(self) -> Tensor:
        return self.training_probabilities().argmax(1)


def load(network: nn.Module, golden: Golden, point: str) -> None:
    """Load the weights that the authors' code had at a point."""
    network.load_state_dict(kept(network, golden, point))


def kept(network: nn.Module, golden: Golden, point: str) -> dict[str, Tensor]:
    """Return the weights that the authors' code had at a point."""
    return {name: golden.tensor(f"{point}.{name}") for name in network.state_dict()}


@pytest.mark.fast
def test_all_parts_of_the_training_come_to_the_authors_weights() -> None:
    golden = load_golden("pes")
    inputs, labels = golden.tensor("inputs"), golden.tensor("labels")
    pes = PES(
        warmup_epochs=1, last_stage_epochs=LATE_EPOCHS, classifier_epochs=LATE_EPOCHS, late_learning_rate=LATE_RATE
    )
    budget = Budget(
        epochs=2 + 2 * LATE_EPOCHS, learning_rate=RATE, momentum=0.0, weight_decay=1e-4, lr_schedule="constant",
        batch_size=BATCH,
    )  # fmt: skip
    network, heads, data = Network(), nn.ModuleDict(), TrainingSet(inputs, labels, CLASSES)
    assert pes.check(network, budget, EXAMPLES) == []
    load(network, golden, "first")
    networks = nn.ModuleList([network])
    task: Any = Learner(networks=networks, heads=heads, training_set=data, budget=budget, current_epoch=0, seed=0)
    # The authors' loader keeps the order of the examples.
    task.sampler = type("Ordered", (), {"epoch_order": lambda self, epoch: torch.arange(EXAMPLES), "weights": None})()
    pes.prepare(task, data)
    runner = PhaseRunner(pes.requirements.phases, budget)
    optimizer = PhaseOptimizer(
        lambda phase: build_optimizer(runner.spans[phase].budget, networks, heads, {}, torch.device("cpu"))
    )
    starts = {1: "renewed_stage", 1 + LATE_EPOCHS: "renewed_classifier"}
    for task.current_epoch in range(budget.epochs):
        runner.start_epoch(task, optimizer, lambda network: network)
        pes.on_epoch_start(task)
        if task.current_epoch in starts:
            before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            expected = kept(network, golden, starts[task.current_epoch])
            for name, tensor in before.items():
                is_renewed = name.startswith("linear") or (name.startswith("layer4") and task.current_epoch == 1)
                if not is_renewed:
                    torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-6)
            load(network, golden, starts[task.current_epoch])
        plan = pes.plan_epoch(task)
        steps = [step.index for step in plan] if plan else list(torch.arange(EXAMPLES).split(BATCH))
        for step, index in enumerate(steps):
            batch = Batch({"weak": inputs[index]}, labels[index], index, CLASSES)
            optimizer.zero_grad()
            pes.loss(task, batch).mean().backward()
            span = runner.span(task.current_epoch)
            set_schedule(optimizer, span.budget, task.current_epoch - span.schedule_start + step / len(steps), 1.0)
            optimizer.step()
        if task.current_epoch == budget.epochs - 2:
            for name, tensor in kept(network, golden, "refined").items():
                torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=5e-6)
    assert torch.equal(torch.cat(steps), golden.tensor("selected"))
    torch.testing.assert_close(pes.state["class_weights"], golden.tensor("class_weights"), rtol=0, atol=1e-6)
    for name, tensor in kept(network, golden, "final").items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=5e-6)

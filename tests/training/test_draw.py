"""Further random examples that a mitigation draws in a training step."""

from __future__ import annotations

from typing import Any

import torch

from noisybench.config.budget import Budget
from noisybench.tasks.classification import Classification
from noisybench.training.batch import Batch
from noisybench.training.loop import LoopState
from noisybench.training.roles import LossFunction
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet


class Collector(LossFunction):
    """Draws as many examples as a batch has, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Batch] = []

    def loss(self, task: Any, batch: Batch) -> torch.Tensor:
        self.drawn.append(task.draw(5))
        return task.logits(batch.inputs).sum(1)  # type: ignore[no-any-return]


def task_with(weights: torch.Tensor | None) -> tuple[Any, Collector]:
    """A task with ten images, each of one brightness, and the mitigation that draws from them."""
    images = (20 * torch.arange(10, dtype=torch.uint8))[:, None, None, None].expand(10, 1, 8, 8).contiguous()
    collector = Collector()
    data = TrainingSet(images, torch.arange(10) % 2, num_classes=2)
    task: Any = Classification(
        Budget(network="mlp:4", epochs=2, batch_size=5), seed=0, training_set=data, stack=Stack([collector])
    )
    task.trainer = LoopState()
    task.sampler.weights = weights
    return task, collector


def drawn_in_epoch(weights: torch.Tensor | None = None, epoch: int = 0) -> list[Batch]:
    task, collector = task_with(weights)
    task.trainer.current_epoch = epoch
    task.on_train_epoch_start()
    for number, batch in enumerate(task.train_dataloader()):
        task.training_step(batch, number)
    return collector.drawn


def test_drawn_examples_have_the_inputs_and_labels_of_their_positions() -> None:
    task, _ = task_with(None)
    for batch in drawn_in_epoch():
        assert batch.index.shape == batch.observed.shape == (5,)
        assert torch.equal(batch.observed, task.training_set.targets[batch.index])
        torch.testing.assert_close(batch.inputs, task.normalize(task.training_set.inputs[batch.index]))


def test_each_step_draws_other_examples_and_an_epoch_draws_the_same_again() -> None:
    first, again, later = drawn_in_epoch(), drawn_in_epoch(), drawn_in_epoch(epoch=1)
    assert [batch.index.tolist() for batch in first] == [batch.index.tolist() for batch in again]
    indices = {tuple(batch.index.tolist()) for batch in (*first, *later)}
    assert len(indices) == len(first) + len(later)


def test_examples_that_are_left_out_are_never_drawn() -> None:
    weights = torch.tensor([0.0, 1.0] * 5)
    assert {int(index) % 2 for batch in drawn_in_epoch(weights) for index in batch.index} == {1}

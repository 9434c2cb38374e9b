"""TriNet, mean teacher and spatial label smoothing in short runs, and their selections by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from noisybench.config.budget import Budget
from noisybench.errors import UserError
from noisybench.mitigations.clslsr import CLSLSR
from noisybench.mitigations.mean_teacher import STUDENT, TEACHER, MeanTeacher
from noisybench.mitigations.trinet import TriNet, agreed_loss, agreed_pixels
from noisybench.tasks.segmentation import Segmentation
from noisybench.training.batch import Batch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, start_first_epoch, train_toy

SHORT = {"network": "unet:4", "epochs": 3, "batch_size": 8, "learning_rate": 0.005, "optimizer": "adam"}


def test_a_network_learns_from_pixels_that_both_others_keep() -> None:
    losses = [
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        torch.tensor([1.0, 2.0, 4.0, 3.0]),
        torch.tensor([4.0, 1.0, 2.0, 3.0]),
    ]
    # Kept halves: {0, 1}, {0, 1} and {1, 2}; the first two networks share {1} with the third, and the third has {0, 1}.
    found = agreed_loss(losses, agreed_pixels(losses, 0.5, None), None)
    wanted = (4 * torch.tensor([0.0, 2.0, 0.0, 0.0]) * 2 + 2 * torch.tensor([4.0, 1.0, 0.0, 0.0])) / 3
    torch.testing.assert_close(found, wanted)


def test_pixels_without_a_label_are_never_kept() -> None:
    losses = [torch.tensor([0.0, 5.0, 6.0])] * 3
    found = agreed_loss(
        losses, agreed_pixels(losses, 1.0, torch.tensor([False, True, True])), torch.tensor([False, True, True])
    )
    torch.testing.assert_close(found, torch.tensor([0.0, 5.0, 6.0]))


def test_networks_that_agree_on_no_pixel_do_not_end_the_training() -> None:
    losses = [
        torch.tensor(values, requires_grad=True) for values in ([0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    ]
    found = agreed_loss(losses, agreed_pixels(losses, 0.4, None), None)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_steps_without_agreement_are_counted_and_warned_of_once() -> None:
    mitigation = TriNet(forget_rate=0.5, ramp_epochs=1)
    task: Any = SimpleNamespace(current_epoch=0, budget=SimpleNamespace(epochs=9), training_set=None)
    mitigation.prepare(task, task.training_set)
    scores = [torch.tensor([[0.0, float(number == row)] for row in range(3)]) for number in range(3)]
    task.logits = lambda inputs, number: scores[number]
    batch = Batch({"weak": torch.zeros(1, 1)}, torch.ones(3, dtype=torch.long), torch.arange(3), num_classes=2)
    mitigation.loss(task, batch)
    mitigation.on_epoch_end(task)
    assert mitigation.diagnostics == {"agreed_fraction": 1.0, "losses_without_pixels": 0.0}
    task.current_epoch = 1
    mitigation.on_epoch_start(task)
    mitigation.loss(task, batch)  # each keeps one pixel, another one than the others
    for _ in range(2):
        mitigation.on_epoch_end(task)
    assert mitigation.diagnostics == {"agreed_fraction": 0.0, "losses_without_pixels": 3.0}
    assert [warning[:56] for warning in mitigation.warnings] == [
        "in epoch 2, a network learned nothing in 3 of 3 updates,"
    ]


def tiny_task(mitigation: Any) -> Segmentation:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    data = TrainingSet(images, (images[:, 0] > 128).to(torch.uint8), num_classes=2)
    return Segmentation(Budget(network="unet:4", epochs=4), seed=0, training_set=data, stack=Stack([mitigation]))


def test_the_teacher_starts_as_the_student_and_moves_by_one_minus_the_decay() -> None:
    mitigation = MeanTeacher(decay=0.6)
    task = tiny_task(mitigation)
    mitigation.prepare(task, task.training_set)
    teacher, student = (list(task.networks[number].parameters()) for number in (TEACHER, STUDENT))
    assert all(torch.equal(*pair) for pair in zip(teacher, student, strict=True))
    before = [weight.clone() for weight in teacher]
    with torch.no_grad():
        for weight in student:
            weight.add_(1.0)
    learner: Any = SimpleNamespace(networks=task.networks, current_epoch=3)
    mitigation.on_step_end(learner)
    for weight, old in zip(teacher, before, strict=True):
        torch.testing.assert_close(weight, old + 0.4)


def test_one_epoch_has_no_teacher() -> None:
    with pytest.raises(UserError, match="mean_teacher: the teacher is the student in the first epoch"):
        prepared_toy("mean_teacher", task="segmentation", budget={**SHORT, "epochs": 1})


def test_no_gradient_reaches_the_teacher() -> None:
    mitigation = MeanTeacher(consistency_weight=10.0)
    task = tiny_task(mitigation)
    mitigation.prepare(task, task.training_set)
    start_first_epoch(task)
    batch = next(iter(task.batches(task.plan[:1])))
    mitigation.loss(task, batch).mean().backward()
    assert all(weight.grad is None for weight in task.networks[TEACHER].parameters())
    assert all(weight.grad is not None for weight in task.networks[STUDENT].parameters())


def test_only_flagged_pixels_have_smoothed_targets() -> None:
    mitigation = CLSLSR(smoothing=0.2)
    mitigation.state["flagged"] = torch.tensor([[[False, True], [True, False]]])
    seen: list[Batch] = []
    batch = Batch({"weak": torch.zeros(3, 1)}, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]), num_classes=3)
    learner: Any = None
    mitigation.wrap_loss(learner, batch, lambda inner: (seen.append(inner), torch.zeros(3))[1])
    wanted = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(seen[0].targets.float(), wanted)


@pytest.mark.parametrize("name", ["trinet", "mean_teacher"])
def test_an_interrupted_run_ends_with_the_scores_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"task": "segmentation", "budget": SHORT}
    whole = train_toy(prepared_toy(name, **fields), tmp_path / "whole")
    train_toy(prepared_toy(name, **fields), tmp_path / "part", stop_after=1)
    resumed = train_toy(prepared_toy(name, **fields), tmp_path / "part")
    assert [row.train_loss for row in whole.rows] == [row.train_loss for row in resumed.rows]
    assert whole.rows[-1].train_loss < whole.rows[0].train_loss

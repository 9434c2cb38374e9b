"""CAL against both phases of the authors' code on a linear network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from noisybench.mitigations.cal import CAL
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.cal import BATCH, CLASSES, DECAY_EPOCH, EPOCHS, MILESTONES, RATE
from tests.golden.vectors import load_golden

pytestmark = pytest.mark.fast


def test_both_phases_are_the_authors() -> None:
    golden = load_golden("cal")
    inputs, labels = golden.tensor("inputs"), golden.tensor("labels")
    start, end, _ = MILESTONES
    mitigation = CAL(sieve_epochs=EPOCHS, warmup_epochs=start, ramp_epochs=end - start)
    data = TrainingSet(inputs, labels, CLASSES)
    weights: Tensor = torch.empty(0)
    task: Any = SimpleNamespace(
        logits=lambda batch: batch @ weights.T, training_set=data, sampler=SimpleNamespace(weights=None)
    )
    mitigation.prepare(task, data)
    for task.current_epoch in range(2 * EPOCHS):
        phase, epoch = divmod(task.current_epoch, EPOCHS)
        if epoch == 0:
            weights = golden.tensor(f"{('sieve', 'cal')[phase]}_first").requires_grad_()
        mitigation.on_epoch_start(task)
        for rows in golden.tensor("order")[task.current_epoch].split(BATCH):
            batch = Batch({"weak": inputs[rows]}, labels[rows], rows, CLASSES)
            (gradient,) = torch.autograd.grad(mitigation.loss(task, batch).mean(), weights)
            with torch.no_grad():
                weights -= RATE * 0.1 ** (epoch // DECAY_EPOCH) * gradient
        mitigation.on_epoch_end(task)
        expected = golden.tensor(f"{('sieve', 'cal')[phase]}_weights")[epoch]
        torch.testing.assert_close(weights.detach(), expected, rtol=0, atol=2e-6)
        if task.current_epoch == EPOCHS - 1:
            corrected = mitigation.corrected_labels(task, data)
            assert corrected is not None
            assert torch.equal(corrected, golden.tensor("corrected"))
            flagged = mitigation.detectors(task, data)["sieve"].flagged
            assert 0 < int(flagged.sum()) < int((mitigation.state["sieve"] > -8).sum())
    # Classes in which all labels agree have no covariance, and no mean loss in their code.
    is_noisy = mitigation.state["transition"].amax(1) < 1
    assert int(is_noisy.sum()) == 4
    found, expected = mitigation.state["mean_loss"][is_noisy], golden.tensor("mean_loss")[is_noisy]
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_the_transition_is_counted_without_examples_that_another_mitigation_leaves_out() -> None:
    mitigation, data = CAL(sieve_epochs=1), TrainingSet(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]), 2)
    task: Any = SimpleNamespace(
        training_set=data, current_epoch=1, sampler=SimpleNamespace(weights=torch.tensor([2.0, 2.0, 0.0, 0.0]))
    )
    mitigation.prepare(task, data)
    mitigation.state["labels"] = torch.tensor([0, 0, 1, 1])
    mitigation.on_epoch_start(task)
    assert mitigation.state["transition"].tolist() == [[0.5, 0.5], [0.0, 0.0]]
    assert mitigation.state["shares"].tolist() == [1, 0]

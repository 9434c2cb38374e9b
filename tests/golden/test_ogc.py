"""Thresholds and losses of optimized gradient clipping against the authors' code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from noisybench.config.budget import Budget
from noisybench.mitigations.ogc import OGC, fit_mixture
from tests.golden.generators.ogc import BATCH, CLASSES, INTERVAL, QUEUE, RATES, STEPS, STEPS_PER_EPOCH
from tests.golden.test_losses import batch_of
from tests.golden.vectors import load_golden


@pytest.mark.fast
def test_losses_and_thresholds_are_the_authors() -> None:
    golden, mitigation = load_golden("ogc"), OGC(interval=INTERVAL, queue_size=QUEUE)
    budget = Budget(epochs=len(RATES), learning_rate=0.1, lr_schedule="multistep", lr_milestones=(2, 3), lr_gamma=0.1)
    task: Any = SimpleNamespace(
        budget=budget, current_epoch=0, sampler=SimpleNamespace(steps_per_epoch=STEPS_PER_EPOCH)
    )
    mitigation.prepare(task, None)  # type: ignore[arg-type]
    for step in range(STEPS):
        task.current_epoch = step // STEPS_PER_EPOCH
        if step % STEPS_PER_EPOCH == 0:
            mitigation.on_epoch_start(task)
        labels = golden.tensor("labels")[step]
        logits = golden.tensor("logits")[step].requires_grad_()
        task.logits = lambda inputs, logits=logits: logits
        loss = mitigation.loss(task, batch_of(labels, CLASSES))
        (gradient,) = torch.autograd.grad(loss.mean(), logits)
        assert loss.mean().item() == pytest.approx(golden["loss"][step], rel=0, abs=1e-6)
        torch.testing.assert_close(gradient, golden.tensor("gradient")[step], rtol=0, atol=1e-7)
        assert float(mitigation.state["threshold"]) == pytest.approx(golden["threshold"][step], rel=1e-6)
        if (step + 1) % INTERVAL == 0 and (step + 1) * BATCH >= QUEUE:
            means, variances = fit_mixture(mitigation.state["losses"])
            torch.testing.assert_close(means, golden.tensor("means")[step].float(), rtol=0, atol=5e-6)
            torch.testing.assert_close(variances, golden.tensor("variances")[step].float(), rtol=0, atol=5e-6)
        if (step + 1) % STEPS_PER_EPOCH == 0:
            mitigation.on_epoch_end(task)
    assert len(set(golden["threshold"].tolist())) == 7, "without clipping, and after each of six estimates"

"""Changes of gradients and code after every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisybench.training.roles import GradientTransform, StepCallback
from noisybench.training.stack import Stack
from tests.helpers import flat_weights
from tests.training.test_lightning import fit, toy_task

pytestmark = pytest.mark.fast

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr_schedule": "constant", "learning_rate": 1.0}


class Recorded(StepCallback):
    """Keeps the weights after every step."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.after: list[torch.Tensor] = []

    def on_step_end(self, task: Any) -> None:
        self.after.append(flat_weights(task.networks))


class Tripled(Recorded, GradientTransform):
    """Multiplies gradients by three as well."""

    def transform_gradients(self, task: Any) -> None:
        for parameter in task.networks.parameters():
            parameter.grad.mul_(3)


def steps(hook: Recorded, clipping: float | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the initial weights and those after each of two steps."""
    task = toy_task("cross_entropy", **PLAIN, gradient_clipping=clipping)
    task.stack = Stack([hook])
    before = flat_weights(task.networks)
    fit(task, max_epochs=1, limit_train_batches=2)
    return before, hook.after


def test_changed_gradients_are_those_of_the_step_and_every_step_is_followed() -> None:
    before, plain = steps(Recorded())
    _, tripled = steps(Tripled())
    assert len(plain) == len(tripled) == 2
    torch.testing.assert_close(tripled[0] - before, 3 * (plain[0] - before), rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_after_they_are_changed() -> None:
    before, after = steps(Tripled(), clipping=0.01)
    assert (after[0] - before).norm().item() == pytest.approx(0.01, rel=1e-3)

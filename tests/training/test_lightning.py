"""A task trains in any Lightning `Trainer`, to the weights of noisybench's own loop."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from noisybench.config.registry import get_entry
from noisybench.runs.training import training_set_of
from noisybench.training.task import Task
from tests.helpers import flat_weights, prepared_toy, train_toy

PHASES = {
    "name": "t_revision", "warmup_epochs": 1, "revision_epochs": 1, "implausible": "warn", "continue_from": "best",
    "revision_learning_rate": 0.01,
}  # fmt: skip
"""Three phases of one epoch each."""

STACKS: list[Any] = [
    "cross_entropy",
    "elr",
    "mixup",
    "sop",
    {"name": "cdr", "noise_rate": 0.3},
    "elr_plus",
    {"name": "volminnet", "optimizer": "adam"},
    PHASES,
    {"name": "pencil", "warmup_epochs": 1, "final_epochs": 1},
    {"name": "pes", "warmup_epochs": 1, "last_stage_epochs": 1, "classifier_epochs": 0, "late_learning_rate": 0.01},
    {"name": "co_teaching", "forget_rate": 0.2},
    {"name": "dividemix", "warmup_epochs": 1},
]


class Counter(Callback):
    """Counts the optimizer steps of every epoch, and keeps their losses."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps.append(0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any) -> None:
        self.steps[-1] += 1
        self.losses.append(outputs["loss"].item())


def toy_task(stack: Any, **budget: Any) -> Task:
    prepared = prepared_toy(stack, budget=budget)
    spec = prepared.spec
    task: Task = get_entry("tasks", spec.task.name).load_class()(
        spec.budget, spec.seed, training_set_of(prepared), prepared.stack, **spec.task.parameters
    )
    return task


def fit(task: Task, *callbacks: Callback, checkpoint: Path | None = None, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        **{**quiet, "max_epochs": 3, "accelerator": "cpu", "enable_checkpointing": False, **options},
        callbacks=list(callbacks),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(task, ckpt_path=checkpoint)
    return trainer


def assert_same_weights(task: Task, folder: Path, stack: Any, **budget: Any) -> None:
    recorder = train_toy(prepared_toy(stack, budget=budget), folder)
    assert recorder.rows[-1].train_loss == task.train_loss
    weights = {**task.networks.state_dict(), **task.heads.state_dict()}
    assert weights.keys() == recorder._final["weights"].keys()
    for name, tensor in recorder._final["weights"].items():
        assert torch.equal(weights[name].cpu(), tensor), name


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack if isinstance(stack, str) else stack["name"])
def test_a_trainer_reaches_the_weights_of_the_own_loop(stack: Any, tmp_path: Path) -> None:
    task, counter = toy_task(stack), Counter()
    fit(task, counter)
    assert len(counter.steps) == 3
    is_pes = isinstance(stack, dict) and stack["name"] == "pes"
    # In its last stage, pes trains on the few examples that it selects.
    assert counter.steps[-1] == len(task.plan) > (0 if is_pes else 1), "a callback sees every optimizer step"
    assert counter.steps[0] > 1
    assert sum(counter.losses[-counter.steps[-1] :]) / counter.steps[-1] == pytest.approx(task.train_loss)
    assert_same_weights(task, tmp_path, stack)


@pytest.mark.parametrize("stack", ["elr", PHASES], ids=["elr", "phases"])
def test_a_trainer_resumes_from_its_checkpoint(stack: Any, tmp_path: Path) -> None:
    first = fit(toy_task(stack), max_epochs=2)
    first.save_checkpoint(tmp_path / "two_epochs.ckpt")
    resumed = toy_task(stack)
    fit(resumed, checkpoint=tmp_path / "two_epochs.ckpt")
    assert_same_weights(resumed, tmp_path / "own", stack)


def test_the_schedule_sets_the_learning_rate_of_every_step() -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    task = toy_task("cross_entropy")
    fit(task, Rates())
    assert rates[0] == task.budget.learning_rate
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


def test_clipped_gradients_give_the_same_weights_in_both_loops_and_bound_every_step(tmp_path: Path) -> None:
    budget = {"gradient_clipping": 0.01, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
    stack: Any = {"name": "co_teaching", "forget_rate": 0.2}
    task = toy_task(stack, **budget, lr_schedule="constant")
    before = [flat_weights(network) for network in task.networks]
    fit(task, max_epochs=1, limit_train_batches=1)
    for start, network in zip(before, task.networks, strict=True):
        # Each network has a norm of its own: without momentum, a step is the learning rate times the clipped gradient.
        assert (flat_weights(network) - start).norm().item() == pytest.approx(0.01, rel=1e-3)
    task = toy_task(stack, **budget)
    fit(task)
    assert_same_weights(task, tmp_path, stack, **budget)

"""Tasks, as Lightning modules: `training_step` is one optimizer step under the stack of mitigations.

A task trains in any `pytorch_lightning.Trainer`, with its callbacks and loggers, and to the same weights as in
noisybench's own loop (`noisybench.training.loop`), which drives the same hooks.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.parameters import schema_of, set_parameters
from noisybench.errors import UserError
from noisybench.nn.cuda_graphs import CapturedCalls
from noisybench.nn.joint_optimizer import PhaseOptimizer
from noisybench.training.accumulation import accumulate
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryRun
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.distributed import GradientSync
from noisybench.training.divergence import divergence_error, has_finite_weights
from noisybench.training.mitigation import BatchLoss
from noisybench.training.optimizers import build_optimizer, set_schedule
from noisybench.training.phases import PhaseRunner
from noisybench.training.sampler import EpochSampler
from noisybench.training.stack import Stack
from noisybench.training.task_contract import TaskContract
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import stable_hash, torch_seed


class Task(TaskContract):
    """Networks that train under a stack of mitigations, one optimizer step at a time.

    Args:
        budget: network, optimizer, schedule and augmentation.
        seed: seed of the run.
        training_set: inputs and observed targets.
        stack: mitigations.
        settings: parameters of the task.

    Attributes:
        settings: parameters of the task.
        sampler: order of the training examples, and their weights.
        phases: phases of the run, which has one by default.
        networks: as many networks as the stack requires, each initialized from a stream of its own.
        heads: further modules that mitigations train, by name.
        active_network: number of the network that `logits` uses by default.
        forwards: the networks as they are called: compiled if the budget says so.
        pretrained: weights that the networks started from, by name.
        generator: random numbers of the current epoch on the training device.
        rng: random numbers of the current epoch on the host.
        plan: batches of the current epoch.
        train_loss: mean training loss of the latest epoch.
        train_seconds: seconds of training steps since this number was last reset.
        examples_seen: examples trained on since this number was last reset.
        num_workers: processes that augment examples, in tasks that support them.
        captured: calls of networks that are replayed as CUDA graphs on a GPU.
        auxiliary_cache: results of auxiliary runs, and their cost.
        cache: predictions of the current weights.

    Example:
        >>> from noisybench.tasks.classification import Classification
        >>> images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
        >>> data = TrainingSet(images, torch.arange(8) % 2, num_classes=2)
        >>> task = Classification(Budget(network="mlp:4", epochs=1, batch_size=4), seed=0, training_set=data, stack=Stack([]))
        >>> from pytorch_lightning import Trainer
        >>> quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        >>> trainer = Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
        >>> trainer.fit(task)
        >>> task.predict(images).shape
        torch.Size([8, 2])
    """

    generator: torch.Generator
    rng: np.random.Generator

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__()
        schema = schema_of(type(self))
        self.settings, problems = schema.validate(settings, "task")
        if problems:
            raise UserError(*problems)
        set_parameters(self, schema, self.settings)
        self.budget, self.seed, self.training_set, self.stack = budget, seed, training_set, stack
        self.sampler = EpochSampler(training_set, budget.batch_size, seed, stack.requirements.keep_step_count)
        self.phases = PhaseRunner(stack.requirements.phases, budget)
        self.networks, self.heads, self.active_network = nn.ModuleList(), nn.ModuleDict(), 0
        for number in range(stack.requirements.networks):
            # A stream per network, so that the weights of the first do not depend on how many there are.
            torch.manual_seed(torch_seed("initialisation", seed, number))
            self.networks.append(self.build_network())
        self.forwards = _forwards(self.networks, budget)
        self.pretrained: dict[str, Tensor] = {}
        self.auxiliary_cache = AuxiliaryCache()
        self.num_workers = 0
        self.captured = CapturedCalls()
        self.plan: list[BatchPlan] = []
        self.train_loss, self.train_seconds, self.examples_seen = float("nan"), 0.0, 0
        self.cache: dict[Any, Any] = {}
        self._is_set_up = self._epoch_has_started = False
        self._batch_loss: BatchLoss
        self._gradient_sync: GradientSync | None = None
        self._generator: torch.Generator | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    # Before training

    def setup(self, stage: str = "fit") -> None:
        """Move everything to the training device, and build what the task and its stack train.

        Lightning calls this once before it restores a checkpoint, and so does noisybench's loop.

        Raises:
            Interrupted: the user asked to stop during an auxiliary run.
        """
        if stage != "fit" or self._is_set_up:
            return
        # A mitigation may plan epochs of different lengths, which a Trainer asks for when it loads the batches.
        setattr(self.trainer, "reload_dataloaders_every_n_epochs", 1)  # noqa: B010, Lightning declares it elsewhere
        self.to(self.trainer.strategy.root_device)
        self.training_set.move_to(self.device)
        # Pre-trained weights come first, then the models built from them, then the state that may read both.
        self.prepare()
        self.build_models()
        for mitigation in self.stack.mitigations:
            mitigation.prepare(self, self.training_set)
        self._is_set_up = True

    def load_pretrained(self, weights: dict[str, Tensor]) -> None:
        """Load pre-trained weights, by name, into every network; other weights stay as initialized."""
        self.pretrained = weights
        for network in self.networks:
            # A merged dictionary loads strictly: unknown names are errors, which `strict=False` would hide.
            network.load_state_dict({**network.state_dict(), **weights})

    def build_models(self) -> None:
        """Replace every network by the model that the stack builds from it."""
        for number, network in enumerate(self.networks):
            torch.manual_seed(torch_seed("adaptation", self.seed, number))
            # Compiled forward functions still refer to the replaced networks, so that they are rebuilt below.
            self.networks[number] = self.stack.build_model(network).to(self.device)
        self.forwards = _forwards(self.networks, self.budget)

    def add_head(self, name: str, build: Callable[[], nn.Module]) -> None:
        """Train a further module beside the networks, initialized from a stream of its own."""
        torch.manual_seed(torch_seed("head", self.seed, name))
        self.heads[name] = build().to(self.device)

    def auxiliary(self, run: AuxiliaryRun) -> dict[str, Tensor]:
        """Return the result of an auxiliary run, which is trained at most once and charged to every run that uses it."""
        return self.auxiliary_cache.get_or_train(run)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the networks, by the budget and the phases, with those of heads that have their own."""
        own, spans = self.stack.requirements.head_optimizers, self.phases.spans

        def build(phase: int) -> torch.optim.Optimizer:
            return build_optimizer(spans[phase].budget, self.networks, self.heads, own, self.device)

        self._optimizer = PhaseOptimizer(build) if len(spans) > 1 else build(0)
        return self._optimizer

    def on_fit_start(self) -> None:
        """Move the stack's state to the training device, and select examples unless a checkpoint holds the selection."""
        for mitigation in self.stack.mitigations:
            mitigation.state = {name: tensor.to(self.device) for name, tensor in mitigation.state.items()}
        if self.sampler.weights is None:
            self.sampler.weights = self.stack.sample_weights(self, self.training_set)
        if self.sampler.weights is not None:
            self.sampler.weights = self.sampler.weights.to(self.device)

    # Each epoch

    def train_dataloader(self) -> EpochBatches:
        """Return the batches of the current epoch."""
        return EpochBatches(self)

    def start_epoch(self) -> None:
        """Seed the random streams of the current epoch, and plan its batches; once per epoch.

        All streams are named by the epoch, so that a resumed run draws the same numbers.
        """
        if self._epoch_has_started:
            return
        self.phases.start_epoch(self, self._optimizer, self.stack.build_model)
        self.stack.on_epoch_start(self)
        self.invalidate_cache()
        self.networks.train()
        self.heads.train()
        names = (self.seed, self.current_epoch)
        # One object for all epochs, since captured calls keep drawing from the object that they were captured with.
        if self._generator is None or self._generator.device != self.device:
            self._generator = torch.Generator(self.device)
        self.generator = self._generator.manual_seed(torch_seed("augmentation", *names))
        self.rng = np.random.default_rng(stable_hash("mitigation", *names))
        self._batch_loss = self.stack.loss_function(self)
        # After the streams have been seeded, because a planner may draw from them.
        self.plan = self.stack.plan_epoch(self) or self.sampler.plan(self.current_epoch)
        # Summed on the device, since reading the loss would make the host wait in every step.
        self._loss_sum = torch.zeros((), device=self.device)
        self._epoch_has_started, self._step = True, 0
        rank, world_size = self.global_rank, self.trainer.world_size
        self.captured.start_epoch(self.networks)
        if world_size > 1 or (self.budget.gradient_accumulation or 1) > 1:
            # Graphs of several processes would have to contain their communication, and those of parts keep the memory of
            # the whole batch.
            self.captured.enabled = False
        if world_size > 1:
            self._gradient_sync = GradientSync(self, self.stack.mitigations, rank, world_size)

    def on_train_epoch_start(self) -> None:
        """Start the epoch, and seed the global random numbers that dropout and similar layers draw."""
        self.start_epoch()
        # Processes with different examples need different dropout masks; rank 0 keeps the seed of a single process.
        rank = self.global_rank
        torch.manual_seed(torch_seed("network", self.seed, self.current_epoch, *([rank] if rank else [])))
        self._epoch_start = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of one optimizer step, under the stack of mitigations."""
        self._step = batch_idx

        def mean_loss(part: Batch) -> Tensor:
            if self._gradient_sync is None:
                return self.sampler.mean_loss(self._batch_loss(part), part)
            return self._gradient_sync.loss(self._batch_loss, part)

        parts = self.budget.gradient_accumulation or 1
        with self.captured.step(), self.autocast():
            if parts == 1:
                loss = mean_loss(batch)
            else:
                loss = accumulate(mean_loss, batch, parts, [*self.networks.parameters(), *self.heads.parameters()])
        # Detached, because the sum would otherwise keep the graphs of all steps in memory.
        self._loss_sum += loss.detach()
        return loss

    def on_after_backward(self) -> None:
        """Sum the gradients of all processes, if several train the run; let mitigations change them, and clip them."""
        if self._gradient_sync is not None:
            self._gradient_sync.sum_gradients()
        self.stack.transform_gradients(self)
        if self.budget.gradient_clipping is not None:
            # After the sum over processes, which all clip the same gradient. Networks of several are independent, so that
            # each has a norm of its own. The factor stays on the device, so that the host does not wait.
            # Heads with an optimizer of their own are not clipped: the budget says nothing about their steps.
            own = self.stack.requirements.head_optimizers
            shared = nn.ModuleList(head for name, head in self.heads.items() if name not in own)
            for module in (*self.networks, *([shared] if shared else [])):
                torch.nn.utils.clip_grad_norm_(module.parameters(), self.budget.gradient_clipping)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step by the schedule of the budget or of the phase."""
        # A fraction of the planned epoch, so that plans of different length follow the same schedule.
        span = self.phases.span(self.current_epoch)
        epoch = self.current_epoch - span.schedule_start + self._step / len(self.plan)
        set_schedule(optimizer, span.budget, epoch, self.stack.requirements.lr_multiplier)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let mitigations follow the optimizer step."""
        self.stack.on_step_end(self)

    def on_train_epoch_end(self) -> None:
        """Compute the mean loss, and let mitigations end the epoch.

        Raises:
            TrainingError: the loss or the weights are not finite.
        """
        if self._gradient_sync is not None:
            self._gradient_sync.sync_state(self._loss_sum)
        # The only point of an epoch at which the host waits for the device.
        self.train_loss = self._loss_sum.item() / len(self.plan)
        self.train_seconds += time.perf_counter() - self._epoch_start
        self.examples_seen += sum(len(step.index) for step in self.plan)
        self._epoch_has_started = False
        self.invalidate_cache()
        # Once per epoch, on the sum: one NaN or infinite step makes it NaN or infinite as well.
        if not math.isfinite(self.train_loss):
            raise divergence_error(self.stack, self.current_epoch, f"the training loss became {self.train_loss}")
        # The loss of a step precedes its update, so that it says nothing about that of the last one.
        if not has_finite_weights([self.networks, self.heads]):
            raise divergence_error(
                self.stack, self.current_epoch, "the weights became infinite or NaN in the last step"
            )
        self.stack.on_epoch_end(self)
        self.phases.end_epoch(self)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager for forward passes in the budget's precision.

        Every call converts the weights. A cache of converted weights would add the gradients of several calls in
        bfloat16, and a replayed call could not use it.
        """
        if self.budget.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)

    def invalidate_cache(self) -> None:
        """Discard predictions that were computed with earlier weights."""
        self.cache = {}

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the stack's state, and the selection of examples: repeating it could cost as much as training."""
        weights = self.sampler.weights
        checkpoint["sample_weights"] = None if weights is None else weights.cpu()
        checkpoint["best"] = self.phases.best
        checkpoint["mitigations"] = [mitigation.state_dict() for mitigation in self.stack.mitigations]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the stack's state and the selection of examples."""
        self.sampler.weights, self.phases.best = checkpoint["sample_weights"], checkpoint["best"]
        for mitigation, state in zip(self.stack.mitigations, checkpoint["mitigations"], strict=True):
            mitigation.load_state_dict(state)


def _forwards(networks: nn.ModuleList, budget: Budget) -> list[Any]:
    """Return networks as they are called: compiled if the budget says so."""
    return [torch.compile(network) if budget.compile else network for network in networks]


class EpochBatches:
    """The batches of a task's current epoch, drawn one by one in the order of training.

    A `Trainer` asks for their number before it announces the epoch; this starts the epoch, since a mitigation may plan it.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._epoch = task, task.current_epoch

    def __len__(self) -> int:
        # After the last epoch, a Trainer asks again, which must not start another one.
        if self._task.current_epoch == self._epoch:
            self._task.start_epoch()
        return len(self._task.plan)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: the plan is read at the first batch, not when a Trainer only checks that this can be iterated.
        yield from self._task.batches(self._task.plan)

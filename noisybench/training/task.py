"""The contract of tasks, and the training loop that all of them share.

An epoch is one Lightning step with manual optimisation: the loop over batches inside it costs as little as a bare
PyTorch loop, while fitting, devices, callbacks and checkpoints stay Lightning's.
"""

from __future__ import annotations

import abc
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning
import torch
from torch import Tensor, nn

from noisybench.config.parameters import schema_of, set_parameters
from noisybench.config.spec import Budget, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.errors import TrainingError, UserError
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryRun
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.distributed import GradientSync
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Outputs
from noisybench.training.sampler import EpochSampler
from noisybench.training.schedule import learning_rate_at
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import stable_hash, torch_seed

LARGEST_PORTION = 1000
"""Of inputs that are evaluated at a time."""


class Task(pytorch_lightning.LightningModule, abc.ABC):
    """Contract of a task: its networks, plain objective and predictions.

    Parameters are declared as in every component; they are part of a cell, so that runs that differ in one are not
    compared.

    Attributes:
        settings: the parameters.
        pretrained: weights that the networks started from, by name.
        networks: as many as the stack asks for, each initialised from its own stream.
        heads: further modules that mitigations train, by name.
        active_network: the network that `logits` uses where none is named.
        training_set: what mitigations may see.
        generator: random numbers of the present epoch on the training device.
        rng: random numbers of the present epoch on the host, where a device would have to be waited for.
    """

    evaluator: ClassVar[type[Evaluator]]
    """Who scores its runs against the truth."""
    compatible_with: ClassVar[str | None] = None
    """Another task whose datasets, noise models and mitigations serve this one as well."""

    generator: torch.Generator
    rng: np.random.Generator
    supports_ddp: ClassVar[bool] = False
    """Whether a run may share its batches among several devices: views are tensors with a row per input."""
    num_workers = 0
    """Processes that load and augment, where a task has use for some."""

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__()
        schema = schema_of(type(self))
        self.settings, problems = schema.validate(settings, "task")
        if problems:
            raise UserError(*problems)
        set_parameters(self, schema, self.settings)
        self.automatic_optimization = False
        self.budget, self.seed, self.training_set, self.stack = budget, seed, training_set, stack
        self.networks = nn.ModuleList()
        self.heads = nn.ModuleDict()
        self.active_network = 0
        for number in range(stack.requirements.networks):
            torch.manual_seed(torch_seed("initialisation", seed, number))
            self.networks.append(self.build_network())
        if budget.channels_last:
            self.networks.to(memory_format=torch.channels_last)
        self.forwards: list[Any] = []
        self._compile()
        self.sampler = EpochSampler(training_set, budget.batch_size, seed, stack.requirements.keep_step_count)
        self.train_loss = float("nan")
        self.train_seconds = 0.0
        self.examples_seen = 0
        self._outputs: dict[int, Outputs] = {}
        self._epoch_alone = 0
        self.pretrained: dict[str, Tensor] = {}
        self.auxiliaries: AuxiliaryCache | None = None

    @classmethod
    def example_input(cls, dataset: Dataset) -> Tensor | None:
        """What a network is tried with before training, without values; None where `check_network` says all."""
        return torch.empty(1, *dataset.train.inputs.shape[1:])

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Problems in this run, found before anything is trained; the dataset has the label set applied."""
        return []

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """Problems of this run with one of its networks, without values (on the meta device)."""
        return []

    def prepare(self) -> None:
        """Fetch or train the weights that the networks start from, if any: `pretrained`. Called before the stack adapts them."""

    def load_pretrained(self, weights: dict[str, Tensor]) -> None:
        """Give every network some pre-trained weights, by name; the rest stays as initialised."""
        self.pretrained = weights
        for network in self.networks:
            network.load_state_dict({**network.state_dict(), **weights})

    def adapt(self) -> None:
        """Have the stack make of every network the one that is trained."""
        for number, network in enumerate(self.networks):
            torch.manual_seed(torch_seed("adaptation", self.seed, number))
            self.networks[number] = self.stack.build_model(network).to(self.device)
        self._compile()

    def _compile(self) -> None:
        self.forwards = [torch.compile(each) if self.budget.compile else each for each in self.networks]

    def final_diagnostics(self, inputs: Any) -> dict[str, float]:
        """Numbers about what the networks make of test inputs at the end of training, for the row; no targets."""
        return {}

    @abc.abstractmethod
    def build_network(self) -> nn.Module:
        """One freshly initialised network of the budget."""

    @abc.abstractmethod
    def logits(self, inputs: Any, network: int | None = None) -> Tensor:
        """(B, C) scores of one network, by default the active one, for prepared inputs."""

    def features_and_logits(self, inputs: Tensor, network: int) -> tuple[Tensor, Tensor]:
        """(B, F) inputs of a network's classifier, and its (B, C) scores; where examples have one class."""
        raise NotImplementedError

    @abc.abstractmethod
    def default_loss(self, batch: Batch) -> Tensor:
        """(B,) nats per sample without any mitigation."""

    def features_of(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """(B, F) inputs of any network's classifier for prepared inputs; where examples have one class."""
        raise NotImplementedError

    @abc.abstractmethod
    def normalize(self, images: Tensor) -> Tensor:
        """Raw inputs, augmented or not, as networks take them, on the training device."""

    @abc.abstractmethod
    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Augmented batches of the training set, one for each step, on the training device."""

    def predict(self, inputs: Any) -> Tensor:
        """(N, C) class probabilities of the deployed prediction, in evaluation mode, without augmentation.

        Where examples have one class; else probabilities are taken portion by portion.
        """
        raise NotImplementedError

    def evaluate(self, inputs: Any, network: int, stage: int | None = None) -> Outputs:
        """What one network says of some inputs, in evaluation mode, without augmentation; where examples have one class.

        Args:
            inputs: unprepared.
            network: its number.
            stage: also collect this stage's pooled outputs.
        """
        raise NotImplementedError

    def eval_batch_size(self, inputs: Any) -> int:
        """How many of (N, C, H, W) inputs to evaluate at a time: what fits a processor's cache, or fills a GPU."""
        size = math.prod(inputs.shape[1:])
        return LARGEST_PORTION if self.device.type != "cpu" else max(64, min(LARGEST_PORTION, 400_000 // size))

    def training_outputs(self, network: int) -> Outputs:
        """What a network says of the training set; computed once after each epoch and shared by all who ask."""
        if network not in self._outputs:
            self._outputs[network] = self.evaluate(
                self.training_set.inputs, network, self.stack.requirements.feature_stage
            )
        return self._outputs[network]

    def training_probabilities(self) -> Tensor:
        """(N, C) deployed predictions for the training set."""
        return torch.stack([self.training_outputs(each).probabilities for each in self.deployed_networks]).mean(0)

    def predict_batches(self, inputs: Any) -> Iterator[tuple[slice, Tensor]]:
        """(B, C, …) class probabilities of the deployed prediction, in evaluation mode, portion by portion.

        Where examples have many labels, so that those of all would not fit in memory.
        """
        raise NotImplementedError

    def training_predictions(self) -> Tensor:
        """Like the observed targets, the classes that the deployed prediction gives the training set."""
        return self.training_probabilities().argmax(1)

    def training_label_quality(self) -> Tensor:
        """Like the observed targets, the deployed prediction's probability of each."""
        targets = self.training_set.targets
        return self.training_probabilities().gather(1, targets[:, None]).squeeze(1)

    @property
    def deployed_networks(self) -> range:
        """Numbers of the networks whose mean is the deployed prediction: the first alone, or all."""
        return range(len(self.networks) if self.stack.requirements.ensemble else 1)

    def invalidate_cache(self) -> None:
        """Forget outputs that were computed with earlier weights."""
        self._outputs = {}

    def auxiliary(self, run: AuxiliaryRun) -> dict[str, Tensor]:
        """The result of an auxiliary run; trained once, charged to every run that asks for it."""
        assert self.auxiliaries is not None, "the runner provides it before mitigations are prepared"
        return self.auxiliaries.get_or_train(run)

    def add_head(self, name: str, make: Callable[[], nn.Module]) -> None:
        """Train a further module, initialised from its own stream, beside the networks."""
        torch.manual_seed(torch_seed("head", self.seed, name))
        self.heads[name] = make().to(self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The budget's optimiser over all networks together; each step is elementwise, so they do not interact."""
        budget, parameters = self.budget, [*self.networks.parameters(), *self.heads.parameters()]
        common: dict[str, Any] = {"lr": budget.learning_rate, "weight_decay": budget.weight_decay}
        if budget.optimizer == "sgd":
            return torch.optim.SGD(parameters, momentum=budget.momentum, nesterov=budget.nesterov, **common)
        kind = torch.optim.Adam if budget.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, **common)

    def on_fit_start(self) -> None:
        """Bring the stack's state to the training device, and select examples unless that was restored."""
        for mitigation in self.stack.mitigations:
            mitigation.state = {name: tensor.to(self.device) for name, tensor in mitigation.state.items()}
        if self.sampler.weights is None:
            self.sampler.weights = self.stack.sample_weights(self, self.training_set)
        if self.sampler.weights is not None:
            self.sampler.weights = self.sampler.weights.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the stack's state, and the selection: making it anew could cost as much as training."""
        checkpoint["selection"] = None if self.sampler.weights is None else self.sampler.weights.cpu()
        checkpoint["mitigations"] = [each.state_dict() for each in self.stack.mitigations]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the stack's state and the selection from the checkpoint.

        Raises:
            RunFailed: an earlier version has written it, which kept the stack's state elsewhere.
        """
        if "mitigations" not in checkpoint:
            raise TrainingError(
                "its checkpoint is of an earlier version; delete its folder in .noisybench/runs, and it starts anew"
            )
        self.sampler.weights = checkpoint["selection"]
        for mitigation, state in zip(self.stack.mitigations, checkpoint["mitigations"], strict=True):
            mitigation.load_state_dict(state)

    @property
    def current_epoch(self) -> int:
        """Number of the present epoch, from 0."""
        return self._epoch_alone if self._trainer is None else super().current_epoch

    def on_train_epoch_start(self) -> None:
        """Start every random stream of this epoch from its name, so that a resumed run draws the same."""
        self.stack.on_epoch_start(self)
        self.invalidate_cache()
        self.networks.train()
        self.heads.train()
        names = (self.seed, self.current_epoch)
        self.generator = torch.Generator(self.device).manual_seed(torch_seed("augmentation", *names))
        self.rng = np.random.default_rng(stable_hash("mitigation", *names))
        rank = self.place[0]
        torch.manual_seed(torch_seed("network", *names, *([rank] if rank else [])))  # dropout and the like

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Train one epoch.

        Raises:
            RunFailed: the loss is not finite.
        """
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        self._train_epoch(optimizer)

    def train_alone(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Train one epoch outside Lightning, exactly as inside: for the networks of auxiliary runs.

        Args:
            epoch: its number, from 0; it decides the learning rate and all random numbers.
            optimizer: from `configure_optimizers`.

        Raises:
            RunFailed: the loss is not finite.
        """
        self._epoch_alone = epoch
        self.on_train_epoch_start()
        self._train_epoch(optimizer)

    @property
    def place(self) -> tuple[int, int]:
        """Number of this process and how many there are, each with a device."""
        return (0, 1) if self._trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _train_epoch(self, optimizer: torch.optim.Optimizer) -> None:
        objective = self.stack.loss_function(self)
        plan = self.stack.plan_epoch(self) or self.sampler.plan(self.current_epoch)
        steps = len(plan)
        total = torch.zeros((), device=self.device)
        start = time.perf_counter()
        budget, epoch = self.budget, self.current_epoch
        shares = GradientSync(self, self.stack.mitigations, *self.place) if self.place[1] > 1 else None
        for step, each in enumerate(self.batches(plan)):
            for group in optimizer.param_groups:
                group["lr"] = self.stack.requirements.lr_multiplier * learning_rate_at(budget, epoch + step / steps)
            with self.autocast():
                loss = self.sampler.mean_loss(objective(each), each) if shares is None else shares.loss(objective, each)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            if shares is not None:
                shares.sum_gradients()
            optimizer.step()
            total += loss.detach()
        if shares is not None:
            shares.sync_state(total)
        # The one point of the epoch at which the host waits for the device.
        self.train_loss = total.item() / steps
        self.train_seconds += time.perf_counter() - start
        self.examples_seen += sum(len(each.index) for each in plan)
        self.invalidate_cache()
        if not math.isfinite(self.train_loss):
            raise TrainingError(
                f"the training loss became {self.train_loss} in epoch {self.current_epoch}; "
                "lower budget.learning_rate or give budget.warmup_epochs"
            )
        self.stack.on_epoch_end(self)

    def mean_loss(self, losses: Tensor, batch: Batch) -> Tensor:
        """What is minimised: the weighted mean of (B,) nats per sample, over those that have a label."""
        if self.sampler.weights is not None:
            # An example's weight is that of all its labels.
            losses = (
                losses * self.sampler.weights[batch.index // (self.training_set.num_labels // len(self.training_set))]
            )
        return (
            losses.mean()
            if batch.has_label is None
            else (losses * batch.has_label).sum() / batch.has_label.sum().clamp_min(1)
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of one epoch: as many as all examples fill, whatever was selected, unless the stack differs."""
        return self._batches_of(len(self.training_set) if self.stack.requirements.keep_step_count else self._kept)

    @property
    def _kept(self) -> int:
        """Number of examples that take part in training."""
        return len(self.training_set) if self.sampler.weights is None else int((self.sampler.weights > 0).sum())

    def _batches_of(self, count: int) -> int:
        full, rest = divmod(count, self.budget.batch_size)
        # A single left-over example has no batch statistics.
        return max(1, full + (rest > 1))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The budget's precision for a forward pass.

        Entered anew in every step: inside one context torch caches the converted weights, which would go on being
        used after the optimiser has changed them.
        """
        if self.budget.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

"""The part of a task that mitigations read, from a LightningModule and a dataset of the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from noisybench.data.targets import IGNORED
from noisybench.errors import UserError, show
from noisybench.integrations._batch_checks import check_values
from noisybench.integrations._learner import OpenEnd, flatten_scores, make_batch
from noisybench.integrations._lightning_items import as_targets, read_targets, split_batch
from noisybench.integrations._loss_helpers import Indexed
from noisybench.integrations._stacks import needs_positions
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.mitigation import public_name
from noisybench.training.sampler import EpochSampler
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.numbers import as_integer
from noisybench.utils.seeds import stable_hash, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class LightningLearner:
    """A learner whose only network is a user's LightningModule.

    Args:
        module: the module.
        stack: mitigations.
        dataset: training set with positions.
        title: names of the mitigations, for messages.
        targets: (N,) observed classes, or None to read them from the dataset.
        num_classes: number of classes, or None for one more than the largest target.
        batch_size: number of examples in a batch.
        num_workers: number of processes of the loader.
        seed: seed of the order and of the stack's random numbers.
        ignore_index: class index of missing labels, or None if every label exists.

    Attributes:
        training_set: observed targets; its inputs stay in the dataset.
        sampler: order of the examples, and their weights.
        current_epoch: number of the current epoch, from 0.
        rng: random numbers of the current epoch on the host.
        generator: random numbers of the current epoch on the training device.
    """

    active_network = 0
    heads: Mapping[str, nn.Module] = {}
    rng: np.random.Generator
    generator: torch.Generator

    def __init__(
        self,
        module: LightningModule,
        stack: Stack,
        dataset: Indexed,
        title: str,
        *,
        targets: Any,
        num_classes: int | None,
        batch_size: int,
        num_workers: int,
        seed: int,
        ignore_index: int | None,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if (number := as_integer(value)) is None or number < least:
                raise UserError(f"lightning.{name}: must be a whole number of at least {least}, but got {show(value)}")
        self._module, self.stack, self.dataset, self.title = module, stack, dataset, title
        self.batch_size, self.num_workers, self.seed, self.ignore_index = batch_size, num_workers, seed, ignore_index
        self.needs_index = needs_positions(stack)
        observed = as_targets(targets, len(dataset)) if targets is not None else read_targets(dataset.dataset)
        if ignore_index is not None:
            if observed.ndim == 1:
                raise UserError(
                    "lightning.ignore_index: an example without its only label cannot be trained on; leave it out with a "
                    "torch.utils.data.Subset"
                )
            observed = observed.masked_fill(observed == ignore_index, IGNORED)
        has_label = observed != IGNORED if ignore_index is not None else torch.ones_like(observed) > 0
        largest = int(observed[has_label].max()) + 1 if num_classes is None else num_classes
        self.training_set = TrainingSet(torch.empty(len(observed), 0), observed, max(largest, 2))
        check_values(observed[has_label], None, self.training_set.num_classes, None)
        self.sampler = EpochSampler(self.training_set, batch_size, seed, stack.requirements.keep_step_count)
        self._probabilities: Tensor | None = None
        self._is_prepared = self._epoch_has_started = False

    def after_start(self, name: str) -> LightningLearner:
        """Return this object if training has begun.

        Args:
            name: what is asked for, for the message.

        Raises:
            UserError: it has not, so that nothing is known about the labels.
        """
        if not self._is_prepared:
            raise UserError(f"lightning.{name}: nothing is known before training; call trainer.fit(mitigated) first")
        return self

    def as_learner(self) -> Learner:
        """Return this object as a `Learner`, of which it has the part that such stacks use."""
        return cast("Learner", self)

    @property
    def device(self) -> torch.device:
        """Training device."""
        return self._module.device

    @property
    def current_epoch(self) -> int:
        """Number of the current epoch, from 0."""
        return self._module.current_epoch

    @property
    def budget(self) -> OpenEnd:
        """Number of epochs of the trainer."""
        epochs = self._module.trainer.max_epochs
        return OpenEnd() if epochs is None or epochs < 0 else OpenEnd(epochs)

    # Hooks of the module

    def prepare(self) -> None:
        """Check the stack against data and epochs, and create its state, once."""
        if self._is_prepared:
            return
        problems = [
            f"lightning.{public_name(each)}: {problem}"
            for each in self.stack.mitigations
            for problem in [
                *each.check(self._module, cast(Any, self.budget), len(self.training_set)),
                *each.check_data(self.training_set, self._module, self.seed),
            ]
        ]
        if problems:
            raise UserError(*problems)
        for each in self.stack.mitigations:
            each.prepare(self.as_learner(), self.training_set)
        self._is_prepared = True

    def start_training(self) -> None:
        """Move everything to the training device, and select examples unless a checkpoint holds the selection."""
        self.training_set.targets = self.training_set.targets.to(self.device)
        for each in self.stack.mitigations:
            each.state = {name: tensor.to(self.device) for name, tensor in each.state.items()}
        if self.sampler.weights is None:
            self.sampler.weights = self.stack.sample_weights(self.as_learner(), self.training_set)
        if self.sampler.weights is not None:
            self.sampler.weights = self.sampler.weights.to(self.device)
        self.generator = torch.Generator(self.device)

    def start_epoch(self) -> None:
        """Start the epoch of the stack, with random numbers named as those of the harness."""
        self.stack.on_epoch_start(self.as_learner())
        self._probabilities = None
        names = (self.seed, self.current_epoch)
        self.generator.manual_seed(torch_seed("augmentation", *names))
        self.rng = np.random.default_rng(stable_hash("mitigation", *names))
        self._epoch_has_started = True

    def end_epoch(self) -> None:
        """End the epoch of the stack, once."""
        if not self._epoch_has_started:
            return
        self._epoch_has_started, self._probabilities = False, None
        self.stack.on_epoch_end(self.as_learner())

    def loss(self, inputs: Any, targets: Tensor, index: Tensor | None) -> Tensor:
        """Return the mean loss of a batch."""
        if self.needs_index and index is None:
            raise UserError(
                f"lightning: {self.title} keeps values for every training example, but the batches have no positions; build your "
                "loader from `nb.lightning.Indexed(train_set)`, or call trainer.fit(mitigated) without a loader"
            )
        if not torch.is_tensor(inputs) or (self.stack.requirements.mixes_samples and not inputs.is_floating_point()):
            kind = str(inputs.dtype) if torch.is_tensor(inputs) else type(inputs).__name__
            raise UserError(f"lightning: inputs of a batch must be a tensor of floating-point numbers, but are {kind}")
        batch = make_batch(inputs, targets, index, self.training_set.num_classes, self.ignore_index)
        if inputs.device.type == "cpu":  # on a GPU, the host would wait in every step
            observed = batch.observed if batch.soft is None else batch.soft
            check_values(observed, index, self.training_set.num_classes, len(self.training_set))
        # Composed anew: a kept function could not be pickled, and that of a copy would still use the original.
        losses = self.stack.loss_function(self.as_learner())(batch)
        return self.sampler.mean_loss(losses, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the stack's state and the selection of examples, on the CPU."""
        weights = self.sampler.weights
        return {
            "sample_weights": None if weights is None else weights.cpu(),
            "mitigations": [each.state_dict() for each in self.stack.mitigations],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.sampler.weights = state["sample_weights"]
        for each, values in zip(self.stack.mitigations, state["mitigations"], strict=True):
            each.load_state_dict(values)

    # What mitigations read

    def logits(self, inputs: Any, network: int | None = None) -> Tensor:
        """Return the (N, C) scores of the module, one row for each label."""
        scores = self._module(inputs)
        num_classes = self.training_set.num_classes
        if not torch.is_tensor(scores) or scores.ndim < 2 or scores.shape[1] != num_classes:
            shape = (
                f"the shape {tuple(scores.shape)}" if torch.is_tensor(scores) else f"the type {type(scores).__name__}"
            )
            raise UserError(
                f"lightning: the module's forward must return (N, {num_classes}) scores, one column for each class of the "
                f"training set, but its output has {shape}; set num_classes if some classes have no example"
            )
        return flatten_scores(scores)

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B,) cross-entropy."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def training_probabilities(self) -> Tensor:
        """Return the (N, C) probabilities of the module for the training set, in evaluation mode."""
        if self._probabilities is None:
            modes = {module: module.training for module in self._module.modules()}
            self._module.eval()
            with torch.no_grad():
                scores = [self.logits(inputs).float() for inputs in self._inputs()]
            for module, training in modes.items():
                module.training = training
            self._probabilities = probabilities_in_float32(torch.cat(scores))
        return self._probabilities

    def training_label_quality(self) -> Tensor:
        """Return the (N,) probabilities that the module gives the observed targets."""
        probabilities = self.training_probabilities()
        targets = self.training_set.targets.to(probabilities.device)
        return probabilities.gather(1, targets.flatten()[:, None]).view(targets.shape)

    def _inputs(self) -> Iterator[Any]:
        """Yield the inputs of the training set in batches, in order."""
        for batch in DataLoader(self.dataset, batch_size=self.batch_size):
            yield split_batch(batch)[0].to(self.device)

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling look up special names, which must be absent rather than an error of the user.
        if name.startswith("_"):
            raise AttributeError(name)
        raise UserError(
            f"lightning: this stack reads `task.{name}`, which a LightningModule does not have; train with it in the harness "
            "(`nb.run`)"
        )


class PlannedBatches(Sampler[list[int]]):
    """Positions of the batches of the current epoch, in the order of the harness."""

    def __init__(self, learner: LightningLearner) -> None:
        self._learner = learner

    def __len__(self) -> int:
        return self._learner.sampler.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._learner.sampler.plan(self._learner.current_epoch):
            yield step.index.tolist()

"""Train a LightningModule of your own under a stack of mitigations: `nb.lightning.Mitigated`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from noisybench.errors import UserError
from noisybench.integrations._lightning_items import split_batch
from noisybench.integrations._lightning_learner import LightningLearner, PlannedBatches
from noisybench.integrations._loss_helpers import Indexed
from noisybench.integrations._stacks import IN_LIGHTNING, NOT_LOSSES, build_stack, check_transition

__all__ = ["Indexed", "Mitigated"]

NOT_IN_LIGHTNING = {
    **{name: reason for name, reason in NOT_LOSSES.items() if name not in IN_LIGHTNING},
    "t_loss": "has a parameter that your optimizer has to train; use `nb.losses.TLoss` inside your module",
}
"""Mitigations that do not work in a user's LightningModule, with the reason."""

CHECKPOINT_KEY = "noisybench"
"""Entry of the stack's state in checkpoints of Lightning."""


class Mitigated(LightningModule):
    """A LightningModule that trains under a stack of mitigations, in any `Trainer`.

    It is the given module with another training step: its weights, optimizers, validation and hooks are those of the
    module, and its checkpoints can be loaded by the module's own class. The training step calls the module's ``forward``
    with the inputs, which must return (N, C) scores, or (N, C, ...) with several labels per example, and logs
    ``train_loss``. Random numbers of the stack are named by seed and epoch as in the harness.

    Without a loader of yours, ``trainer.fit(mitigated)`` draws the batches of `train_set` as the harness does. A loader of
    your own must yield ``(item, index)`` if the stack keeps a state for each example: build it from `Indexed`.

    Args:
        module: your module, with automatic optimization.
        mitigations: ``a``, ``a+b``, ``a(parameter=value)``, as on the command line.
        train_set: map-style dataset of ``(input, target)`` pairs, or dictionaries with one input and a target named
            ``target``, ``targets``, ``label`` or ``labels``.
        num_classes: number of classes; by default one more than the largest target.
        targets: (N,) observed classes of `train_set`, if reading its items for them takes long.
        transition: (C, C) transition matrix, for a loss correction that does not estimate it.
        batch_size: number of examples in a batch of the loader that `Mitigated` provides.
        num_workers: number of processes of that loader.
        seed: seed of the order of the examples, and of all random numbers of the stack.
        ignore_index: class index of missing labels, such as -100; None if every label exists.

    Raises:
        UserError: a mitigation is unknown, needs networks or views that only the harness has, or a parameter is missing or
            invalid.

    Example:
        >>> import torch
        >>> from pytorch_lightning import Trainer
        >>> from torch.utils.data import TensorDataset
        >>> class Linear(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(3, 2)
        ...     def forward(self, inputs):
        ...         return self.layer(inputs)
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> train = TensorDataset(torch.rand(8, 3), torch.arange(8) % 2)
        >>> mitigated = Mitigated(Linear(), "elr", train, batch_size=4)
        >>> quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet).fit(mitigated)
        >>> mitigated.label_quality().shape
        torch.Size([8])
    """

    def __new__(cls, module: LightningModule, *arguments: Any, **options: Any) -> Self:
        """Return the module in a class that replaces its training step; weights and hooks are shared with it."""
        if not isinstance(module, LightningModule) or isinstance(module, Mitigated):
            raise UserError(
                f"lightning: module must be a LightningModule of yours, but is {type(module).__name__}; for a plain module of "
                "PyTorch use `nb.losses` in your loop"
            )
        if not module.automatic_optimization:
            raise UserError(
                "lightning: the module optimizes manually (automatic_optimization=False), so its training step cannot be "
                "replaced; use `nb.losses` inside it"
            )
        mitigated: Self = _new(cls, type(module))
        mitigated.__dict__.update(module.__dict__)
        return mitigated

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return how to copy and pickle the module: its class exists in this process only."""
        cls, module_class = type(self).__bases__
        return _new, (cls, module_class), self.__dict__

    def __init__(
        self,
        module: LightningModule,
        mitigations: str | Mapping[str, Any] | Sequence[Any],
        train_set: Any,
        *,
        num_classes: int | None = None,
        targets: Any = None,
        transition: Any = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        ignore_index: int | None = None,
    ) -> None:
        # The module's own constructor has run: everything that it has set is shared.
        if transition is not None:
            transition = check_transition(transition, num_classes, "lightning.transition")
        stack, members = build_stack(mitigations, "lightning", NOT_IN_LIGHTNING, transition)
        # One attribute, so that hardly any name of the module can be in the way.
        self._noisybench = LightningLearner(
            self,
            stack,
            Indexed(train_set),
            "+".join(member.name for member in members),
            targets=targets,
            num_classes=num_classes,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            ignore_index=ignore_index,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches of the training set with their positions, in the order of the harness.

        Raises:
            UserError: several devices train, among which these batches are not divided.
        """
        if self._trainer is not None and self._trainer.world_size > 1:
            raise UserError(
                "lightning: the batches that Mitigated provides are for one device; call trainer.fit(mitigated, loader) with a "
                "loader of yours, which the Trainer divides among devices"
            )
        return DataLoader(
            self._noisybench.dataset,
            batch_sampler=PlannedBatches(self._noisybench),
            num_workers=self._noisybench.num_workers,
        )

    def setup(self, stage: str) -> None:
        """Create the stack's state, which a checkpoint then replaces.

        Raises:
            UserError: the data or the number of epochs do not suit the stack, or several devices train.
        """
        super().setup(stage)
        if stage != "fit":
            return
        requirements = self._noisybench.stack.requirements
        if self.trainer.world_size > 1 and requirements.distributed_state != {}:
            raise UserError(
                f"lightning: {self._noisybench.title} supports one device only here; use Trainer(devices=1), or the harness"
            )
        self._noisybench.prepare()

    def on_fit_start(self) -> None:
        """Move the stack's state to the training device, and choose the examples."""
        self._noisybench.start_training()
        super().on_fit_start()

    def on_train_start(self) -> None:
        """Check that a loader of the user's suits the stack."""
        loader = self.trainer.train_dataloader
        is_own = isinstance(getattr(loader, "batch_sampler", None), PlannedBatches)
        if not is_own and self._noisybench.sampler.weights is not None:
            raise UserError(
                f"lightning: {self._noisybench.title} chooses the examples of every batch; call trainer.fit(mitigated) without "
                "a loader, since Mitigated provides it"
            )
        super().on_train_start()

    def on_train_epoch_start(self) -> None:
        """Start the epoch of the stack, before that of the module."""
        self._noisybench.start_epoch()
        super().on_train_epoch_start()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch under the stack.

        Raises:
            UserError: the batch is no pair of inputs and targets, or has no positions although the stack needs them.
        """
        inputs, targets, index = split_batch(batch)
        loss = self._noisybench.loss(inputs, targets, index)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the epoch of the stack after its last batch: callbacks of the epoch's end may save a checkpoint."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.is_last_batch:
            self._noisybench.end_epoch()

    def on_train_epoch_end(self) -> None:
        """End the epoch of the stack if it was cut short, before that of the module."""
        self._noisybench.end_epoch()
        super().on_train_epoch_end()

    def label_quality(self) -> Tensor:
        """Return (N,) probabilities that the observed labels are correct, as the stack or the network estimates them.

        Raises:
            UserError: training has not begun.
        """
        learner = self._noisybench.after_start("label_quality")
        return learner.stack.label_quality(learner.as_learner(), learner.training_set)

    def corrected_labels(self) -> Tensor | None:
        """Return (N,) labels that the stack uses instead of the observed ones; None if it has none.

        Raises:
            UserError: training has not begun.
        """
        learner = self._noisybench.after_start("corrected_labels")
        return learner.stack.corrected_labels(learner.as_learner(), learner.training_set)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the stack's state with the module's."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] = {"stack": self._noisybench.title, **self._noisybench.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the stack's state.

        Raises:
            UserError: the checkpoint is that of another stack, or of training without one.
        """
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None or saved["stack"] != self._noisybench.title:
            other = "training without mitigations" if saved is None else f"the stack {saved['stack']}"
            raise UserError(
                f"lightning: the checkpoint is of {other}, but this training has the stack {self._noisybench.title}; resume "
                "with the same stack, or start without ckpt_path"
            )
        self._noisybench.load_state_dict(saved)


def _new(cls: Any, module_class: Any) -> Any:
    """Return an instance without attributes of the class that has the training step of `cls` and the rest of a module's."""
    return object.__new__(_combined_class(cls, module_class))


@functools.cache
def _combined_class(cls: Any, module_class: Any) -> Any:
    return type(f"{cls.__name__}{module_class.__name__}", (cls, module_class), {})

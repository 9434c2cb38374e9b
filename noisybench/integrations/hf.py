"""Train models of Hugging Face under robust losses, in the `Trainer` of transformers: `nb.hf`.

`compute_loss` is for any `Trainer`; `MitigatedTrainer` also serves losses that keep values for each training example.

>>> import torch
>>> loss = compute_loss("gce(q=0.5)")
>>> outputs = {"logits": torch.zeros(2, 3)}
>>> loss(outputs, torch.tensor([0, 2]), num_items_in_batch=torch.tensor(2))
tensor(0.8453)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from noisybench.errors import UserError, show
from noisybench.integrations._hf_loss import LossFunction, compute_loss
from noisybench.integrations._loss_helpers import Indexed

try:
    from transformers import Trainer, TrainerCallback
except ImportError:
    raise UserError(
        "nb.hf: transformers is not installed; run `python -m pip install 'noisybench[language]'`"
    ) from None

__all__ = ["MitigatedTrainer", "MitigationCallback", "Mitigations", "compute_loss"]

INDEX = "noisybench_index"
"""Column with the position of an example in the training set."""

STATE_FILE = "noisybench_loss.pt"
"""File of the loss's state in a checkpoint of the `Trainer`."""


class MitigationCallback(TrainerCallback):
    """Callback that starts the epochs of a loss, and keeps its state in the checkpoints of the `Trainer`.

    Args:
        function: loss from `compute_loss`.

    Attributes:
        resume_from: folder of the checkpoint that training resumes from; by default the one of the last step in the
            output folder.
    """

    def __init__(self, function: LossFunction) -> None:
        self.function = function
        self.resume_from: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Restore the state if training resumes.

        Raises:
            UserError: the checkpoint has no state.
        """
        if state.global_step == 0 or not self._has_state():
            return
        folder = self.resume_from or Path(args.output_dir) / f"checkpoint-{state.global_step}"
        file = Path(folder) / STATE_FILE
        if not file.is_file():
            raise UserError(
                f"hf: {file} does not exist, so training cannot resume with the values that {self.function.loss.title} keeps; "
                "resume from a checkpoint that this callback has saved, or train from the start"
            )
        self.function.loss.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """End the previous epoch of the loss, also if a checkpoint was saved before its end."""
        epoch = int((state.epoch or 0) + 1e-6)
        while self.function.loss.epoch < epoch:
            self.function.loss.next_epoch()

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Save the state beside the model's."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and self._has_state() and folder.is_dir():
            torch.save(self.function.loss.state_dict(), folder / STATE_FILE)

    def _has_state(self) -> bool:
        return bool(self.function.loss.state_dict())


class Mitigations:
    """Mixin for any `Trainer`, such as that of trl: ``class MyTrainer(nb.hf.Mitigations, SFTTrainer)``.

    It adds the position of each training example to its items and takes it out of the batches again, whatever
    `remove_unused_columns` says; evaluation is that of the `Trainer`, with cross-entropy as the loss.

    Args:
        mitigations: stack, as for `compute_loss`.
        num_classes: number of classes; by default that of the model's configuration.
        transition: (C, C) transition matrix of a loss correction.
        shift: see `compute_loss`.

    Raises:
        UserError: the stack is no loss, a training set without length is given, or several processes train a loss with
            values for each example.
    """

    def __init__(
        self,
        *arguments: Any,
        mitigations: str | Mapping[str, Any] | Sequence[Any],
        num_classes: int | None = None,
        transition: Any = None,
        shift: bool | None = None,
        **options: Any,
    ) -> None:
        train_dataset = options.get("train_dataset")
        if options.get("compute_loss_func") is not None:
            raise UserError("hf: compute_loss_func and mitigations both define the loss; give only one of them")
        if train_dataset is None or not hasattr(train_dataset, "__len__"):
            raise UserError(
                f"hf: train_dataset=... must be a dataset with a length, but is {show(type(train_dataset).__name__)}; losses "
                "without a state also work with `nb.hf.compute_loss` in any Trainer"
            )
        super().__init__(*arguments, **options)
        trainer: Any = self
        function = compute_loss(
            mitigations,
            num_examples=len(train_dataset),
            num_classes=_num_classes(trainer.model) if num_classes is None else num_classes,
            transition=transition,
            shift=shift,
        )
        if function.loss.needs_index and trainer.args.world_size > 1:
            raise UserError(
                f"hf: {function.loss.title} supports one process only here, but {trainer.args.world_size} train"
            )
        trainer.compute_loss_func = function
        # The Trainer may have replaced the dataset, as that of trl does when it tokenizes.
        trainer.train_dataset = _WithIndex(trainer.train_dataset)
        trainer.data_collator = _KeepIndex(trainer.data_collator)
        self._callback = MitigationCallback(function)
        trainer.add_callback(self._callback)

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **options: Any) -> Any:
        """Train; a checkpoint also restores the state of the loss."""
        self._callback.resume_from = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        parent: Any = super()
        return parent.train(resume_from_checkpoint, *arguments, **options)

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the column of positions, which is no argument of the model."""
        parent: Any = super()
        parent._set_signature_columns_if_needed()
        columns = vars(self)["_signature_columns"]
        if INDEX not in columns:
            columns.append(INDEX)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Return the loss of a batch; the model does not see the positions."""
        parent: Any = super()
        self._callback.function.index = inputs.pop(INDEX, None)
        return parent.compute_loss(model, inputs, *arguments, **options)


class MitigatedTrainer(Mitigations, Trainer):
    """`Trainer` of transformers whose loss is that of a stack: ``MitigatedTrainer(model, args, mitigations="elr", ...)``.

    Sequence classification and causal language models; see `Mitigations` for its arguments beside those of `Trainer`.
    """


class _WithIndex(Dataset[Any]):
    """A dataset of dictionaries with the position of each example."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = Indexed(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item, position = self.dataset[index]
        if not isinstance(item, Mapping):
            raise UserError(f"hf: items of train_dataset must be dictionaries, but item {index} is {show(item)}")
        return {**item, INDEX: position}


class _KeepIndex:
    """A collator that hands the positions past another collator, which may know nothing of them."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        positions = [feature[INDEX] for feature in features if INDEX in feature]
        rest = [{name: value for name, value in feature.items() if name != INDEX} for feature in features]
        batch = self.collator(rest)
        if len(positions) == len(features):  # evaluation has none
            batch[INDEX] = torch.tensor(positions)
        return batch


def _num_classes(model: Any) -> int | None:
    """Return the number of classes of a classifier, or the vocabulary of a language model; None if it is unknown."""
    is_classifier = "Classification" in type(model).__name__
    number = getattr(getattr(model, "config", None), "num_labels" if is_classifier else "vocab_size", None)
    return None if number is None else int(number)

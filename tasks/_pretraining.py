"""Pre-training of a backbone as part of a run of the task `transfer`."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.lazy import MemmapImages
from noisybench.errors import UserError
from noisybench.nn.features import backbone_weights
from noisybench.tasks._images import ImageTask
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.loop import load_optimizer, train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import torch_seed

PRETRAINING_FIELDS = ("dataset", "noise", "budget", "seed")


def resolve_pretraining(pretraining: dict[str, Any], network: str, seed: int) -> RunSpec:
    """Return the specification of the pre-training, a run with plain cross-entropy.

    Raises:
        UserError: the specification is invalid; the error lists all problems.
    """
    unknown = [key for key in pretraining if key not in PRETRAINING_FIELDS]
    budget = pretraining.get("budget") or {}
    problems = [f"{key}: unknown field; available are {', '.join(PRETRAINING_FIELDS)}" for key in unknown]
    if not isinstance(budget, dict) or budget.get("network", network) != network:
        problems.append(f"budget: the network must be that of the run, {network}; remove budget.network")
    try:
        if not problems:
            fields = {key: value for key, value in pretraining.items() if value is not None}
            return resolve({"seed": seed, **fields, "budget": {**budget, "network": network}})
    except UserError as error:
        problems += error.problems
    raise UserError(*(f"task.pretraining.{problem}" for problem in problems))


_LOADED: dict[str, tuple[Dataset, LabelSet]] = {}
"""Dataset of the latest pre-training, with its label set applied, and the label set."""


def load_pretraining(spec: RunSpec, channels: int) -> tuple[Dataset, LabelSet]:
    """Return the dataset of a pre-training, with its label set applied, and the label set.

    Raises:
        UserError: the data are missing or do not fit the run; the error lists all problems.
    """
    key = json.dumps([spec.dataset.as_dict(), spec.noise.as_dict()], sort_keys=True)
    try:
        if key not in _LOADED:
            _LOADED.clear()
            dataset, noise = spec.dataset.build().load(), spec.noise.build()
            if "classification" not in noise.tasks or dataset.train.targets.ndim != 1:
                raise UserError("dataset: pre-training needs images with one class each, and noise for them")
            labels = noise.apply(dataset)
            _LOADED[key] = labels.apply_to(dataset), labels
        applied, labels = _LOADED[key]
        if applied.train.inputs.shape[1] != channels:
            raise UserError(
                f"dataset: its images have {applied.train.inputs.shape[1]} channels, but those of the run have {channels}"
            )
        if applied.train.inputs[:1].dtype != "uint8":
            raise UserError("dataset: it holds features, but pre-training needs images")
    except UserError as error:
        raise UserError(*(f"task.pretraining.{problem}" for problem in error.problems)) from None
    return applied, labels


class Pretraining(AuxiliaryRun):
    """Training with plain cross-entropy on the observed labels of another dataset."""

    def __init__(self, task: ImageTask, spec: RunSpec) -> None:
        self.device, self.epochs = task.device, spec.budget.epochs
        applied, labels = load_pretraining(spec, task.training_set.inputs.shape[1])
        # Loaded for the check of the run and used once; the memory is needed for training.
        _LOADED.clear()
        images = applied.train.inputs
        inputs = DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images)
        self.data = TrainingSet(inputs, torch.from_numpy(labels.train), applied.num_classes)
        self.examples = len(self.data)
        noise = spec.noise.display_name(hide=("path", "seed"))
        self.title = f"pre-training · {spec.dataset_label} · {noise} · {spec.budget.network}"
        # All that decides the weights and nothing else, so that runs that differ only downstream share it.
        self.cache_key = {
            "kind": "pre-training",
            "inputs": self.data.inputs_digest,
            "targets": self.data.targets_digest,
            "classes": self.data.num_classes,
            "budget": spec.budget.model_dump(mode="json"),
            "seed": spec.seed,
        }
        # A stream of its own: with the bare seed, pre-training would repeat the initial weights and the order of the
        # run.
        seed = torch_seed("pre-training", spec.seed)
        self.worker = ImageTask(spec.budget, seed, self.data, Stack([])).to(self.device)
        self.worker.captured.enabled = spec.execution.cuda_graphs
        self.data.move_to(self.device)
        self.optimizer: Any = self.worker.configure_optimizers()

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch and return the mean loss."""
        return train_epoch(self.worker, self.optimizer, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the network and the optimizer."""
        return {"network": self.worker.networks.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the network and the optimizer."""
        self.worker.networks.load_state_dict(state["network"])
        load_optimizer(self.optimizer, state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        """Return the weights of the backbone, and the accuracy of the complete network on the observed labels."""
        predicted = self.worker.training_outputs(0).probabilities.argmax(1)
        accuracy = (predicted == self.data.targets.to(predicted.device)).double().mean()
        return {**backbone_weights(self.worker.networks[0]), "observed_accuracy": accuracy}

"""What networks say of labels that they were not trained on, and of how they learned the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from noisybench.config.registry import get_entry
from noisybench.config.spec import Budget
from noisybench.nn.features import stages
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.roles import LossFunction
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.files import write_atomically
from noisybench.utils.seeds import Stream, torch_seed

NEIGHBOURS = 20
PORTION = 2048
"""Examples whose neighbours are looked for at a time."""


@dataclass(frozen=True)
class Signals:
    """Of N examples with C classes.

    Attributes:
        probabilities: (N, C) of a network that was not trained on the example.
        margins: (N,) score of the observed class minus the greatest other one, mean over the training steps of the networks
            that were trained on the example (Pleiss et al. 2020).
        neighbours: (N,) share of the `NEIGHBOURS` nearest examples with another label, in the features of the network that
            was not trained on the example; None where the network does not name its features.
    """

    probabilities: NDArray[np.float64]
    margins: NDArray[np.float64]
    neighbours: NDArray[np.float64] | None


class _Margins(LossFunction):
    """Follows each example's margin as it is seen in training."""

    def prepare(self, task: Task, training_set: TrainingSet) -> None:
        """Nothing was seen yet."""
        self.state["margin"], self.state["seen"] = torch.zeros(len(training_set)), torch.zeros(len(training_set))

    def loss(self, task: Task, batch: Batch) -> Tensor:
        """Cross-entropy."""
        logits = task.logits(batch.inputs)
        with torch.no_grad():
            scores = logits.float()
            own = scores.gather(1, batch.observed[:, None])
            others = scores.scatter(1, batch.observed[:, None], -torch.inf)
            self.state["margin"][batch.index] += own.squeeze(1) - others.amax(1)
            self.state["seen"][batch.index] += 1
        return cross_entropy(logits, batch)


def cross_fit(
    training_set: TrainingSet,
    budget: Budget,
    folds: int,
    seed: int,
    device: torch.device,
    kept: Path,
    report: Callable[[int, int, float], None] = lambda fold, epoch, loss: None,
) -> Signals:
    """Train one network for each fold on all other folds, and ask it about its own.

    Args:
        training_set: inputs and observed targets.
        budget: network, epochs, augmentation.
        folds: from 2.
        seed: of folds and networks.
        device: to train on.
        kept: folder in which finished folds are kept, so that an interrupted audit goes on with the next one.
        report: told of fold, epoch and training loss.
    """
    fold_of = np.empty(len(training_set), dtype=np.int64)
    fold_of[Stream("audit", seed).permutation(len(training_set))] = np.arange(len(training_set)) % folds
    meaning = [training_set.inputs_digest, training_set.targets_digest, budget.identity(), folds, seed]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:20]
    size, classes = len(training_set), training_set.num_classes
    probabilities, margins, seen = np.zeros((size, classes)), np.zeros(size), np.zeros(size)
    neighbours: NDArray[np.float64] | None = np.zeros(size)
    for fold in range(folds):
        place, own = kept / f"{digest}-{fold}.pt", fold_of == fold
        if not place.is_file():
            write_atomically(place, _saved(_fold(training_set, budget, ~own, seed, fold, device, report)))
        found = torch.load(place, weights_only=True)
        probabilities[own] = found["probabilities"].numpy()
        margins += found["margin"].numpy()
        seen += found["seen"].numpy()
        if neighbours is not None and "neighbours" in found:
            neighbours[own] = found["neighbours"].numpy()
        else:
            neighbours = None
    return Signals(probabilities, margins / np.maximum(seen, 1), neighbours)


def _saved(found: dict[str, Tensor]) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def _fold(
    training_set: TrainingSet,
    budget: Budget,
    trained_on: NDArray[np.bool_],
    seed: int,
    fold: int,
    device: torch.device,
    report: Callable[[int, int, float], None],
) -> dict[str, Tensor]:
    """What one network says of the examples that it was not trained on, and how it learned the others."""
    watcher = _Margins()
    task: Task = get_entry("tasks", "classification").load_class()(
        budget, torch_seed("audit", seed, fold), training_set, Stack([watcher])
    )
    task.to(device)
    training_set.place(device)
    task.weights = torch.from_numpy(trained_on.astype(np.float32)).to(device)
    watcher.prepare(task, training_set)
    watcher.state = {name: each.to(device) for name, each in watcher.state.items()}
    optimizer = task.configure_optimizers()
    for epoch in range(budget.epochs):
        task.train_alone(epoch, optimizer)
        report(fold, epoch, task.train_loss)
    named = stages(task.networks[0])
    outputs = task.evaluate(training_set.inputs, 0, len(named) - 1 if named else None)
    own = torch.from_numpy(~trained_on).to(device)
    found = {
        "probabilities": outputs.probabilities[own].double().cpu(),
        "margin": watcher.state["margin"].cpu(),
        "seen": watcher.state["seen"].cpu(),
    }
    if outputs.features is not None:
        labels = training_set.targets.to(device)
        shares = disagreement(outputs.features[own], labels[own], outputs.features[~own], labels[~own])
        found["neighbours"] = shares.double().cpu()
    return found


def disagreement(
    features: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, count: int = NEIGHBOURS
) -> Tensor:
    """(Q,) share of the nearest other examples, by the cosine of (N, F) features, that have another label.

    Args:
        features: (Q, F) of the examples asked about.
        labels: (Q,) of them.
        others: (N, F) of those among which neighbours are looked for.
        other_labels: (N,) of them.
        count: how many neighbours.
    """
    directions, parts = functional.normalize(others, dim=1), []
    for start in range(0, len(features), PORTION):
        asked = functional.normalize(features[start : start + PORTION], dim=1)
        nearest = (asked @ directions.T).topk(min(count, len(others)), dim=1).indices
        parts.append((other_labels[nearest] != labels[start : start + PORTION, None]).float().mean(1))
    return torch.cat(parts)

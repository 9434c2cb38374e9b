"""Signals of an audit: cross-validated predictions, training margins and labels of nearest neighbors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from noisybench.audit.folds import (
    EpochCallback,
    draw_folds,
    finished_fold,
    fold_key,
    prepare_device,
    train_without_fold,
)
from noisybench.audit.inputs import AuditInput
from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.config.spec import WORKSPACE
from noisybench.data.lazy import MemmapImages
from noisybench.nn.features import stages
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.learner import Learner
from noisybench.training.roles import LossFunction
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import torch_seed

NUM_NEIGHBORS = 20
"""Number of nearest examples whose labels are compared."""

CHUNK_SIZE = 2048
"""Number of examples whose neighbors are searched at a time, which bounds the memory for similarities."""


@dataclass(frozen=True)
class AuditSignals:
    """Signals for N examples with C classes.

    Attributes:
        probabilities: (N, C) predictions of a network that was not trained on the example.
        margins: (N,) logit of the observed class minus the largest other logit, averaged over the training steps of the
            networks that were trained on the example (Pleiss et al. 2020); None if no network was trained.
        neighbors: (N,) fraction of the `NUM_NEIGHBORS` nearest examples with another label, in the features of the network
            that was not trained on the example; None without features.
        fold_of: (N,) fold of each example; None if the folds are unknown.
        problem: reason for which the predictions are not out-of-sample; None if they are, as far as is known.
        caution: suspicion that they are not, which nothing supports or contradicts; None without one.
    """

    probabilities: NDArray[np.float64]
    margins: NDArray[np.float64] | None
    neighbors: NDArray[np.float64] | None
    fold_of: NDArray[np.int64] | None = None
    problem: str | None = None
    caution: str | None = None


class _MarginTracker(LossFunction):
    """Train with cross-entropy and sum up the margin of each example over the training steps."""

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Reset the sums."""
        self.state["margin"], self.state["seen"] = torch.zeros(len(training_set)), torch.zeros(len(training_set))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the cross-entropy of the batch."""
        logits = task.logits(batch.inputs)
        with torch.no_grad():
            # In bfloat16, differences of similar logits would be rounded away.
            scores = logits.float()
            of_observed = scores.gather(1, batch.observed[:, None])
            # Minus infinity excludes the observed class from the maximum.
            of_others = scores.scatter(1, batch.observed[:, None], -torch.inf)
            # Indices are distinct within a batch, so no addition is lost.
            # The sums stay on the device, so a step does not synchronize.
            self.state["margin"][batch.index] += of_observed.squeeze(1) - of_others.amax(1)
            self.state["seen"][batch.index] += 1
        return cross_entropy(logits, batch)


def collect_signals(
    audit_input: AuditInput, folds: int = 3, seed: int = 0, on_epoch: EpochCallback = lambda fold, epoch, loss: None
) -> AuditSignals:
    """Train one network per fold on the labels to audit and collect its signals.

    Finished folds are kept in the working directory, so that the same call resumes an interrupted audit.

    Args:
        audit_input: images and labels to audit.
        folds: number of folds, from 2.
        seed: random seed of folds and networks.
        on_epoch: function that receives fold, epoch and mean training loss.

    Raises:
        UserError: there are fewer examples than folds.
    """
    draw_folds(len(audit_input.observed), folds, seed)  # before the images are read
    images: Any = audit_input.images
    inputs = DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images)
    observed, class_names = torch.from_numpy(audit_input.observed), audit_input.class_names
    training_set = TrainingSet(inputs, observed, len(class_names), class_names=class_names)
    device = prepare_device(audit_input.spec)
    return cross_fit(training_set, audit_input.spec.budget, folds, seed, device, WORKSPACE / "audits", on_epoch)


def cross_fit(
    training_set: TrainingSet,
    budget: Budget,
    folds: int,
    seed: int,
    device: torch.device,
    cache_dir: Path,
    on_epoch: EpochCallback = lambda fold, epoch, loss: None,
) -> AuditSignals:
    """Train one network per fold on all other folds and evaluate it on its own fold.

    Args:
        training_set: inputs and observed targets.
        budget: network, epochs, augmentation.
        folds: number of folds, from 2.
        seed: random seed of folds and networks.
        device: device to train on.
        cache_dir: folder of finished folds, which are not trained again.
        on_epoch: function that receives fold, epoch and mean training loss.
    """
    fold_of = draw_folds(len(training_set), folds, seed)
    digest = fold_key(training_set, budget, folds, seed, __name__, "classification")
    size, num_classes = len(training_set), training_set.num_classes
    probabilities, margins, seen = np.zeros((size, num_classes)), np.zeros(size), np.zeros(size)
    neighbors: NDArray[np.float64] | None = np.zeros(size)
    for fold in range(folds):
        path, in_fold = cache_dir / f"{digest}-{fold}.pt", fold_of == fold
        train = functools.partial(_train_fold, training_set, budget, fold_of, seed, fold, device, on_epoch)
        signals = finished_fold(path, ("probabilities", "margin", "seen"), train)
        probabilities[in_fold] = signals["probabilities"].numpy()
        # Sums and step counts are stored rather than means, so that the mean over folds weights every step equally.
        margins += signals["margin"].numpy()
        seen += signals["seen"].numpy()
        if neighbors is not None and "neighbors" in signals:
            neighbors[in_fold] = signals["neighbors"].numpy()
        else:
            neighbors = None
    return AuditSignals(probabilities, margins / np.maximum(seen, 1), neighbors, fold_of)


def _train_fold(
    training_set: TrainingSet,
    budget: Budget,
    fold_of: NDArray[np.int64],
    seed: int,
    fold: int,
    device: torch.device,
    on_epoch: EpochCallback,
) -> dict[str, Tensor]:
    """Train one network on all other folds; return its predictions on this fold and the margins of the others."""
    tracker = _MarginTracker()
    task: Task = get_entry("tasks", "classification").load_class()(
        budget, torch_seed("audit", seed, fold), training_set, Stack([tracker])
    )
    task.to(device)
    training_set.move_to(device)
    tracker.prepare(task, training_set)
    tracker.state = {name: values.to(device) for name, values in tracker.state.items()}
    train_without_fold(task, fold_of, fold, on_epoch)
    feature_stages = stages(task.networks[0])
    outputs = task.evaluate(training_set.inputs, 0, len(feature_stages) - 1 if feature_stages else None)
    held_out = torch.from_numpy(fold_of == fold).to(device)
    signals = {
        "probabilities": outputs.probabilities[held_out].double().cpu(),
        "margin": tracker.state["margin"].cpu(),
        "seen": tracker.state["seen"].cpu(),
    }
    if outputs.features is not None:
        labels, features = training_set.targets.to(device), outputs.features
        # Only examples that the network was trained on are searched, so that none is its own nearest neighbor.
        disagreement = neighbor_disagreement(
            features[held_out], labels[held_out], features[~held_out], labels[~held_out]
        )
        signals["neighbors"] = disagreement.double().cpu()
    return signals


def neighbor_disagreement(
    features: Tensor, labels: Tensor, other_features: Tensor, other_labels: Tensor, count: int = NUM_NEIGHBORS
) -> Tensor:
    """Return the fraction of the nearest other examples, by cosine similarity, that have another label.

    Args:
        features: (Q, F) features of the examples to score.
        labels: (Q,) labels of the examples to score.
        other_features: (N, F) features of the examples to search.
        other_labels: (N,) labels of the examples to search.
        count: number of neighbors.

    Returns:
        (Q,) fractions in [0, 1].

    Examples:
        >>> import torch
        >>> others = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> neighbor_disagreement(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), others, torch.tensor([0, 1, 1]), count=2)
        tensor([0.5000])
    """
    # Of unit vectors the inner product is the cosine similarity; the searched features are normalized once.
    directions, fractions = functional.normalize(other_features, dim=1), []
    for start in range(0, len(features), CHUNK_SIZE):
        queries = functional.normalize(features[start : start + CHUNK_SIZE], dim=1)
        # Similarities are (chunk, N), of which only the (chunk, count) indices remain.
        nearest = (queries @ directions.T).topk(min(count, len(other_features)), dim=1).indices
        differs = other_labels[nearest] != labels[start : start + CHUNK_SIZE, None]
        fractions.append(differs.float().mean(1))
    return torch.cat(fractions)

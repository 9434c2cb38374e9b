"""Image classification."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from noisybench.augmentation import augment
from noisybench.mitigation import (
    Batch,
    LazyTensor,
    Stack,
    TrainingSet,
    cross_entropy,
    probabilities_in_float32,
)
from noisybench.networks import build_network
from noisybench.spec import Budget
from noisybench.task import Task

EVALUATION_BATCH = 1000


class Classification(Task):
    """One class per image: cross-entropy, batched augmentation, accuracy of the deployed network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack) -> None:
        super().__init__(budget, seed, training_set, stack)
        mean, deviation = channel_statistics(training_set.inputs)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / deviation)

    def build_network(self) -> nn.Module:
        """A network for the training set's channels and classes."""
        return build_network(self.budget.network, self.training_set.num_classes, self.training_set.inputs.shape[1])

    def logits(self, inputs: Tensor, network: int = 0) -> Tensor:
        """(B, C) scores of one network for (B, channels, H, W) normalised inputs."""
        scores: Tensor = self.forwards[network](inputs)
        return scores

    def plain_objective(self, batch: Batch) -> Tensor:
        """Cross-entropy of the first network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to zero mean and unit variance per channel of the training inputs."""
        images = images.to(self.device, non_blocking=True).float()
        images = images.sub_(self.mean).mul_(self.scale)
        return images.contiguous(memory_format=torch.channels_last) if self.budget.channels_last else images

    def batches(self, order: Tensor) -> Iterator[Batch]:
        """Shuffled, augmented and normalised batches."""
        data, inputs, device = self.training_set, self.training_set.inputs, self.device
        size, kind, views = self.budget.batch_size, self.budget.augmentation, range(self.stack.views)
        for step in range(self.steps_per_epoch):
            index = order[step * size : (step + 1) * size]
            images = inputs[index.to(inputs.device)].to(device, non_blocking=True)
            seen = [self.normalise(augment(images, kind, self.generator)) for _ in views]
            yield Batch(seen, data.targets[index], index, data.num_classes)

    @torch.no_grad()
    def predict(self, inputs: Tensor | LazyTensor) -> Tensor:
        """(N, C) class probabilities: of the first network, or the mean over all where the stack says so."""
        training = self.networks.training
        self.networks.eval()
        members = range(len(self.networks)) if self.ensemble else range(1)
        parts = []
        for start in range(0, len(inputs), EVALUATION_BATCH):
            images = self.normalise(inputs[start : start + EVALUATION_BATCH])
            with self.autocast():
                scores = [self.logits(images, member) for member in members]
            parts.append(torch.stack([probabilities_in_float32(each) for each in scores]).mean(0))
        self.networks.train(training)
        return torch.cat(parts) if parts else torch.empty(0, self.training_set.num_classes, device=self.device)

    @property
    def ensemble(self) -> bool:
        """Whether the deployed prediction averages all networks."""
        return any(getattr(each, "ensemble", False) for each in self.stack.mitigations)


def channel_statistics(images: Tensor | LazyTensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, each (C, 1, 1), of (N, C, H, W) uint8 images."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for start in range(0, len(images), 4096):  # no wide copy of the data is made
        for channel, values in enumerate(images[start : start + 4096].transpose(0, 1)):
            counts[channel] += torch.bincount(values.reshape(-1), minlength=256)
    share = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64)
    mean = share @ levels
    deviation = ((share @ levels**2) - mean**2).clamp_min(0).sqrt()
    # A constant channel carries nothing; dividing by its zero deviation would make it infinite.
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return mean.float()[:, None, None], deviation.float()[:, None, None]

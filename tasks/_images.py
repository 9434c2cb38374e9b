"""Shared parts of the tasks on images: normalization, views and predictions."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.errors import show
from noisybench.networks import build_network
from noisybench.nn.features import capture_activations, global_pool, last_linear, stages
from noisybench.tasks._class_evaluator import ClassificationEvaluator
from noisybench.training.augmentation import augment, contrastive_view, resized_crop
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.learner import Outputs
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.training.views import VIEWS, PolicyView, View, describe_view

BUDGET_VIEWS: frozenset[View] = frozenset({"weak", "weak_2"})
"""Views that have the budget's augmentation."""

REPLAYED_VIEWS: frozenset[View] = BUDGET_VIEWS | {"contrastive"}
"""Views that draw all their random numbers on the training device, so that a CUDA graph can draw them."""

NO_LAYERS = nn.Identity()
"""Module of calls that use none of a network."""


class NormalizedTask(Task):
    """Base class of tasks on images with zero mean and unit variance per channel."""

    mean: Tensor
    scale: Tensor

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        mean, deviation = channel_statistics(training_set.inputs)
        # Buffers move to the training device with the task, and a reciprocal makes each division a cheaper product.
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / deviation)

    def deployment_state(self) -> dict[str, Any]:
        """Return the mean of each channel, and the reciprocal of its standard deviation."""
        return {name: getattr(self, name).cpu().flatten().tolist() for name in ("mean", "scale")}

    def load_deployment_state(self, state: dict[str, Any]) -> None:
        """Restore the statistics of the channels."""
        for name in ("mean", "scale"):
            values = getattr(self, name)
            values.copy_(torch.tensor(state[name]).view_as(values))

    def build_network(self) -> nn.Module:
        """Return a network for the channels and classes of the training set."""
        network = build_network(self.budget.network, self.training_set.num_classes, self.training_set.inputs.shape[1])
        # The weights of convolutions decide the layout of all that they compute; networks without any have no weights with
        # four dimensions.
        return network.to(memory_format=torch.channels_last) if self.budget.channels_last else network

    def normalize(self, images: Tensor) -> Tensor:
        """Return (B, C, H, W) uint8 images with zero mean and unit variance per channel of the training inputs."""
        images = images.to(self.device, non_blocking=True).float()
        # In place on the copy that `float` makes of uint8 images. It makes none of features, which are float32
        # already, but their mean is 0 and their scale 1, so the training set does not change.
        return images.sub_(self.mean).mul_(self.scale)


class ImageTask(NormalizedTask):
    """Base class of tasks with one class per image: cross-entropy, augmentation in batches, accuracy."""

    evaluator = ClassificationEvaluator
    views = (*VIEWS, "policy")

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return problems if the augmentation needs masks, or if operations of a view need one channel or three."""
        problems, channels = [], dataset.train.inputs.shape[1]
        if spec.budget.augmentation not in ("none", "crop", "crop_flip"):
            problems.append(
                f"budget.augmentation: {spec.budget.augmentation} needs masks; choose none, crop or crop_flip"
            )
        if channels not in (1, 3) and dataset.train.inputs.dtype == "uint8":
            problems += [
                f"mitigations.{component.name}: the operations of {describe_view(view)} need images with one channel or "
                f"three, but these have {channels}; choose another mitigation, or parameters without this view"
                for component in spec.mitigations
                for view in component.build().requirements.views
                if view not in REPLAYED_VIEWS
            ]
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """Return a problem if the network does not give one score for each class."""
        with torch.device("meta"):
            scores = network(cls.example_input(dataset))
        shape, expected = tuple(getattr(scores, "shape", ())), (1, dataset.num_classes)
        if shape == expected:
            return []
        return [
            f"budget.network: {show(spec.budget.network, quotes=False)} is not a network for the task {spec.task.name}: its "
            f"scores have the shape {shape} for one example, but {expected} is needed (`noisybench list networks`)"
        ]

    def logits(self, inputs: Tensor, network: int | None = None) -> Tensor:
        """Return the (B, C) scores of one network for (B, channels, H, W) normalized inputs."""
        number = self.active_network if network is None else network
        scores: Tensor = self.captured(("logits", number), self.forwards[number], self.networks[number], inputs)
        return scores

    def features_and_logits(self, inputs: Tensor, network: int) -> tuple[Tensor, Tensor]:
        """Return the (B, F) inputs of the last linear layer and the (B, C) scores of one network, from one forward pass."""
        # The network itself rather than its compiled form, because the hook must run inside the forward pass.
        module = self.networks[network]
        function = functools.partial(_features_and_scores, module)
        outputs: tuple[Tensor, Tensor] = self.captured(("features", network), function, module, inputs)
        return outputs

    def features_of(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return the (B, F) inputs of the last linear layer of any network."""
        return _features(network, inputs)

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B,) cross-entropy of the active network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield augmented and normalized batches."""
        data, inputs, device = self.training_set, self.training_set.inputs, self.device
        for step in steps:
            index = step.index
            # Indexed where the inputs are: images in device memory never leave it, and images on disk are read on the
            # host.
            images = inputs[index.to(inputs.device)].to(device, non_blocking=True)
            yield Batch(self._views(images), data.targets[index], index, data.num_classes, phase=step.phase)

    def validation_batch(self, index: Tensor) -> Batch:
        """Return augmented and normalized validation examples."""
        validation = self.training_set.validation
        assert validation is not None  # checked before training
        images = validation.inputs[index].to(self.device, non_blocking=True)
        targets, index = validation.targets[index].to(self.device), index.to(self.device)
        return Batch(self._views(images), targets, index, self.training_set.num_classes)

    @torch.no_grad()
    def _views(self, images: Tensor) -> dict[View, Tensor]:
        """Return the normalized views that the stack reads."""
        views: dict[View, Tensor] = {}
        # The views are an ordered tuple, which fixes the order in which they draw from the generator.
        for is_replayed, group in itertools.groupby(self.stack.requirements.views, REPLAYED_VIEWS.__contains__):
            names = tuple(group)
            draw = functools.partial(self._draw_views, names)
            views |= (
                self.captured(("views", *names), draw, NO_LAYERS, images, self.generator)
                if is_replayed
                else draw(images)
            )
        return views

    def _draw_views(self, views: tuple[View, ...], images: Tensor) -> dict[View, Tensor]:
        normalized = {view: self.normalize(self.view(images, view)) for view in views}
        return {
            view: view.erase(inputs, self.generator) if isinstance(view, PolicyView) else inputs
            for view, inputs in normalized.items()
        }

    def view(self, images: Tensor, name: View) -> Tensor:
        """Return an augmented view of (B, C, H, W) uint8 images, before anything is erased from it."""
        augmentation = self.budget.augmentation
        if isinstance(name, PolicyView) and name.crop == "resized":
            cropped = resized_crop(images, self.generator, flip=False, smallest=0.08)
            # Rounded, because truncation would darken the images by half a level on average.
            return name.operate(cropped.round_().to(torch.uint8), self.rng)
        if isinstance(name, PolicyView):
            images = name.operate(images, self.rng)
        if name == "contrastive":
            return contrastive_view(images, self.generator, flip=augmentation == "crop_flip")
        return augment(images, augmentation, self.generator)

    def predict(self, inputs: Tensor | DiskTensor) -> Tensor:
        """Return the (N, C) class probabilities of the deployed prediction."""
        return self.stack.combine([self.evaluate(inputs, number).logits for number in self.stack.deployed_networks])

    @torch.no_grad()
    def evaluate(self, inputs: Tensor | DiskTensor, network: int, stage: int | None = None) -> Outputs:
        """Return the (N, C) scores of one network, and optionally the (N, F) pooled outputs of one stage."""
        # Restored at the end, because an evaluation may fall between two training steps.
        training = self.networks.training
        self.networks.eval()
        logits, features = [], []
        module = self.networks[network]
        forward = self.forwards[network] if stage is None else functools.partial(_scores_and_stage, module, stage)
        size = self.eval_batch_size(inputs)
        for start in range(0, len(inputs), size):
            images = self.normalize(inputs[start : start + size])
            with self.autocast():
                scores = self.captured(("evaluation", network, stage), forward, module, images)
            if stage is not None:
                scores, pooled = scores
                features.append(pooled)
            logits.append(scores.float())
        self.networks.train(training)
        empty = torch.empty(0, self.training_set.num_classes, device=self.device)
        return Outputs(torch.cat(logits) if logits else empty, torch.cat(features) if features else None)


def _features_and_scores(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (B, F) inputs of the last linear layer, and the (B, C) scores."""
    last = last_linear(network)
    assert last is not None  # checked before training
    with capture_activations(last[1], inputs=True) as seen:
        scores: Tensor = network(inputs)
    return seen[-1].flatten(1), scores


class _FeaturesReached(Exception):
    """The forward pass has come to the classifier."""


def _features(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the (B, F) inputs of the last linear layer, whose scores may take longer than the features."""
    last = last_linear(network)
    assert last is not None  # checked before training
    seen: list[Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0])
        raise _FeaturesReached

    handle = last[1].register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_FeaturesReached):
            network(inputs)
    finally:
        handle.remove()
    return seen[-1].flatten(1)


def _scores_and_stage(network: nn.Module, stage: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (B, C) scores, and the (B, F) float32 pooled outputs of a stage."""
    with capture_activations(stages(network)[stage], inputs=False) as seen:
        scores: Tensor = network(inputs)
    # Pooled batch by batch, because the (B, C, H, W) maps of a whole split may not fit in memory.
    return scores, global_pool(seen[-1].float())


def channel_statistics(images: Tensor | DiskTensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, each (C, 1, 1), of (N, C, H, W) uint8 images; 0 and 1 for features.

    Example:
        >>> mean, deviation = channel_statistics(torch.tensor([0, 10], dtype=torch.uint8).view(2, 1, 1, 1))
        >>> mean.item(), deviation.item()
        (5.0, 5.0)
    """
    if images[:1].dtype != torch.uint8:  # features are not normalized
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    # A histogram of the 256 values is exact, and needs no floating-point copy of the data.
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    # In chunks, so that images on disk are never all in memory.
    for start in range(0, len(images), 4096):
        for channel, values in enumerate(images[start : start + 4096].transpose(0, 1)):
            counts[channel] += torch.bincount(values.reshape(-1), minlength=256).cpu()
    frequencies = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64)
    mean = frequencies @ levels
    # Var(x) = E(x^2) - E(x)^2. Float64 limits the cancellation; the clamp catches a difference rounded below zero.
    deviation = ((frequencies @ levels**2) - mean**2).clamp_min(0).sqrt()
    # A constant channel has no information, and dividing by its zero deviation would make it infinite.
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return mean.float()[:, None, None], deviation.float()[:, None, None]

"""Tasks whose inputs may have features that never change: precomputed, or of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.nn.frozen import BackboneWithHead, FrozenBackbone, has_frozen_backbone
from noisybench.tasks._images import BUDGET_VIEWS, ImageTask
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.learner import Outputs
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet

FEATURES_BATCH_SIZE = 4096
"""Number of rows of features that are evaluated at a time."""


class ConstantFeatureTask(ImageTask):
    """Base class of tasks that compute the features of an example once, if the stack freezes the backbone."""

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        self._features_by_id: dict[int, tuple[Any, Tensor]] = {}

    def normalize(self, images: Tensor) -> Tensor:
        """Return normalized images, or features unchanged."""
        return images.to(self.device) if images.is_floating_point() else super().normalize(images)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield batches of constant features if there are some, and of augmented images otherwise."""
        data, views = self.training_set, self.stack.requirements.views
        # Other views may augment images even if the budget does not.
        if not self.has_constant_features or not BUDGET_VIEWS.issuperset(views):
            yield from super().batches(steps)
            return
        features = self.constant_features(data.inputs)  # (N, D)
        for step in steps:
            # Unlike an index in brackets, this copies whole rows.
            rows = features.index_select(0, step.index)
            yield Batch(
                dict.fromkeys(views, rows), data.targets[step.index], step.index, data.num_classes, phase=step.phase
            )

    def validation_batch(self, index: Tensor) -> Batch:
        """Return validation examples: constant features if there are some, and augmented images otherwise."""
        validation, views = self.training_set.validation, self.stack.requirements.views
        if validation is None or not self.has_constant_features or not BUDGET_VIEWS.issuperset(views):
            return super().validation_batch(index)
        targets, index = validation.targets[index].to(self.device), index.to(self.device)
        rows = self.constant_features(validation.inputs).index_select(0, index)
        return Batch(dict.fromkeys(views, rows), targets, index, self.training_set.num_classes)

    def evaluate(self, inputs: Tensor | DiskTensor, network: int, stage: int | None = None) -> Outputs:
        """Return the predictions of one network, from constant features if there are some."""
        # The output of an inner stage needs the images, so that features cannot give it.
        if stage is None and self.has_constant_features:
            inputs = self.constant_features(inputs)
        return super().evaluate(inputs, network, stage)

    def eval_batch_size(self, inputs: Any) -> int:
        """Return the number of inputs to evaluate at a time: of features many, since heads are small."""
        return FEATURES_BATCH_SIZE if len(inputs.shape) == 2 else super().eval_batch_size(inputs)

    @property
    def has_constant_features(self) -> bool:
        """Whether the features of an example never change: precomputed, or of frozen backbones without augmentation."""
        is_frozen = all(map(has_frozen_backbone, self.networks))
        return self.is_precomputed or (is_frozen and self.budget.augmentation == "none")

    @property
    def is_precomputed(self) -> bool:
        """Whether the inputs are features themselves."""
        return self.training_set.inputs[:1].is_floating_point()

    def constant_features(self, inputs: Tensor | DiskTensor) -> Tensor:
        """Return the (N, D) features: the inputs themselves, or those of the frozen backbone, computed once."""
        if id(inputs) not in self._features_by_id:
            if self.is_precomputed:
                # A view: a copy would double the memory.
                features = inputs[:].flatten(1).to(self.device)
            else:
                network = self.networks[0]
                # All networks start from the same pre-trained weights, so that one frozen backbone stands for all of
                # them.
                assert isinstance(network, BackboneWithHead)
                features = self.extract_features(inputs, network.backbone)
            # A reference to the inputs is kept, so that no other object can get their id.
            self._features_by_id[id(inputs)] = (inputs, features)
        return self._features_by_id[id(inputs)][1]

    def release(self, inputs: Any) -> None:
        """Forget the features of some inputs."""
        self._features_by_id.pop(id(inputs), None)

    @torch.no_grad()
    def extract_features(self, inputs: Tensor | DiskTensor, network: nn.Module) -> Tensor:
        """Return the (N, D) features that a network, or a frozen backbone, computes of inputs."""
        training, size, features = network.training, self.eval_batch_size(inputs), []
        network.eval()
        for start in range(0, len(inputs), size):
            images = self.normalize(inputs[start : start + size])
            with self.autocast():
                is_backbone = isinstance(network, FrozenBackbone)
                batch = network(images) if is_backbone else self.features_of(network, images)
            features.append(batch.float())
        network.train(training)
        return torch.cat(features)

"""Segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.config.spec import Budget, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED, MaskTargets
from noisybench.networks import build_network
from noisybench.tasks._images import NormalizedTask
from noisybench.tasks._mask_augmentation import MaskLoader, crop_positions
from noisybench.tasks._mask_evaluator import SegmentationEvaluator
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet

PIXELS = {"cpu": 2**17, "cuda": 2**23, "mps": 2**20}
"""How many are evaluated at a time: what fits a processor's cache, or fills a GPU."""


class Segmentation(NormalizedTask):
    """One class per pixel: cross-entropy over all labelled pixels, mean intersection over union (IoU) on the test split.

    Class 0 is the background, which the mean leaves out unless `background` counts it (as is usual for Pascal VOC). IoU is
    pooled over all pixels of the split. Pixels of 255 have no label and count nowhere. The stack's mitigations see every
    labelled pixel as an example of its own.

    The record has, beside the score: IoU by class, Dice, boundary IoU and pixel accuracy on the test split; for every class
    the IoU of predictions with the clean and with the wrong labels on the wrongly labelled training pixels (early
    learning and memorisation); and how well belief finds wrong pixels, on at most 50,000 pixels drawn once.
    """

    evaluator = SegmentationEvaluator
    supports_ddp = True

    background: bool = parameter(False, help="count the background in the mean IoU as well")

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        self._unlabelled = bool((training_set.targets == IGNORED).any())
        self._loader: MaskLoader | None = None

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Every image has a mask."""
        if not isinstance(dataset.target_kind, MaskTargets):
            return [f"dataset: {dataset.name} has a class per image, not a mask; choose another task or dataset"]
        return []

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """It gives each pixel its scores."""
        problem = (
            f"budget.network: `{spec.budget.network}` gives an image one class, not each pixel; take one such as unet:8"
        )
        layers = [each for each in network.modules() if isinstance(each, nn.Linear)]
        return [problem] if layers else []

    def build_network(self) -> nn.Module:
        """A network for the training set's channels and classes."""
        return build_network(self.budget.network, self.training_set.num_classes, self.training_set.inputs.shape[1])

    def scores(self, inputs: Tensor, network: int) -> Tensor:
        """(B, C, H, W) scores of one network in the size of the masks, for normalised inputs of any size."""
        found: Tensor = self.forwards[network](inputs)
        size = self.training_set.targets.shape[1:]
        if found.shape[2:] == size:
            return found
        return functional.interpolate(found.float(), size=size, mode="bilinear", align_corners=True)

    def logits(self, inputs: Tensor, network: int | None = None) -> Tensor:
        """(B H W, C) scores of one network for every pixel of (B, channels, H, W) normalised inputs."""
        found = self.scores(inputs, self.active_network if network is None else network)
        return found.permute(0, 2, 3, 1).flatten(0, 2)

    def default_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the first network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Augmented and normalised batches, with the place in the training set of every pixel."""
        data, device = self.training_set, self.device
        masks = data.targets
        size = masks.shape[1] * masks.shape[2]
        own = torch.arange(size, device=device)
        if self.budget.augmentation in ("affine", "scale_crop"):
            yield from self._loaded(steps)
            return
        for step in steps:
            images = data.inputs[step.index.to(data.inputs.device)].to(device, non_blocking=True)
            labels, index = masks[step.index].flatten(1), step.index[:, None] * size + own
            inside = None
            if self.budget.augmentation != "none":
                flip = self.budget.augmentation == "crop_flip"
                places, inside = crop_positions(len(images), masks.shape[1:], self.generator, flip=flip)
                images = images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view_as(images)
                images = images * inside.view(len(images), 1, *images.shape[2:])
                labels, index = labels.gather(1, places), index.gather(1, places)
            yield self._batch(images, labels.flatten(), index.flatten(), inside, step.phase)

    def _batch(self, images: Tensor, labels: Tensor, index: Tensor, inside: Tensor | None, phase: int) -> Batch:
        within = None if inside is None else inside.flatten()
        valid = within
        if self._unlabelled:
            known = labels != IGNORED
            valid = known if valid is None else known & valid
        observed = labels.long() if valid is None else labels.long().masked_fill(~valid, 0)
        views, classes = {"weak": self.normalize(images)}, self.training_set.num_classes
        return Batch(views, observed, index, classes, phase=phase, has_label=valid, in_image=within)

    def _loaded(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Batches that albumentations has augmented, in processes of their own where there are some."""
        if self._loader is None:
            self._loader = MaskLoader(self.training_set, self.budget.augmentation, self.num_workers)
        for step, (images, index) in zip(
            steps, self._loader.batches(steps, (self.seed, self.current_epoch)), strict=True
        ):
            index = index.to(self.device)
            inside = index >= 0
            labels = self.training_set.targets.view(-1)[index.clamp_min(0).flatten()]
            yield self._batch(images, labels, index.clamp_min(0).flatten(), inside, step.phase)

    def eval_batch_size(self, inputs: Any) -> int:
        """How many of (N, C, H, W) inputs to evaluate at a time."""
        return max(1, PIXELS.get(self.device.type, 2**17) // int(inputs.shape[2] * inputs.shape[3]))

    @torch.no_grad()
    def predict_batches(self, inputs: Tensor | DiskTensor) -> Iterator[tuple[slice, Tensor]]:
        """(B, C, H, W) class probabilities of the deployed prediction, in evaluation mode, portion by portion."""
        training = self.networks.training
        self.networks.eval()
        size = self.eval_batch_size(inputs)
        for start in range(0, len(inputs), size):
            place = slice(start, min(start + size, len(inputs)))
            images = self.normalize(inputs[place])
            with self.autocast():
                found = [self.scores(images, each).float().softmax(1) for each in self.deployed_networks]
            yield place, found[0] if len(found) == 1 else torch.stack(found).mean(0)
        self.networks.train(training)

    def training_predictions(self) -> Tensor:
        """(N, H, W) uint8 predicted classes of the training pixels; one pass after each epoch serves all who ask."""
        return self._training_pass()[0]

    def training_label_quality(self) -> Tensor:
        """(N, H, W) float16 probabilities of the observed classes; 0 where there is no label."""
        return self._training_pass()[1]

    def _training_pass(self) -> tuple[Tensor, Tensor]:
        if "training_pass" not in self.cache:
            targets = self.training_set.targets
            predicted, belief = (
                torch.zeros_like(targets),
                torch.zeros(targets.shape, dtype=torch.float16, device=targets.device),
            )
            for place, found in self.predict_batches(self.training_set.inputs):
                labels = targets[place].long()
                chosen = found.gather(1, labels.clamp_max(found.shape[1] - 1)[:, None]).squeeze(1)
                predicted[place] = found.max(1).indices.to(torch.uint8)
                belief[place] = chosen.masked_fill(labels == IGNORED, 0).half()
            self.cache["training_pass"] = predicted, belief
        training_pass: tuple[Tensor, Tensor] = self.cache["training_pass"]
        return training_pass

"""Semantic segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.config.parameters import parameter
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.networks._encoders import load_encoder_weights
from noisybench.tasks._dense import DenseTask
from noisybench.tasks._images import NormalizedTask
from noisybench.tasks._mask_augmentation import MaskLoader, crop_positions
from noisybench.tasks._mask_evaluator import SegmentationEvaluator
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.training.views import View
from noisybench.utils.places import expand_user

MAX_EVAL_PIXELS = {"cpu": 2**17, "cuda": 2**23, "mps": 2**20}
"""Number of pixels to evaluate at a time by device: what fits a CPU's cache, or fills a GPU."""


LOADED = ("affine", "scale_crop")
"""Augmentations of single images on the host."""


class Segmentation(NormalizedTask, DenseTask):
    """Semantic segmentation: one class per pixel, scored by the mean intersection over union (IoU) on the test split.

    The loss is the cross-entropy over all labeled pixels. Class 0 is the background, which the mean leaves out unless
    `background` includes it (as is usual for Pascal VOC). IoU is pooled over all pixels of the split. Pixels with the value
    255 have no label and are excluded everywhere. The mitigations of the stack treat every labeled pixel as an example.

    The record also has the IoU of each class, Dice, boundary IoU and pixel accuracy on the test split. For every class it has
    the IoU of the predictions with the clean and with the observed labels on the mislabeled training pixels (early learning
    and memorization). It measures how well label quality detects mislabeled pixels on at most 50,000 pixels, drawn once.

    The encoder of a network of segmentation_models_pytorch or torchvision can start from pre-trained weights: published ones
    by name (`encoder_weights`), or those of a file (`checkpoint`). Images are normalized by the training set all the same.

    Example:
        >>> from noisybench.config.budget import Budget
        >>> images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
        >>> masks = torch.randint(0, 2, (4, 16, 16), dtype=torch.uint8)
        >>> data = TrainingSet(images, masks, num_classes=2)
        >>> task = Segmentation(Budget(network="unet:4", epochs=1), seed=0, training_set=data, stack=Stack([]))
        >>> task.training_predictions().shape
        torch.Size([4, 16, 16])
    """

    evaluator = SegmentationEvaluator
    supports_ddp = True

    background: bool = parameter(False, help="Whether to include the background in the mean IoU")
    encoder_weights: str = parameter(
        "",
        help="Published weights of the encoder by name: imagenet, efficientnet_lite0 (installed) or another of the library",
        access="weights",
    )
    checkpoint: Path | None = parameter(None, help="File with pre-trained weights of the encoder")

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        # Determined once, because a test in every batch would make the host wait for the device.
        self._has_unlabeled_pixels = bool((training_set.targets == IGNORED).any())
        self._loader: MaskLoader | None = None
        self._loader_of_draws: MaskLoader | None = None

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return a problem if the images have no masks."""
        if dataset.train.targets.ndim < 3:
            return [f"dataset: {dataset.name} has a class per image, not a mask; choose another task or dataset"]
        return []

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """Return a problem if the network does not score every pixel."""
        # Classifiers of images end in a linear layer, and convolutional networks for pixels have none.
        if any(isinstance(module, nn.Linear) for module in network.modules()):
            return [f"budget.network: `{spec.budget.network}` classifies images, not pixels; choose one such as unet:8"]
        try:
            settings = spec.task.parameters
            _pretrained_weights(spec.budget.network, network, settings["encoder_weights"], settings["checkpoint"])
        except UserError as error:
            return error.problems
        return []

    def prepare(self) -> None:
        """Load the pre-trained weights of the encoder into every network."""
        weights = _pretrained_weights(self.budget.network, self.networks[0], self.encoder_weights, self.checkpoint)
        if weights:
            self.load_pretrained(weights)

    def scores(self, inputs: Tensor, network: int) -> Tensor:
        """Return the (B, C, H, W) scores of one network in the size of the masks, for normalized inputs of any size."""
        scores: Tensor = self.forwards[network](inputs)
        size = self.training_set.targets.shape[1:]
        if scores.shape[2:] == size:
            return scores
        # Float32, because bfloat16 has too few digits for the weights of neighboring pixels.
        return functional.interpolate(scores.float(), size=size, mode="bilinear", align_corners=True)

    def logits(self, inputs: Tensor, network: int | None = None) -> Tensor:
        """Return the (B H W, C) scores of one network for every pixel of (B, channels, H, W) normalized inputs."""
        scores = self.scores(inputs, self.active_network if network is None else network)
        return scores.permute(0, 2, 3, 1).flatten(0, 2)

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B H W,) cross-entropy of the active network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield augmented and normalized batches, with the position of every pixel in the training set."""
        data, device = self.training_set, self.device
        masks = data.targets
        num_pixels = masks.shape[1] * masks.shape[2]
        pixel_positions = torch.arange(num_pixels, device=device)
        if self.budget.augmentation in LOADED:
            if self._loader is None:
                # Not in the constructor, where `num_workers` is not set yet. One loader serves all epochs, as do its
                # workers.
                self._loader = MaskLoader(data, self.budget.augmentation, self.num_workers)
            yield from self._loaded_batches(steps, self._loader, self.seed, self.current_epoch)
            return
        for step in steps:
            images = data.inputs[step.index.to(data.inputs.device)].to(device, non_blocking=True)
            labels, index = masks[step.index].flatten(1), step.index[:, None] * num_pixels + pixel_positions
            in_image = None
            if self.budget.augmentation != "none":
                # One gather moves images, labels and positions alike, so that they stay aligned.
                flip = self.budget.augmentation == "crop_flip"
                positions, in_image = crop_positions(len(images), masks.shape[1:], self.generator, flip=flip)
                channel_positions = positions[:, None].expand(-1, images.shape[1], -1)
                images = images.flatten(2).gather(2, channel_positions).view_as(images)
                # The gather has copied the first pixel into the padding; zero replaces it, as in padded images.
                images = images * in_image.view(len(images), 1, *images.shape[2:])
                labels, index = labels.gather(1, positions), index.gather(1, positions)
            yield self._batch(images, labels.flatten(), index.flatten(), in_image, step.phase)

    def _batch(self, images: Tensor, labels: Tensor, index: Tensor, in_image: Tensor | None, phase: int) -> Batch:
        in_image = None if in_image is None else in_image.flatten()
        has_label = in_image
        if self._has_unlabeled_pixels:
            is_labeled = labels != IGNORED
            has_label = is_labeled if has_label is None else is_labeled & has_label
        # The kernel of the cross-entropy needs valid classes even where its result is masked.
        observed = labels.long() if has_label is None else labels.long().masked_fill(~has_label, 0)
        views: dict[View, Any] = {"weak": self.normalize(images)}
        num_classes = self.training_set.num_classes
        return Batch(views, observed, index, num_classes, phase=phase, has_label=has_label, in_image=in_image)

    def draw(self, count: int) -> Batch:
        """Return a batch of random training images, drawn with replacement from those that are not left out."""
        if self.budget.augmentation not in LOADED:
            return super().draw(count)
        if self._loader_of_draws is None:
            # The workers of the other loader are in the middle of the epoch's batches.
            self._loader_of_draws = MaskLoader(self.training_set, self.budget.augmentation, num_workers=0)
        step = BatchPlan(self.sampler.draw(count, self.generator))
        # A number of its own, so that no two draws have the same augmentation.
        number = int(self.rng.integers(2**32))
        return next(self._loaded_batches([step], self._loader_of_draws, self.seed, self.current_epoch, "draw", number))

    def _loaded_batches(self, steps: Sequence[BatchPlan], loader: MaskLoader, *names: object) -> Iterator[Batch]:
        """Yield batches augmented by albumentations with random numbers of that name, in the processes of a loader."""
        for step, (images, positions) in zip(steps, loader.batches(steps, names), strict=True):
            positions = positions.to(self.device)
            # Pixels from outside (-1) look up a valid position here, and are excluded by the mask.
            index = positions.clamp_min(0).flatten()
            labels = self.training_set.targets.view(-1)[index]
            yield self._batch(images, labels, index, positions >= 0, step.phase)

    def eval_batch_size(self, inputs: Any) -> int:
        """Return the number of (N, C, H, W) inputs to evaluate at a time."""
        max_pixels = MAX_EVAL_PIXELS.get(self.device.type, MAX_EVAL_PIXELS["cpu"])
        return max(1, max_pixels // int(inputs.shape[2] * inputs.shape[3]))

    @torch.no_grad()
    def predict_batches(self, inputs: Tensor | DiskTensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the inputs with their (B, C, H, W) class probabilities, in evaluation mode."""
        training = self.networks.training
        self.networks.eval()
        size = self.eval_batch_size(inputs)
        for start in range(0, len(inputs), size):
            rows = slice(start, min(start + size, len(inputs)))
            images = self.normalize(inputs[rows])
            with self.autocast():
                by_network = [self.scores(images, number) for number in self.stack.deployed_networks]
            yield rows, self.stack.combine(by_network)
        self.networks.train(training)

    def predict_training_set(self) -> tuple[Tensor, Tensor]:
        """Return the (N, H, W) predicted classes, and the probabilities of the observed ones; 0 without a label."""
        targets = self.training_set.targets
        predicted = torch.zeros_like(targets)
        label_quality = torch.zeros(targets.shape, dtype=torch.float16, device=targets.device)
        for rows, probabilities in self.predict_batches(self.training_set.inputs):
            labels = targets[rows].long()
            # Unlabeled pixels (255) are clamped to a valid class for the gather, then masked.
            of_labels = probabilities.gather(1, labels.clamp_max(probabilities.shape[1] - 1)[:, None]).squeeze(1)
            predicted[rows] = probabilities.max(1).indices.to(torch.uint8)
            label_quality[rows] = of_labels.masked_fill(labels == IGNORED, 0).half()
        return predicted, label_quality


def _pretrained_weights(
    name: str, network: nn.Module, encoder_weights: str, checkpoint: str | Path | None
) -> dict[str, Tensor]:
    """Return the pre-trained weights of the encoder, by name in the network; none without a source.

    Args:
        name: value of `budget.network`.
        network: the network.
        encoder_weights: name of published weights; empty for none.
        checkpoint: file with weights; None for none.

    Raises:
        UserError: there are two sources, or the weights do not exist or do not fit.
    """
    if encoder_weights and checkpoint:
        raise UserError(
            "task: give encoder_weights or checkpoint, which both set the weights of the encoder; remove one"
        )
    if not encoder_weights and not checkpoint:
        return {}
    file = None if checkpoint is None else expand_user(Path(checkpoint))
    return load_encoder_weights(network, name, encoder_weights, file)

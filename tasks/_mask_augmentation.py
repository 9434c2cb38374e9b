"""Augmentation of images together with their masks.

Augmentation returns the position in the training set that each pixel comes from. Everything known about a pixel (its label,
a corrected label, a running average) can then be looked up wherever the pixel has moved to.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from noisybench.training.augmentation import crop_and_flip
from noisybench.training.batch import BatchPlan
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import stable_hash

# albumentations looks for a newer release over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def crop_positions(
    num_images: int, shape: torch.Size, generator: torch.Generator, *, flip: bool
) -> tuple[Tensor, Tensor]:
    """Return random crops after padding by an eighth of the height, with optional flips, as positions within an image.

    Args:
        num_images: number of images, B.
        shape: height and width.
        generator: random numbers on the training device.
        flip: mirror each image with probability one half.

    Returns:
        (B, H W) positions that the pixels come from, and whether they are in the image; padding has position 0.

    Example:
        >>> positions, in_image = crop_positions(1, torch.Size([8, 8]), torch.Generator().manual_seed(0), flip=False)
        >>> positions.shape, bool(in_image.any())
        (torch.Size([1, 64]), True)
    """
    height, width = shape
    # Positions count from 1 here, so that the zeros of the padding can be distinguished from the first pixel.
    positions = torch.arange(1, height * width + 1, device=generator.device).view(1, 1, height, width)
    cropped = crop_and_flip(positions.expand(num_images, -1, -1, -1).contiguous(), generator, flip=flip).flatten(1)
    return (cropped - 1).clamp_min(0), cropped > 0


def build_pipeline(kind: str, height: int, width: int) -> Any:
    """Return an albumentations pipeline of images and of the positions that their pixels come from.

    Args:
        kind: `affine` rotates by up to 45 degrees, translates by up to a tenth, scales by 0.8 to 1.5, and flips;
            `scale_crop` scales by 0.5 to 1.5, crops, flips, and changes the colors slightly (of images with three channels).
        height: height of the images.
        width: width of the images.
    """
    import albumentations  # type: ignore[import-untyped]
    import cv2

    # Nearest neighbor for positions, because an average of two positions is the position of an unrelated pixel; -1
    # marks pixels from outside of the image.
    outside = {"border_mode": cv2.BORDER_CONSTANT, "fill": 0, "fill_mask": -1, "mask_interpolation": cv2.INTER_NEAREST}
    if kind == "affine":
        steps: list[Any] = [
            albumentations.Affine(scale=(0.8, 1.5), translate_percent=(-0.1, 0.1), rotate=(-45, 45), p=1.0, **outside),
            albumentations.HorizontalFlip(p=0.5),
        ]
    else:
        padding = {"border_mode": cv2.BORDER_CONSTANT, "fill": 0, "fill_mask": -1}
        steps = [
            albumentations.RandomScale(scale_limit=(-0.5, 0.5), p=1.0, mask_interpolation=cv2.INTER_NEAREST),
            # An image scaled below the size of the crop is padded first, at a random place, so that small scales
            # shift as well.
            albumentations.PadIfNeeded(height, width, position="random", **padding),
            albumentations.RandomCrop(height, width),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.ColorJitter(0.1, 0.1, 0.1, 0.03, p=1.0),
        ]
    return albumentations.Compose(steps)


class _AugmentedImages(Dataset[Any]):
    """Augmented images and the positions of their pixels in the training set (-1 outside), the same in every process."""

    def __init__(self, inputs: Tensor | DiskTensor, kind: str) -> None:
        self.inputs, self.kind = inputs, kind
        # Built on first use, so that each worker process has a pipeline of its own.
        self._pipeline: Any = None

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, seed = item
        height, width = self.inputs.shape[2:]
        if self._pipeline is None:
            self._pipeline = build_pipeline(self.kind, height, width)
        image = self.inputs[row : row + 1][0].numpy().transpose(1, 2, 0)
        # int32, because OpenCV 4 has no images of 64-bit integers.
        positions = np.arange(height * width, dtype=np.int32).reshape(height, width)
        # Seeded for each image: the result depends neither on the number of workers nor on which of them loads the
        # image. `set_random_seed` would start every step with the same number, and mirror exactly what is shrunk.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        augmented = self._pipeline(image=np.ascontiguousarray(image), mask=positions)
        # int64 before the offset of the row is added, because positions in the whole training set may exceed 2**31.
        moved = torch.from_numpy(augmented["mask"]).long()
        pixels = augmented["image"].reshape(height, width, -1).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.where(moved >= 0, moved + row * height * width, -1)


class _EpochOrder:
    """Batches of the current epoch as rows, each with a seed of its own that does not depend on the loading process."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class MaskLoader:
    """Loader of augmented batches, with worker processes that live as long as the task.

    Args:
        training_set: training set, whose inputs are copied to the host.
        kind: kind of pipeline; see `build_pipeline`.
        num_workers: number of processes that augment images; 0 augments in the training process, with the same result.
    """

    def __init__(self, training_set: TrainingSet, kind: str, num_workers: int) -> None:
        inputs = training_set.inputs
        self._order = _EpochOrder()
        self._loader: DataLoader[Any] = DataLoader(
            _AugmentedImages(inputs if isinstance(inputs, DiskTensor) else inputs.cpu(), kind),
            # The sampler runs in the training process, so that workers from earlier epochs follow the order of the
            # current one.
            batch_sampler=self._order,
            num_workers=num_workers,
            # PyTorch rejects persistent workers, and a start method, if there are no workers.
            persistent_workers=num_workers > 0,
            # Forked workers inherit the images; spawned ones would first import PyTorch and this package again.
            multiprocessing_context="fork" if num_workers else None,
            worker_init_fn=_use_one_thread,
        )

    def batches(self, steps: Sequence[BatchPlan], names: tuple[object, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (B, C, H, W) uint8 images and (B, H, W) positions for each step; ``names`` seed the random numbers."""
        self._order.steps = [
            [
                (int(row), stable_hash("masks", *names, number, position) % 2**32)
                for position, row in enumerate(step.index.tolist())
            ]
            for number, step in enumerate(steps)
        ]
        yield from self._loader


def _use_one_thread(_: int) -> None:
    import cv2

    # Workers run in parallel; threads within them would compete for the same cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)

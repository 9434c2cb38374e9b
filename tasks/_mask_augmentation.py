"""Augmentation of images together with their masks: where in the training set each pixel comes from.

Every pixel keeps its place in the training set, so that what is known of it (its label, a corrected one, an average) is
found again wherever it has moved to.
"""

from __future__ import annotations

import os
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

# Import would otherwise ask a server for newer versions.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def shifted_places(count: int, shape: torch.Size, generator: torch.Generator, *, flip: bool) -> tuple[Tensor, Tensor]:
    """Random crops after padding by an eighth of the height, and flips, as places within an image.

    Args:
        count: of images.
        shape: height and width.
        generator: on the device that trains.
        flip: mirror half of the images.

    Returns:
        (B, H W) places that the pixels come from, and whether these are inside of the image; 0 where not.
    """
    height, width = shape
    own = torch.arange(1, height * width + 1, device=generator.device).view(1, 1, height, width)
    moved = crop_and_flip(own.expand(count, -1, -1, -1).contiguous(), generator, flip=flip).flatten(1)
    return (moved - 1).clamp_min(0), moved > 0


def pipeline(kind: str, height: int, width: int) -> Any:
    """An albumentations pipeline of images and of the places that their pixels come from.

    `affine`: a turn of up to 45 degrees, a move of up to a tenth, a factor from 0.8 to 1.5, and a flip. `scale_crop`: a
    factor from 0.5 to 1.5, a crop, a flip, and small changes of colour (for images of three channels).
    """
    import albumentations  # type: ignore[import-untyped]
    import cv2

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
            albumentations.PadIfNeeded(height, width, position="random", **padding),
            albumentations.RandomCrop(height, width),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.ColorJitter(0.1, 0.1, 0.1, 0.03, p=1.0),
        ]
    return albumentations.Compose(steps)


class _Augmented(Dataset[Any]):
    """Augmented images and the places of their pixels in the training set, -1 outside; made in any process alike."""

    def __init__(self, inputs: Tensor | DiskTensor, kind: str) -> None:
        self.inputs, self.kind = inputs, kind
        self._pipeline: Any = None

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, seed = item
        height, width = self.inputs.shape[2:]
        if self._pipeline is None:
            self._pipeline = pipeline(self.kind, height, width)
        image = self.inputs[row : row + 1][0].numpy().transpose(1, 2, 0)
        places = np.arange(height * width, dtype=np.int32).reshape(height, width)
        self._pipeline.set_random_seed(seed)
        found = self._pipeline(image=np.ascontiguousarray(image), mask=places)
        moved = torch.from_numpy(found["mask"]).long()
        pixels = found["image"].reshape(height, width, -1).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.where(moved >= 0, moved + row * height * width, -1)


class _Order:
    """The batches of the present epoch: rows, and a seed of each image's own, whoever loads it."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class MaskLoader:
    """Loads augmented batches, in other processes where there are some; these live as long as the task.

    Args:
        training_set: its inputs; copied to the host.
        kind: of pipeline.
        processes: that augment beside the one that trains; with 0 it does so itself. The result is the same.
    """

    def __init__(self, training_set: TrainingSet, kind: str, processes: int) -> None:
        inputs = training_set.inputs
        self._order = _Order()
        self._loader: DataLoader[Any] = DataLoader(
            _Augmented(inputs if isinstance(inputs, DiskTensor) else inputs.cpu(), kind),
            batch_sampler=self._order,
            num_workers=processes,
            persistent_workers=processes > 0,
            multiprocessing_context="fork" if processes else None,
            worker_init_fn=_one_thread,
        )

    def batches(self, steps: Sequence[BatchPlan], names: tuple[object, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, C, H, W) uint8 images and (B, H, W) places for each step; ``names`` decide the random numbers."""
        self._order.steps = [
            [
                (int(row), stable_hash("masks", *names, number, place) % 2**32)
                for place, row in enumerate(step.index.tolist())
            ]
            for number, step in enumerate(steps)
        ]
        yield from self._loader


def _one_thread(_: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)

"""The IDX format of MNIST and FashionMNIST."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import class_images
from noisybench.tasks.datasets._torchvision import TorchvisionSource
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801
"""First numbers of IDX files of images and of labels."""


LEGACY_FILES = ("training.pt", "test.pt")
"""Tensors that old versions of torchvision have stored in `processed/`; torchvision prefers them to the raw files."""


class IdxSource(TorchvisionSource):
    """A torchvision dataset in IDX files."""

    def data_files(self) -> Mapping[str, Source]:
        """Return the raw files, or the tensors of old versions of torchvision that it reads instead."""
        raw = super().data_files()
        folder = Path(next(iter(raw))).parents[1] / "processed"
        legacy = {str(folder / name): self.root / folder / name for name in LEGACY_FILES}
        return legacy if all(expand_user(path).is_file() for path in legacy.values()) else raw


def read_splits(source: TorchvisionSource, constructor: Any) -> tuple[RawSplit, RawSplit]:
    """Return training and test examples of a torchvision dataset in IDX files."""
    train, test = (source.open(constructor, train=is_train) for is_train in (True, False))
    return source.to_raw_split(train.data, train.targets), source.to_raw_split(test.data, test.targets)


def write_example(raw: Path) -> dict[str, Any]:
    """Write 160 28x28 images of ten classes as IDX files, and return the parameters that load them."""
    raw.mkdir(parents=True)
    for part, count in (("train", 120), ("t10k", 40)):
        labels = np.arange(count) % 10
        pixels = class_images(Stream("idx example", part), labels, 10, (28, 28))
        # Numbers in IDX headers are big-endian.
        header = struct.pack(">IIII", IMAGES_MAGIC, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", LABELS_MAGIC, count) + labels.astype(np.uint8).tobytes()
        )
    return {"root": str(raw.parents[1]), "download": False}

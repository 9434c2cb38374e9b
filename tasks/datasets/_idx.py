"""The IDX format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._torchvision import TorchvisionSource, as_examples
from noisybench.utils.seeds import Stream

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_splits(source: TorchvisionSource, constructor: Any) -> tuple[RawSplit, RawSplit]:
    """Training and test examples of a torchvision dataset in IDX files."""
    train, test = (source.open(constructor, train=part) for part in (True, False))
    return as_examples(train.data, train.targets), as_examples(test.data, test.targets)


def write_example(raw: Path) -> dict[str, Any]:
    """Write 120 + 40 random 28x28 images of ten classes as IDX files; returns the parameters that load them."""
    raw.mkdir(parents=True)
    for part, count in (("train", 120), ("t10k", 40)):
        pixels = (Stream("idx example", part).uniform(count, 28, 28) * 256).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return {"root": str(raw.parents[1]), "download": False}

"""Label sets with out-of-distribution images from the authors' dataset class."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

REFERENCE = "https://github.com/PaulAlbert31/SNCF"
COMMIT = "58211a180c9a5a46fef5a90c3731a9c580492140"
COMPUTED = "datasets.cifar.CIFAR100: labels, replaced images and their sources, of 300 examples and 400 source images"

SETTINGS = ((0.4, 0.2), (0.2, 0.2), (0.0, 0.4), (0.6, 0.0))


def generate(folder: Path) -> dict[str, Any]:
    """Return clean labels, and labels and source images of every setting; -1 for images that stay."""
    targets = np.arange(300) % 100
    # One color per image: that of an image of the dataset is 0, that of source image n is n in two bytes.
    sources = np.zeros((400, 2, 2, 3), dtype=np.uint8)
    sources[..., 0], sources[..., 1] = (np.arange(400) // 256 + 1)[:, None, None], (np.arange(400) % 256)[:, None, None]

    class Pictures:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.data, self.targets = np.zeros((300, 2, 2, 3), dtype=np.uint8), targets.tolist()

    class Sources:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.data = sources

        def __len__(self) -> int:
            return len(sources)

    sys.path.insert(0, str(folder))
    sys.modules["mypath"] = mock.MagicMock()
    sys.modules["datasets.imagenet32"] = types.ModuleType("datasets.imagenet32")
    sys.modules["datasets.imagenet32"].ImageNet = Sources  # type: ignore[attr-defined]
    pictures = SimpleNamespace(datasets=SimpleNamespace(CIFAR10=Pictures, CIFAR100=Pictures))
    with mock.patch.dict(sys.modules, {"torchvision": pictures}):
        from datasets.cifar import CIFAR100

        arrays: dict[str, Any] = {"settings": np.array(SETTINGS), "targets": targets}
        for position, (out_of_distribution, in_distribution) in enumerate(SETTINGS):
            made = CIFAR100("", out_of_distribution, in_distribution)
            color = made.data[:, 0, 0].astype(np.int64)
            arrays[f"labels_{position}"] = made.targets
            arrays[f"source_{position}"] = np.where(color[:, 0] > 0, (color[:, 0] - 1) * 256 + color[:, 1], -1)
    return arrays

"""CIFAR-10 from torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._cifar import read_splits, write_example
from noisybench.tasks.datasets._torchvision import TorchvisionSource

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


class Cifar10(TorchvisionSource):
    """CIFAR-10: 32x32 color images of ten classes, 50,000 + 10,000 (Krizhevsky 2009)."""

    license = License(
        "not stated", "https://www.cs.toronto.edu/~kriz/cifar.html", note="the authors ask to cite a report"
    )
    files = ("cifar-10-python.tar.gz",)
    local_files = tuple(f"cifar-10-batches-py/{name}" for name in (*BATCHES, "test_batch", "batches.meta"))

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits from torchvision's layout."""
        from torchvision.datasets import CIFAR10

        return read_splits(self, CIFAR10)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random images in the pickled-batch format, with other checksums than the published ones."""
        write_example(
            folder / "cifar-10-batches-py",
            BATCHES,
            "test_batch",
            "labels",
            ("batches.meta", "label_names", CLASSES),
        )
        return {"root": str(folder), "download": False, "checksum": False}

"""MNIST from torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._idx import FILES, IdxSource, read_splits, write_example

CLASSES = tuple("0123456789")


class MNIST(IdxSource):
    """MNIST: 28x28 grayscale handwritten digits, 60,000 + 10,000 (LeCun et al. 1998)."""

    license = License(
        "not stated",
        "http://yann.lecun.com/exdb/mnist/",
        note="copies of the data name CC-BY-SA-3.0 or MIT",
    )
    files = local_files = tuple(f"MNIST/raw/{name}" for name in FILES)

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits from torchvision's layout."""
        from torchvision.datasets import MNIST

        train, test = read_splits(self, MNIST)
        return train, test, CLASSES

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random images in the IDX format."""
        return write_example(folder / "MNIST" / "raw")

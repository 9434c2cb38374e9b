"""FashionMNIST from torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._idx import FILES, IdxSource, read_splits, write_example

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")


class FashionMNIST(IdxSource):
    """FashionMNIST: 28x28 grayscale images of clothes, 60,000 + 10,000 (Xiao et al. 2017)."""

    license = License("MIT", "https://github.com/zalandoresearch/fashion-mnist")
    files = local_files = tuple(f"FashionMNIST/raw/{name}" for name in FILES)

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits from torchvision's layout."""
        from torchvision.datasets import FashionMNIST

        train, test = read_splits(self, FashionMNIST)
        return train, test, CLASSES

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random images in the IDX format."""
        return write_example(folder / "FashionMNIST" / "raw")

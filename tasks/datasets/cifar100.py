"""CIFAR-100 from torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._cifar import read_splits, write_example
from noisybench.tasks.datasets._torchvision import TorchvisionSource


class Cifar100(TorchvisionSource):
    """CIFAR-100: 32x32 color images of a hundred fine classes, 50,000 + 10,000 (Krizhevsky 2009)."""

    license = License(
        "not stated", "https://www.cs.toronto.edu/~kriz/cifar.html", note="the authors ask to cite a report"
    )
    files = ("cifar-100-python.tar.gz",)
    local_files = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits from torchvision's layout."""
        from torchvision.datasets import CIFAR100

        return read_splits(self, CIFAR100)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random images of six classes in the pickled-batch format, with other checksums than the published ones."""
        names = [f"class_{number}" for number in range(6)]
        write_example(
            folder / "cifar-100-python", ["train"], "test", "fine_labels", ("meta", "fine_label_names", names)
        )
        return {"root": str(folder), "download": False, "checksum": False}

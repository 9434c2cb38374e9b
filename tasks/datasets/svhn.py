"""Street View House Numbers from torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import class_images
from noisybench.tasks.datasets._torchvision import TorchvisionSource
from noisybench.utils.seeds import Stream


class Svhn(TorchvisionSource):
    """SVHN: 32x32 color crops of house numbers, 73,257 + 26,032 (Netzer et al. 2011)."""

    license = License("custom terms", "http://ufldl.stanford.edu/housenumbers/", note="no commercial use")
    files = local_files = ("train_32x32.mat", "test_32x32.mat")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits from torchvision's layout."""
        from torchvision.datasets import SVHN

        class Unverified(SVHN):  # type: ignore[misc]
            """The same reader without checksums."""

            def _check_integrity(self) -> bool:
                return Path(self.root, str(self.filename)).is_file()

        constructor = SVHN if self.checksum else Unverified
        train, test = (self.open(constructor, split=name) for name in ("train", "test"))
        # torchvision transposes the array of the file, which leaves the pixels of an image far apart in memory.
        splits = [RawSplit(np.ascontiguousarray(split.data), split.labels.astype(np.int64)) for split in (train, test)]
        return splits[0], splits[1], tuple("0123456789")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write random images in the MATLAB format, with other checksums than the published ones."""
        from scipy.io import savemat

        for name, count in (("train_32x32.mat", 120), ("test_32x32.mat", 40)):
            digits = np.arange(count) % 10
            pixels = class_images(Stream("svhn example", name), digits, 10, (32, 32, 3)).transpose(1, 2, 3, 0)
            # The format writes the digit zero as 10.
            savemat(folder / name, {"X": pixels, "y": np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]})
        return {"root": str(folder), "download": False, "checksum": False}

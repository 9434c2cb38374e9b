"""scikit-learn's bundled handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource


class Digits(DatasetSource):
    """1,797 handwritten digits of 8x8 pixels, embedded in scikit-learn: no download (Alpaydin and Kaynak 1998)."""

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """All digits; the test split is held out by `test_fraction`."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        # The source counts ink from 0 to 16.
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        return RawSplit(images, digits.target.astype(np.int64)), None, tuple("0123456789")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Nothing to write: the digits are embedded."""
        return {"train_size": 200, "test_size": 100}

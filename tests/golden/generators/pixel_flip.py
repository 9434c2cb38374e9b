"""Independent noise of pixels in the code of ADELE, which its authors do not use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.generators.morph_scaled import COMMIT, REFERENCE, load_reference

__all__ = ["COMMIT", "COMPUTED", "REFERENCE", "generate"]

COMPUTED = "loading.noise_seg: transitions of 250,000 pixels of 5 classes at rates of .05 and .3"
RATES = (0.05, 0.3)


def generate(folder: Path) -> dict[str, Any]:
    """Return rates and (R, 5, 5) counts of clean and noisy classes."""
    reference = load_reference(folder)
    mask = np.arange(250_000).reshape(500, 500) % 5
    counts = np.zeros((len(RATES), 5, 5))
    for position, rate in enumerate(RATES):
        np.random.seed(0)  # noqa: NPY002 (the reference draws from this generator)
        np.add.at(counts[position], (mask, reference.noise_seg(mask, rate).astype(int)), 1)
    return {"rates": np.array(RATES), "counts": counts}

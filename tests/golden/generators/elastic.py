"""Smooth displacements and their use on masks, computed by SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.golden.generators.markov_boundary import blob_masks

REFERENCE = "https://github.com/scipy/scipy"
COMMIT = "1.17.1"
COMPUTED = (
    "gaussian_filter and map_coordinates: 4 masks of 64x64 pixels warped by the smooth fields of the numbers of "
    "np.random.seed(position), with standard deviations of 2 and 4 for smoothing by 3 and 6 pixels"
)
SETTINGS = ((2.0, 3.0), (2.0, 6.0), (4.0, 3.0), (4.0, 6.0))


def generate(folder: Path | None) -> dict[str, Any]:
    """Return masks, settings and warped masks."""
    masks, warped = blob_masks(4, 64), []
    for position, (mask, (amplitude, smoothness)) in enumerate(zip(masks, SETTINGS, strict=True)):
        state = np.random.RandomState(position)
        places = np.mgrid[:64, :64].astype(np.float64)
        for axis in range(2):
            # The border and the reach of OpenCV's filter: edge pixels are not repeated, the kernel ends at 4 deviations.
            field = gaussian_filter(state.standard_normal((64, 64)), smoothness, mode="mirror", truncate=4.0)
            places[axis] += amplitude * field / field.std()
        warped.append(map_coordinates(mask, places, order=0, mode="nearest"))
    return {
        "masks": np.packbits(masks), "shape": np.array(masks.shape), "settings": np.array(SETTINGS),
        "warped": np.packbits(warped),
    }  # fmt: skip

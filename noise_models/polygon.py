"""Coarse polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.noise_models._contours import approximated
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, objects, paste, remove


class Polygon(MaskNoise):
    """Objects become coarse polygons, as hurried annotators draw them (Kimhi et al. 2024, "approximation")."""

    stream_name = "polygon"

    tolerance: float = parameter(
        5.0, ge=0, low=2.0, high=15.0, help="of the simplified contour, in pixels", always_in_label=True
    )
    probability: float = parameter(1.0, ge=0, le=1, help="that an object is simplified")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Half of the objects, which the seed chooses."""
        return {"probability": 0.5, "seed": 0}

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Simplified objects; growing takes background alone."""
        found, changed = mask.copy(), []
        for each in objects(mask):
            if given.draw() < self.probability:
                remove(found, each)
                changed.append(approximated(each, given.severity * self.tolerance))
        for each in changed:
            paste(found, each)
        return found

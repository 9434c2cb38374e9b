"""Unsteady contours."""

from __future__ import annotations

from noisybench.config.parameters import parameter
from noisybench.noise_models._contours import jittered
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, objects, paste, remove


class VertexJitter(MaskNoise):
    """Vertices of objects' contours move by normal numbers (Kimhi et al. 2024, "localisation")."""

    stream_name = "vertex_jitter"

    deviation: float = parameter(3.0, ge=0, low=1.0, high=6.0, help="of a vertex, in pixels", always_in_label=True)
    spacing: float = parameter(1.0, ge=0, le=20, help="tolerance of the polygon whose vertices move, in pixels")
    probability: float = parameter(1.0, ge=0, le=1, help="that an object's contour moves")

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Objects with moved contours; growing takes background alone."""
        found, changed = mask.copy(), []
        for each in objects(mask):
            if given.draw() < self.probability:
                remove(found, each)
                changed.append(jittered(each, given.severity * self.deviation, given, self.spacing))
        for each in changed:
            paste(found, each)
        return found

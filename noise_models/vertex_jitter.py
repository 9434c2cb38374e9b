"""Jittered contours."""

from __future__ import annotations

from typing import Literal

from noisybench.config.parameters import parameter
from noisybench.noise_models._contours import jitter_contours
from noisybench.noise_models._masks import Mask, MaskContext, MaskNoise, erase, find_objects, paste, with_preset

PRESETS = {"easy": {"deviation": 2.0}, "medium": {"deviation": 3.0}, "hard": {"deviation": 4.0}}


class VertexJitter(MaskNoise):
    """Displace the vertices of object contours by normal noise (Kimhi et al. 2024, "localization").

    The presets are the published levels; as in the published script, they displace every corner of the contour, whatever
    `spacing` is, and fill holes.
    """

    stream_name = "vertex_jitter"

    preset: Literal["default", "easy", "medium", "hard"] = parameter(
        "default", help="Published deviation, with the script's treatment of corners and holes, or your own"
    )
    deviation: float = parameter(
        3.0,
        ge=0,
        low=1.0,
        high=6.0,
        help="Standard deviation of the displacement of a vertex, in pixels",
        always_in_label=True,
    )
    spacing: float = parameter(
        1.0, ge=0, le=20, help="Tolerance of the polygon whose vertices are displaced, in pixels"
    )
    probability: float = parameter(1.0, ge=0, le=1, help="Probability that the contour of an object is jittered")

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with jittered contours; objects grow on background only."""
        deviation = context.severity * with_preset(self, PRESETS)["deviation"]
        noisy, jittered = mask.copy(), []
        for item in find_objects(mask):
            if context.random() < self.probability:
                erase(noisy, item)
                published = self.preset != "default"
                jittered.append(jitter_contours(item, deviation, context, self.spacing, published))
        # After all objects are erased, so that a contour can move to what its neighbors have left.
        for item in jittered:
            paste(noisy, item)
        return noisy

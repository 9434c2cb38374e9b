"""Jittered contours."""

from __future__ import annotations

from typing import Literal

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._contours import jitter_contours
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects, with_preset
from noisybench.noise_models._regions import Mask, erase

PRESETS = {"easy": {"deviation": 2.0}, "medium": {"deviation": 3.0}, "hard": {"deviation": 4.0}}


class VertexJitter(MaskNoise):
    """Displace the vertices of object contours by normal noise (Kimhi et al. 2024, "localization").

    The presets are the published levels; as in the published script, they displace every corner of the contour, whatever
    `spacing` is, and fill holes.
    """

    stream_name = "vertex_jitter"
    fidelity = Fidelity(
        reference="https://github.com/eden500/Noisy-Labels-Instance-Segmentation",
        commit="66ec5f59076344051c3ccb08a035d15c879d6a6f",
        license="Apache-2.0",
        compared="52 objects in images of 32, 64, 128 and 256 pixels, displaced by deviations of 2, 3 and 4 by the same "
        "random numbers",
        difference="0 pixels with a preset where the contour stays in the image; else at most 10 pixels of an object",
        golden=("coco_n",),
        deviations=(
            Deviation(
                "without a preset, contours are simplified by `spacing` before vertices are displaced; the authors "
                "displace every corner",
                "corners of a digital contour are as dense as its pixels allow",
                "mean IoU with objects of 128 pixels .862, .800 and .752 instead of .837, .766 and .694 at "
                "deviations of 2, 3 and 4",
            ),
            Deviation(
                "a displaced contour is filled before the parts outside of the image are cut off; the authors cut "
                "off its lines first",
                "no other result for an object that is moved",
                "none where the contour stays in the image; at most 10 pixels of an object in images of 32 pixels",
            ),
            Deviation(
                "objects grow on background only, since a pixel has one label; the authors keep a mask for each "
                "annotation",
                "one label for each pixel",
                "none for objects apart from each other; else the pixels that two noisy objects would share",
            ),
            Deviation(
                "without instance masks, an object is a connected component of a class; the authors' is an annotated instance",
                "few sets of masks have instances",
                "none with instance masks; else none for instances apart from each other and in one piece",
            ),
        ),
    )

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
        for item in context.objects(mask):
            if context.random() < self.probability:
                erase(noisy, item)
                published = self.preset != "default"
                jittered.append(jitter_contours(item, deviation, context, self.spacing, published=published))
        # After all objects are erased, so that a contour can move to what its neighbors have left.
        draw_objects(noisy, mask, jittered, context)
        return noisy

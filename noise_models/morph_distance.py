"""Growth or shrinkage of classes by a distance."""

from __future__ import annotations

from typing import Literal

from scipy.ndimage import distance_transform_edt

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise, in_turn, with_preset
from noisybench.noise_models._regions import Mask, present_classes, replace_class

PRESETS = {
    "jsrt": {"range": [7.0, 9.0]},
    "jsrt_clavicle": {"range": [3.0, 5.0]},
    "isic": {"range": [7.0, 9.0]},
}
"""Settings of Yao et al. 2023, Table 1: J3 (heart and lung; clavicle) and I3."""


class MorphDistance(MaskNoise):
    """Grow or shrink each class by a random distance (Yao et al. 2023, "dilation and erosion").

    `preset` has the published settings, for images of 256x256 pixels (JSRT) and for ISIC 2017.
    """

    stream_name = "morph_distance"
    fidelity = Fidelity(
        reference="https://github.com/michaelofsbu/SpatialCorrection",
        commit="49aae60fc67ec1a9f42a99b46e8c887f1f70737b",
        license="not stated",
        compared="6 masks with objects inside and at the edge of the image, grown and shrunk by the same four distances",
        difference="0 pixels",
        golden=("morph_distance",),
        deviations=(
            Deviation(
                "pixels at exactly the drawn distance change; in the authors' code they do not",
                "a range of [3, 3] moves boundaries by 3 pixels",
                "none for a distance drawn from an interval; one pixel for a fixed whole distance",
            ),
            Deviation(
                "a mask has several classes, each of which grows on background only, smallest first; the authors corrupt "
                "one binary mask for each organ",
                "one label for each pixel",
                "none for one class; else the pixels that two noisy classes would share",
            ),
        ),
    )

    preset: Literal["default", "jsrt", "jsrt_clavicle", "isic"] = parameter(
        "default", help="Published value of the range, or your own"
    )
    range: list[float] = parameter([3.0, 5.0], help="Smallest and largest distance, in pixels", always_in_label=True)
    over: float = parameter(
        0.5, ge=0, le=1, low=0.0, high=1.0, help="Probability that a class grows", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with moved boundaries; classes grow on background only."""
        limits = with_preset(self, PRESETS)["range"]
        if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
            raise UserError(f"noise.range: needs two distances from 0 in increasing order, but got {limits}")
        noisy = mask.copy()
        for label, neighbors in in_turn(noisy, present_classes(mask), context):
            grows, distance = context.random() < self.over, context.severity * context.uniform(*limits)
            region = noisy == label
            if grows:
                # The distance is measured to the nearest zero, so the region is inverted to measure outside of it.
                replace_class(noisy, label, region, distance_transform_edt(~region) <= distance, neighbors)
            elif not region.all():
                # An object may continue beyond the edge of the image, so that edge is not a boundary. Without a boundary
                # SciPy has nothing to measure to.
                replace_class(noisy, label, region, distance_transform_edt(region) > distance, neighbors)
        return noisy

"""Coarse polygons instead of exact contours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset
from noisybench.noise_models._contours import simplify_contours
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects, with_preset
from noisybench.noise_models._regions import Mask, erase

PRESETS = {"easy": {"tolerance": 5.0}, "medium": {"tolerance": 10.0}, "hard": {"tolerance": 15.0}}


class Polygon(MaskNoise):
    """Replace objects by coarse polygons, as hurried annotators draw them (Kimhi et al. 2024, "approximation").

    Objects survive at every tolerance, as triangles at least (Douglas and Peucker 1973, with preserved topology). The
    presets are the published levels; as in the published script, they also fill holes and drop contours of fewer than
    four vertices.
    """

    stream_name = "polygon"
    fidelity = Fidelity(
        reference="https://github.com/eden500/Noisy-Labels-Instance-Segmentation",
        commit="66ec5f59076344051c3ccb08a035d15c879d6a6f",
        license="Apache-2.0",
        compared="52 objects in images of 32, 64, 128 and 256 pixels, at tolerances of 5, 10 and 15 pixels",
        difference="0 pixels with a preset; .009 in the mean IoU with the objects without one",
        golden=("coco_n",),
        deviations=(
            Deviation(
                "without a preset, holes stay open and contours of fewer than four vertices stay as they are; the "
                "authors fill holes and drop such contours",
                "a coarse contour is no missing object",
                "none with a preset; without one, the holes and the objects of at most two pixels' width",
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
            Deviation(
                "vertices depend on the version of GEOS in shapely: from 3.13 also the first vertex of a contour "
                "can be removed",
                "the authors name no version",
                "half of the simplified contours differ in their vertices between GEOS 3.11 and 3.14, none of "
                "11,325 between 3.13 and 3.14",
            ),
        ),
    )

    preset: Literal["default", "easy", "medium", "hard"] = parameter(
        "default", help="Published tolerance, with the script's treatment of holes and tiny contours, or your own"
    )
    tolerance: float = parameter(
        5.0,
        ge=0,
        low=2.0,
        high=15.0,
        help="Largest distance between polygon and contour, in pixels",
        always_in_label=True,
    )
    probability: float = parameter(1.0, ge=0, le=1, help="Probability that an object is simplified")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return parameters that simplify half of the objects, so that the seed matters."""
        return {"probability": 0.5, "seed": 0}

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with simplified objects, which grow on background only."""
        tolerance = context.severity * with_preset(self, PRESETS)["tolerance"]
        noisy, simplified = mask.copy(), []
        for item in context.objects(mask):
            if context.random() < self.probability:
                erase(noisy, item)
                simplified.append(simplify_contours(item, tolerance, published=self.preset != "default"))
        # After all objects are erased, so that a polygon can cover what its neighbors have left.
        draw_objects(noisy, mask, simplified, context)
        return noisy

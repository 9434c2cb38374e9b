"""COCO-N: mixtures of contour noise and incorrect classes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._contours import jitter_contours, simplify_contours
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects
from noisybench.noise_models._regions import Mask, MaskObject, erase, grow


class _Mixture(NamedTuple):
    """Strength of each kind of noise.

    Attributes:
        probability: probability of each of the three kinds of contour noise.
        tolerance: tolerance of polygons, in pixels.
        deviation: standard deviation of vertex displacements, in pixels.
        square: side of the square that dilates or erodes, in pixels.
        class_rate: probability that the class is redrawn.
    """

    probability: float
    tolerance: float
    deviation: float
    square: int
    class_rate: float


LEVELS = {
    "easy": _Mixture(0.2, 5.0, 2.0, 3, 0.2),
    "medium": _Mixture(0.25, 10.0, 3.0, 5, 0.3),
    "hard": _Mixture(0.3, 15.0, 4.0, 7, 0.4),
}


class CocoN(MaskNoise):
    """Give each object a coarse polygon, a jittered contour, another size, or none of these, and redraw some classes.

    The levels are those of COCO-N (Kimhi et al. 2024): `easy`, `medium` and `hard` have probability 0.2, 0.25 and 0.3 of
    each kind, tolerances of 5, 10 and 15 pixels, deviations of 2, 3 and 4, squares of 3, 5 and 7, and classes redrawn
    with probability 0.2, 0.3 and 0.4. `preset: paper` treats contours as the published script does: it displaces every
    corner, fills holes of changed contours, and drops contours of fewer than four vertices when it simplifies them.
    """

    stream_name = "coco_n"
    fidelity = Fidelity(
        reference="https://github.com/eden500/Noisy-Labels-Instance-Segmentation",
        commit="66ec5f59076344051c3ccb08a035d15c879d6a6f",
        license="Apache-2.0",
        compared="each kind of noise on 16 objects and at the edge of the image, from the same random numbers; kinds, "
        "classes and mean IoU of 1500 objects against 4000 of the authors at each level",
        difference="0 pixels with preset=paper where the contour stays in the image, else at most 10; .005 in the mean IoU",
        golden=("coco_n",),
        deviations=(
            Deviation(
                "without preset=paper, contours are simplified by one pixel before vertices are displaced, holes "
                "stay open and tiny contours stay as they are",
                "a coarse contour is no missing object",
                "see polygon and vertex_jitter; none with preset=paper where the contour stays in the image",
            ),
            Deviation(
                "one generator of random numbers; the authors draw the kind of noise from a second one, which they "
                "do not seed",
                "the same masks each time",
                "none in distribution",
            ),
            Deviation(
                "an object is dilated or eroded by at least one pixel at a low severity",
                "severity is not part of the publication",
                "none at severity 1",
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

    level: Literal["easy", "medium", "hard"] = parameter(
        "medium", help="Level of the published mixtures", always_in_label=True
    )
    preset: Literal["default", "paper"] = parameter(
        "default", help="Treatment of corners, holes and tiny contours, by the published script or by this model"
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with changed objects, which grow on background only."""
        level, severity = LEVELS[self.level], context.severity
        published = self.preset == "paper"
        noisy, changed = mask.copy(), []
        for item in context.objects(mask):
            # A fixed count for each object; only jittered contours draw more.
            draws = context.stream.uniform(4)
            # Three equal intervals for the kinds, the rest is unchanged. Severity 0, which would divide by zero, never
            # comes here.
            kind = int(draws[0] // (level.probability * min(1.0, severity)))
            label = item.label
            if draws[1] < level.class_rate * min(1.0, severity):
                label = 1 + int(draws[2] * (context.num_classes - 1))
            distorted = item
            if kind == 0:
                distorted = simplify_contours(item, severity * level.tolerance, published)
            elif kind == 1:
                distorted = jitter_contours(item, severity * level.deviation, context, published=published)
            elif kind == 2:
                amount = max(1, round(severity * (level.square // 2)))
                distorted = _resize(item, amount if draws[3] < 0.5 else -amount, mask.shape)
            erase(noisy, item)
            changed.append(MaskObject(label, distorted.pixels, distorted.top, distorted.left))
        # After all objects are erased, so that growing objects can cover what others have left.
        draw_objects(noisy, mask, changed, context)
        return noisy


def _resize(item: MaskObject, amount: int, shape: tuple[int, ...]) -> MaskObject:
    """Return an object dilated by ``amount`` pixels, or eroded if negative; the edge of the image is no boundary."""
    margin, (height, width) = abs(amount), item.pixels.shape
    # Background is added where the image continues, so an object is not eroded from the edge of the image.
    above, left = min(margin, item.top), min(margin, item.left)
    below, right = min(margin, shape[0] - item.top - height), min(margin, shape[1] - item.left - width)
    padded = np.pad(item.pixels, ((above, below), (left, right)))
    return MaskObject(item.label, grow(padded, amount), item.top - above, item.left - left)

"""Annotators with different labeling habits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise, in_turn
from noisybench.noise_models._regions import Mask, grow, present_classes, replace_class

HABITS = ("faithful", "over", "under", "wrong", "blank")


class Annotators(MaskNoise):
    """Label each image by one of several annotators with different habits (Zhang et al. 2020, "Disentangling").

    `faithful` annotators label correctly, `over` and `under` dilate or erode each class, `wrong` dilate each class and
    leave thin cracks, and `blank` label everything as background. Images are assigned at random in proportion to `shares`.
    """

    stream_name = "annotators"
    fidelity = Fidelity(
        reference="https://github.com/moucheng2017/Learn_Noisy_Labels_Medical_Images",
        commit="9e449feed73feb48feb7011615136ffd13d213d7",
        license="MIT (badge of the README; the file is missing)",
        compared="published masks of 20 digits, which were made with the software Morpho-MNIST: mean area and IoU, not "
        "single pixels",
        difference="area of `over` at strength 2 x3.10 instead of x2.92 (IoU with the published masks .89), of `under` at "
        "strength 1 x0.10 instead of x0.29, of `wrong` at strength 1 x1.89 instead of x1.98 (IoU .58)",
        golden=("annotators",),
        deviations=(
            Deviation(
                "`over` and `under` dilate and erode by a 3x3 square; the authors thicken and thin digits in "
                "proportion to the width of their strokes, and use the square for masks of several classes",
                "masks of objects, not of strokes",
                "`under` keeps .10 of a digit at strength 1 instead of .29",
            ),
            Deviation(
                "cracks are rows and columns of the image; the authors' are short breaks of strokes",
                "masks of objects, not of strokes",
                "IoU of `wrong` with the published masks .58 at strength 1",
            ),
            Deviation(
                "strength is 3 by default",
                "visible in images of 100 pixels and more",
                "a setting",
            ),
        ),
    )

    shares: list[float] = parameter(
        [0.2, 0.2, 0.2, 0.2, 0.2],
        help="Fractions of images labeled by faithful, over, under, wrong and blank annotators",
        always_in_label=True,
    )
    strength: int = parameter(
        3, ge=1, help="Number of pixels by which classes are dilated or eroded", always_in_label=True
    )
    cracks: float = parameter(
        0.1, ge=0, le=1, help="Fraction of the rows and columns of a class that are cracks (`wrong` annotators)"
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask as drawn by its annotator."""
        if len(self.shares) != len(HABITS) or min(self.shares) < 0 or not sum(self.shares):
            raise UserError(
                f"noise.shares: needs {len(HABITS)} fractions, for {', '.join(HABITS)}, but got {self.shares}"
            )
        edges = np.cumsum(self.shares) / sum(self.shares)
        # side="right" skips habits with a share of 0.
        habit = HABITS[int(np.searchsorted(edges, context.random(), side="right"))]
        noisy, amount = mask.copy(), context.stochastic_round(context.severity * self.strength)
        if habit == "faithful":
            return noisy
        if habit == "blank":
            # A severity below 1 makes some of these annotators label correctly.
            # Without a background, the class of the largest area takes its place.
            blank = 0 if context.has_background else present_classes(mask)[-1]
            return np.full_like(noisy, blank) if context.random() < context.severity else noisy
        for label, neighbors in in_turn(noisy, present_classes(mask), context):
            region = np.asarray(noisy == label, dtype=np.uint8)
            changed = grow(region, -amount if habit == "under" else amount)
            if habit == "wrong":
                changed = self._crack(changed, context)
            replace_class(noisy, label, region, changed, neighbors)
        return noisy

    def _crack(self, region: NDArray[np.uint8], context: MaskContext) -> NDArray[np.uint8]:
        """Return a region without some rows and columns."""
        fraction = min(1.0, context.severity * self.cracks)
        # Half of the fraction each, because rows and columns both remove pixels.
        rows, columns = (context.stream.uniform(side) >= fraction / 2 for side in region.shape)
        return region * np.asarray(rows[:, None] & columns[None, :], dtype=np.uint8)

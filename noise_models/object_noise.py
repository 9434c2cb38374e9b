"""Noise of whole objects: missing, added, shifted, merged and mislabeled ones."""

from __future__ import annotations

import math

import numpy as np

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects
from noisybench.noise_models._objects import draw_donor, join
from noisybench.noise_models._regions import Mask, MaskObject, erase, transform


class ObjectNoise(MaskNoise):
    """Drop, shift, merge or mislabel whole objects, and add false ones.

    Each object suffers at most one kind, with the probabilities `drop`, `shift`, `merge` and `mislabel`: it disappears; it
    moves by `distance` times the square root of its area, in a random direction; it is joined with the nearest object of its
    class in the image by the convex hull of both; or its class is drawn from all other foreground classes. An object
    without another one of its class is not merged. For each object, a false one from a random image of the split is added
    with probability `add`. Objects are the instances of the dataset if it has instance masks, and else connected components.
    Changed objects cover background only. A severity beyond that at which all objects change only adds further false ones. With
    instances, the manifest counts what became of the objects (`objects`).
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="numbers of changed objects of each kind against the rates, on drawn scenes with instances",
        deviations=(
            Deviation(
                "no publication has these five kinds; `coco_n` has those of COCO-N: contours, sizes and classes",
                "missing, false and merged objects are frequent in annotations of many small objects",
                "not comparable with published numbers",
            ),
        ),
    )

    stream_name = "object_noise"

    drop: float = parameter(0.1, ge=0, le=1, low=0.0, high=0.4, help="Probability that an object is missing")
    shift: float = parameter(0.1, ge=0, le=1, low=0.0, high=0.4, help="Probability that an object is shifted")
    merge: float = parameter(
        0.1, ge=0, le=1, low=0.0, high=0.4, help="Probability that an object is merged with another"
    )
    mislabel: float = parameter(0.1, ge=0, le=1, low=0.0, high=0.4, help="Probability that an object has another class")
    add: float = parameter(0.1, ge=0, le=1, low=0.0, high=0.4, help="Number of false objects for each object")
    distance: float = parameter(
        0.3, gt=0, help="Distance of shifted objects, relative to the square root of their area"
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with changed and false objects."""
        rates = np.array([self.drop, self.shift, self.merge, self.mislabel])
        # Fractions such as 0.05, 0.55, 0.3 and 0.1 exceed their sum by rounding.
        if rates.sum() > 1 + 1e-9:
            raise UserError(
                f"noise: drop, shift, merge and mislabel exclude each other for an object, so their sum must be at most 1, but "
                f"is {rates.sum():g}; lower one of them"
            )
        if self.mislabel and context.num_classes < 3:
            raise UserError("noise.mislabel: there is one class of objects, so that none can have another; set it to 0")
        # No more than all objects can change; the kinds keep their proportions.
        limits = np.cumsum(min(context.severity, 1 / max(rates.sum(), 1e-9)) * rates)
        noisy, present, changed = mask.copy(), list(context.objects(mask)), list[MaskObject]()
        for item in present:
            # A fixed count for each object, so that its fate does not depend on that of others.
            draws = context.stream.uniform(2)
            kind = int(np.searchsorted(limits, draws[0], side="right"))
            if kind == len(rates):
                continue
            replacement = self._change(kind, float(draws[1]), item, present, context)
            if replacement is not item:
                erase(noisy, item)
            if replacement is not None and replacement is not item:
                changed.append(replacement)
        for _ in range(context.stochastic_round(context.severity * self.add * len(present))):
            false_object = draw_donor(context, mask.shape)
            if false_object is not None:
                changed.append(false_object)
        # After all objects are erased, so that changed ones can cover what others have left.
        draw_objects(noisy, mask, changed, context)
        return noisy

    def _change(
        self, kind: int, draw: float, item: MaskObject, present: list[MaskObject], context: MaskContext
    ) -> MaskObject | None:
        """Return what becomes of an object: another one, itself, or None if it is missing.

        Args:
            kind: position among drop, shift, merge and mislabel.
            draw: random number in [0, 1).
            item: the object.
            present: all objects of the image.
            context: context of the image.
        """
        if kind == 0:
            return None
        if kind == 1:
            length, angle = self.distance * math.sqrt(item.pixels.sum()), 2 * math.pi * draw
            return transform(item, 0.0, 1.0, length * math.sin(angle), length * math.cos(angle))
        if kind == 2:
            others = [other for other in present if other.label == item.label and other is not item]
            nearest = min(others, key=lambda other: math.dist(_center(item), _center(other)), default=None)
            return item if nearest is None else join(item, nearest)
        labels = [label for label in range(1, context.num_classes) if label != item.label]
        return MaskObject(labels[int(draw * len(labels))], item.pixels, item.top, item.left)


def _center(item: MaskObject) -> tuple[float, float]:
    return item.top + item.pixels.shape[0] / 2, item.left + item.pixels.shape[1] / 2

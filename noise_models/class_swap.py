"""Objects with an incorrect class."""

from __future__ import annotations

import numpy as np

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import MaskContext, MaskNoise
from noisybench.noise_models._regions import Mask


class ClassSwap(MaskNoise):
    """Redraw the class of whole objects from all foreground classes, including their own (Kimhi et al. 2024).

    With K foreground classes an object keeps its class with probability 1 - rate + rate / K. Classes in different
    `groups`, such as super-categories, are never exchanged.
    """

    stream_name = "class_swap"
    fidelity = Fidelity(
        formula="P(k | y) = rate / K for k ≠ y,  P(y | y) = 1 - rate + rate / K",
        reference="https://github.com/eden500/Noisy-Labels-Instance-Segmentation",
        commit="66ec5f59076344051c3ccb08a035d15c879d6a6f",
        license="Apache-2.0",
        compared="transitions of 32,000 objects against the authors' matrices for all classes and for groups",
        difference="0 in the probabilities; .013 in the drawn fractions",
        golden=("coco_n",),
        deviations=(
            Deviation(
                "without instance masks, an object is a connected component of a class; the authors' is an annotated instance",
                "few sets of masks have instances",
                "none with instance masks; else none for instances apart from each other and in one piece",
            ),
        ),
    )

    rate: float = parameter(
        0.3, ge=0, le=1, low=0.1, high=0.5, help="Probability that the class is redrawn", always_in_label=True
    )
    groups: list[list[int]] | None = parameter(None, help="Groups of classes that are exchanged only among themselves")

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with redrawn classes of some objects."""
        offset = context.class_offset
        groups = [[label + offset for label in group] for group in self.groups or ()]
        groups = groups or [list(range(1, context.num_classes))]
        members = [label for group in groups for label in group]
        if len(set(members)) != len(members) or not all(0 < label < context.num_classes for label in members):
            raise UserError(
                f"noise.groups: each class from {1 - offset} to {context.num_classes - 1 - offset} may be in one group only, "
                f"but got {self.groups}"
            )
        noisy = mask.copy()
        for item in context.objects(mask):
            # Both numbers for every object, so that a higher rate redraws the class of a superset of the objects.
            draws = context.stream.uniform(2)
            group = next((group for group in groups if item.label in group), [item.label])
            if draws[0] < min(1.0, context.severity * self.rate):
                height, width = item.pixels.shape
                region = noisy[item.top : item.top + height, item.left : item.left + width]
                # `region` is a view, so this writes to `noisy`.
                region[item.pixels > 0] = np.uint8(group[int(draws[1] * len(group))])
        return noisy

"""Objects of another class."""

from __future__ import annotations

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise, objects


class ClassSwap(MaskNoise):
    """A whole object is given another class, drawn from all but the background with its own among them (Kimhi et al. 2024).

    With K such classes an object keeps its own with probability 1 - rate + rate / K. `groups` of classes, such as
    super-categories, exchange only among themselves.
    """

    stream_name = "class_swap"

    rate: float = parameter(
        0.3, ge=0, le=1, low=0.1, high=0.5, help="probability that the class is drawn anew", always_in_label=True
    )
    groups: list[list[int]] | None = parameter(None, help="classes that are exchanged among themselves alone")

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Objects with drawn classes."""
        groups = self.groups or [list(range(1, given.classes))]
        members = [each for group in groups for each in group]
        if len(set(members)) != len(members) or not all(0 < each < given.classes for each in members):
            raise UserError(
                f"noise.groups: each class from 1 to {given.classes - 1} may stand in one group, but got {self.groups}"
            )
        found = mask.copy()
        for each in objects(mask):
            draws = given.stream.uniform(2)
            group = next((group for group in groups if each.label in group), [each.label])
            if draws[0] < min(1.0, given.severity * self.rate):
                place = found[each.top : each.top + each.shape.shape[0], each.left : each.left + each.shape.shape[1]]
                place[each.shape > 0] = np.uint8(group[int(draws[1] * len(group))])
        return found

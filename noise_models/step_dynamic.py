"""First incorrect steps at a uniform place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.noise_models._steps import StepNoise


class StepDynamic(StepNoise):
    """Label the first incorrect step of a solution at a uniform other place, and all later steps as incorrect.

    The error of one label propagates to the labels of the steps after it, as that of a value does in `cot_dynamic`; with
    `symmetric_exclusive` the labels of steps are incorrect independently of each other. The place is uniform among all
    steps, and none of them, but for the correct one.
    """

    stream_name = "step_dynamic"
    fidelity = Fidelity(
        formula="P(t' | t) = rate / S for t' ≠ t in 0 … S,  P(t | t) = 1 - rate, for a solution of S steps",
        reference="",
        commit="",
        compared="frequencies of the moved places with the formula; labels are incorrect from the moved place on",
    )

    def move(self, first_error: int, count: int, uniform: NDArray[np.float64]) -> int:
        """Return one of the other places, all equally likely."""
        place = int(uniform[0] * count)
        return place + (place >= first_error)

"""First incorrect steps as a Monte Carlo annotator finds them: too early or too late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._steps import StepNoise


class StepAnnotator(StepNoise):
    """Label steps as an annotator that completes solutions from each step, and rates the step by the outcomes.

    An annotator that fails on a problem finds the first incorrect step too early, one that repairs errors finds it too
    late, or not at all (Ding et al. 2025, SCAN). A fraction `early` of the mislabeled solutions is labeled too early and
    the others too late; the distance is geometric with the mean `distance`, so that small deviations are the most
    frequent, as in SCAN. Where a solution has no earlier, or no later, place, the other direction is taken.
    """

    stream_name = "step_annotator"
    fidelity = Fidelity(
        formula="t' = max(t - g, 0) with probability early, min(t + g, S) otherwise; P(g) = (1 - 1/d)^(g - 1) / d",
        reference="",
        commit="",
        compared="frequencies of the moved places with the formula; no label of another solution changes",
        deviations=(
            Deviation(
                "the noise of SCAN comes from completions by a language model; here directions and distances are drawn",
                "no model is needed, and the correct places are known",
                "the noise does not depend on the difficulty of a problem",
            ),
        ),
    )

    early: float = parameter(
        0.3, ge=0, le=1, help="Fraction of the mislabeled solutions that are labeled too early", always_in_label=True
    )
    distance: float = parameter(1.5, ge=1, le=20, help="Mean number of steps by which the place is moved")

    def move(self, first_error: int, count: int, uniform: NDArray[np.float64]) -> int:
        """Return an earlier or a later place."""
        # Inverse of the geometric distribution function; 1 - uniform is in (0, 1], whose logarithm is finite.
        fail = 1 - 1 / self.distance
        steps = 1 if not fail else 1 + int(np.log(1 - uniform[1]) / np.log(fail))
        is_early = first_error == count or (first_error > 0 and uniform[0] < self.early)
        return max(first_error - steps, 0) if is_early else min(first_error + steps, count)

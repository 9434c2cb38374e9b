"""A stream of the random numbers that a reference drew, for comparisons on the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.utils.seeds import Stream


class NumpyStream(Stream):
    """Random numbers as of `numpy.random.seed(seed)`, in the order in which a reference draws them.

    Single numbers that only noisybench draws, such as the choice of a kind of noise, come before them.
    """

    def __init__(self, seed: int, before: Sequence[float] = ()) -> None:
        self._state, self._before = np.random.RandomState(seed), list(before)

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        if self._before:
            count = int(np.prod(shape))
            first, self._before = self._before[:count], self._before[count:]
            return np.array(first).reshape(shape)
        return np.asarray(self._state.random_sample(shape))

    def normal(self, *shape: int) -> NDArray[np.float64]:
        return np.asarray(self._state.standard_normal(shape))


def unpack(packed: NDArray[np.uint8], shape: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return binary masks from packed bits."""
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape)

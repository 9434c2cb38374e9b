"""Named random streams, so that noise, splits, initialization, order and augmentation never affect one another.

A stream is derived from its names alone, so it needs no state in a checkpoint: epoch 7 of a resumed run draws
what epoch 7 of an uninterrupted run draws.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def stable_hash(*names: object) -> int:
    """Return a 128-bit integer from the text of ``names``; equal on every machine and Python version.

    Examples:
        >>> stable_hash("noise", 1) == stable_hash("noise", "1") != stable_hash("noise", 2)
        True
    """
    # Without a separator, ("a", "bc") and ("ab", "c") would give one stream. `\x1f` does not occur in names.
    text = "\x1f".join(str(name) for name in names)
    # Python's own `hash` of text differs from process to process.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


class Stream:
    """Random numbers that are the same bytes on every machine and NumPy version.

    NumPy guarantees this for the raw bits of a bit generator but not for its distributions, so only the raw bits
    are used.

    Examples:
        >>> Stream("noise", "digits", 0).permutation(5)
        array([2, 4, 0, 1, 3])
        >>> Stream("noise", "digits", 0).permutation(5)
        array([2, 4, 0, 1, 3])
    """

    def __init__(self, *names: object) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(stable_hash(*names)))

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Return numbers in [0, 1) on a grid of 2**-32, so that adding a small integer to them is exact."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)), dtype=np.uint64)
        return ((raw >> np.uint64(32)).astype(np.float64) * 2.0**-32).reshape(shape)

    def chance(self, probability: float, *shape: int) -> NDArray[np.bool_]:
        """Return random booleans, which are True with a probability rounded to a multiple of 2**-16."""
        count = math.prod(shape)
        # Four 16-bit numbers from each 64-bit draw, because masks need many of them.
        # With an explicit byte order, every machine splits a draw into the same four numbers.
        raw = np.asarray(self._bits.random_raw(-(-count // 4)), dtype="<u8").view("<u2")[:count]
        threshold = round(probability * 2**16)
        # A threshold of 2**16, for probability 1, does not fit into 16 bits.
        hits = raw < np.uint16(threshold) if threshold < 2**16 else np.ones(count, dtype=bool)
        return np.asarray(hits).reshape(shape)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Return a random order of ``range(count)``."""
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        # NumPy's own shuffle may change between versions; a stable sort of raw bits does not, ties included.
        return np.argsort(raw, kind="stable").astype(np.int64)

    def normal(self, *shape: int) -> NDArray[np.float64]:
        """Return standard normal numbers, by inverting the distribution function."""
        from scipy.special import ndtri

        # Half a grid step keeps the argument off zero, where the inverse is minus infinity.
        return np.asarray(ndtri(self.uniform(*shape) + 2.0**-33), dtype=np.float64)


def torch_seed(*names: object) -> int:
    """Return a seed in [0, 2**63) for a ``torch.Generator``.

    Examples:
        >>> 0 <= torch_seed("order", 0) < 2**63
        True
    """
    return stable_hash(*names) >> 65


def use_deterministic_kernels(device: torch.device) -> None:
    """Make a GPU use deterministic kernels where PyTorch has them; CPU kernels are deterministic anyway."""
    if device.type != "cuda":
        return
    import torch

    torch.backends.cudnn.deterministic = True
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False  # a debugging aid that costs time
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # sums gradients in any order
    # Some operations have no deterministic kernel: these must not end the training.
    torch.use_deterministic_algorithms(True, warn_only=True)

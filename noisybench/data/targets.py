"""Targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OOD_TARGET = -1
"""Target of an example that belongs to none of the classes: it is out of distribution."""

UNKNOWN = -2
"""Target of an example whose class nobody knows."""

IGNORED = 255
"""In masks: nobody has labelled this pixel; in sequences: the end is passed. It counts nowhere."""

Targets = NDArray[Any]
"""(N,) int64 classes of examples; (N, H, W) uint8 classes of pixels, or (N, T) tokens of sequences, which may be `IGNORED`."""


def to_canonical_bytes(targets: Targets) -> bytes:
    """Targets as bytes that are the same on every machine: int64 little-endian, masks as they are."""
    return targets.tobytes() if targets.dtype == np.uint8 else targets.astype("<i8").tobytes()


def is_labeled(targets: Targets) -> NDArray[np.bool_]:
    """Like the targets, where a class is known."""
    return targets != IGNORED if targets.dtype == np.uint8 else targets >= 0

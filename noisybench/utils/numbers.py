"""Whole numbers that callers from Python give as arguments."""

from __future__ import annotations

import numbers


def as_integer(value: object) -> int | None:
    """Return a whole number of Python or NumPy as an integer; None for anything else, also for truth values.

    Example:
        >>> import numpy as np
        >>> as_integer(np.int64(3)), as_integer(True), as_integer(2.0)
        (3, None, None)
    """
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, numbers.Integral) else None

"""Rounding of shown numbers: one rule for the page, the terminal and files.

Numbers are rounded to `DECIMALS` places, scaled, and then rounded to the shown digits, ties to even. The page receives the
rounded numbers and applies the same rule (`fixed` in `static/base.js`), so that no number differs in its last digit there.
"""

from __future__ import annotations

DECIMALS = 7
"""Decimal places of the numbers that the page receives."""


def rounded(value: float) -> float:
    """Return a value with `DECIMALS` places.

    Example:
        >>> rounded(1 / 3)
        0.3333333
    """
    return round(value, DECIMALS)


def fixed(value: float, digits: int, scale: float = 1.0) -> str:
    """Return a scaled value with a number of decimal places.

    Args:
        value: the value.
        digits: decimal places.
        scale: factor, such as 100 for percentages.

    Example:
        >>> fixed(0.8125, 1, 100), fixed(0.8175, 1, 100), fixed(0.81250000001, 1, 100), fixed(-1e-9, 1, 100)
        ('81.2', '81.8', '81.2', '0.0')
    """
    # Adding zero turns the negative zero of a rounded value into zero.
    return f"{round(scale * rounded(value), digits) + 0.0:.{digits}f}"

"""Durations as people write them: ``90s``, ``1h30m``, ``2:30:00``."""

from __future__ import annotations

import re

from noisybench.errors import show

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
"""Seconds of each unit."""

MAX_DAYS = 366
"""Longest duration; schedulers give a year to jobs without a limit."""

GRAMMAR = "90s, 9m, 1h30m, 1.5h, or 2:30:00 for hours, minutes and seconds"
"""Examples of all forms, for messages and help."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration: numbers with units in the order d, h, m, s, or ``[days-]H:MM:SS``.

    Args:
        text: the duration; the last number with a unit may have decimals.

    Raises:
        ValueError: it has another form, is zero, or is longer than `MAX_DAYS`; the message shows the allowed forms.

    Example:
        >>> [parse_duration(text) for text in ("90s", "9m", "1h30m", "1.5h", "2:30:00", "1-00:00:00")]
        [90.0, 540.0, 5400.0, 5400.0, 9000.0, 86400.0]
        >>> parse_duration("90")
        Traceback (most recent call last):
        ValueError: expected a duration with a unit, such as 90s or 90m, but got `90`
    """
    value = text.strip().lower()
    shown = show(text, quotes=False)
    if re.fullmatch(r"[-−].*", value, re.ASCII):
        raise ValueError(f"expected a duration above zero, such as {GRAMMAR}, but got {shown}")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
        if not float(value):
            raise ValueError(f"expected a duration above zero, such as {GRAMMAR}, but got {shown}")
        raise ValueError(f"expected a duration with a unit, such as {value}s or {value}m, but got {shown}")
    if two := re.fullmatch(r"(\d{1,9}):(\d{2})", value, re.ASCII):
        first, second = two.groups()
        raise ValueError(
            f"expected hours, minutes and seconds, or units; write {first}:{second}:00 or {first}m{second}s instead of {shown}"
        )
    seconds = _parse_clock(value)
    if seconds is None:
        seconds = _parse_units(value)
    if seconds is None:
        raise ValueError(f"expected a duration such as {GRAMMAR}, but got {shown}")
    if not seconds:
        raise ValueError(f"expected a duration above zero, such as {GRAMMAR}, but got {shown}")
    if seconds > MAX_DAYS * UNITS["d"]:
        raise ValueError(f"expected at most {MAX_DAYS} days, but got {shown}")
    return seconds


def _parse_clock(value: str) -> float | None:
    """Return the seconds of ``[days-]H:MM:SS``; None if the text has another form."""
    clock = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,9}):([0-5]\d):([0-5]\d)", value, re.ASCII)
    if clock is None:
        return None
    return float(
        sum(int(number or 0) * seconds for number, seconds in zip(clock.groups(), UNITS.values(), strict=True))
    )


def _parse_units(value: str) -> float | None:
    """Return the seconds of numbers with units; None if the text has another form."""
    number, last = r"\d{1,9}", r"\d{1,9}(?:\.\d{1,9})?"
    parts = re.findall(rf"({last})([dhms])", value, re.ASCII)
    units = [unit for _, unit in parts]
    is_ordered = units == [unit for unit in UNITS if unit in units]
    is_whole = all(re.fullmatch(number, amount, re.ASCII) for amount, _ in parts[:-1])
    if not parts or "".join(amount + unit for amount, unit in parts) != value or not (is_ordered and is_whole):
        return None
    return sum(float(amount) * UNITS[unit] for amount, unit in parts)


def write_duration(seconds: float) -> str:
    """Return a duration in the form that `parse_duration` reads, rounded up to a limit that people would choose.

    Example:
        >>> write_duration(41.2), write_duration(95), write_duration(4000)
        ('45s', '2m', '1h10m')
    """
    # Five seconds, a minute or ten minutes: a limit needs no more digits.
    step = 5 if seconds <= 60 else 60 if seconds <= 3600 else 600
    rounded = int(-(-seconds // step) * step)
    parts = [(rounded // 3600, "h"), (rounded % 3600 // 60, "m"), (rounded % 60, "s")]
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "5s"


def format_duration(seconds: float | None) -> str:
    """Format a duration, as a question mark for None.

    Example:
        >>> format_duration(7500), format_duration(200), format_duration(12), format_duration(None)
        ('2 h 05 min', '3 min 20 s', '12 s', '?')
    """
    if seconds is None:
        return "?"
    rounded = round(seconds)
    if rounded >= 3600:
        return f"{rounded // 3600} h {rounded % 3600 // 60:02} min"
    return f"{rounded // 60} min {rounded % 60:02} s" if rounded >= 60 else f"{rounded} s"

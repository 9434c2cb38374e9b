"""Values that were written without quotes, whose type depends on where they stand."""

from __future__ import annotations

import re
from typing import Any

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip

MAX_DIGITS = 19
"""Number of digits of the largest 64-bit integer; longer numbers stay text, which every number parameter refuses."""


class PlainScalar(str):
    """Text without quotes that may stand for a number, a truth value or nothing, such as ``2024``, ``true`` or ``null``.

    It is the text itself where a name or path is wanted, and its `value` elsewhere. The declared type of the parameter
    decides, so that a folder can be called ``2024`` or ``1e3``.

    Example:
        >>> PlainScalar("010").value, PlainScalar("1e3").value, PlainScalar("true").value
        (10, 1000.0, True)
        >>> str(PlainScalar("010"))
        '010'
    """

    __slots__ = ()

    @property
    def value(self) -> Any:
        """Value of the text in the core schema of YAML 1.2."""
        return _core_value(str(self))

    def __repr__(self) -> str:
        # Messages show what the user wrote.
        return str(self)


def read_scalar(text: str) -> str:
    """Return the text as `PlainScalar` if it may be something else than text in the core schema of YAML 1.2.

    That schema has no ``yes`` and ``no``, no octal ``010``, no sexagesimal ``1:30`` and no ``1_000``.

    Example:
        >>> [type(read_scalar(text)).__name__ for text in ("12", "no", "1:30", "1_000", "null")]
        ['PlainScalar', 'str', 'str', 'str', 'PlainScalar']
    """
    value = _core_value(text)
    return text if isinstance(value, str) else PlainScalar(text)


def plain_value(value: Any) -> Any:
    """Return a value in which every `PlainScalar` is replaced by its own value, also inside lists and mappings.

    Example:
        >>> plain_value([PlainScalar("1"), {PlainScalar("2"): "a"}])
        [1, {2: 'a'}]
    """
    if isinstance(value, PlainScalar):
        return value.value
    if isinstance(value, dict):
        return {plain_value(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return value


def is_null(value: Any) -> bool:
    """Return True for nothing, also as the text ``null``.

    Example:
        >>> is_null(PlainScalar("null")), is_null("null")
        (True, False)
    """
    return value is None or (isinstance(value, PlainScalar) and value.value is None)


def _core_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-0")) > MAX_DIGITS:
            return text
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float("-inf") if text.startswith("-") else float("inf")
    return text

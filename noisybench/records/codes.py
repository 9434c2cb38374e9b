"""The code of a run: a digest of the source of each component, and how the codes of two runs differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

Code = tuple[tuple[str, str], ...]
"""Digests by component (``engine``, ``task``, ``dataset``, ``noise``, ``network``, ``mitigations.NAME``), in order of the
names. Empty if the code of a run was not recorded."""

SHORT_DIGEST = 8
"""Digits of a digest that messages show."""
MAX_DIFFERENCES = 6
"""Most components that a message lists; more than the parts of a run that all stacks share."""


def as_code(digests: Mapping[str, str]) -> Code:
    """Return digests by component as a value that can be compared and hashed.

    Example:
        >>> as_code({"task": "2b", "engine": "1a"})
        (('engine', '1a'), ('task', '2b'))
    """
    return tuple(sorted(digests.items()))


def tagged_code(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the code in noisybench's tags of a run; empty if it has none, or if the tag was edited in MLflow.

    Example:
        >>> tagged_code({"code": '{"engine": "1a"}'}), tagged_code({"code": "edited"})
        ({'engine': '1a'}, {})
    """
    try:
        code = json.loads(tags.get("code", "{}"))
    except ValueError:
        return {}
    return {str(name): str(digest) for name, digest in code.items()} if isinstance(code, dict) else {}


def matches_code(tags: Mapping[str, str], digits: str) -> bool:
    """Return True if the code in the tags of a run, or one of its components, has a digest that begins with some digits.

    Example:
        >>> matches_code({"code": '{"engine": "1a"}'}, "1"), matches_code({"code": '{"engine": "1a"}'}, "b")
        (True, False)
    """
    code = tagged_code(tags)
    return any(digest.startswith(digits) for digest in (code_digest(as_code(code)), *code.values()))


def shared_code(code: Code) -> Code:
    """Return the part of a code that all stacks of a setting have in common: everything except the mitigations.

    Example:
        >>> shared_code((("engine", "1a"), ("mitigations.gce", "3c")))
        (('engine', '1a'),)
    """
    return tuple((component, digest) for component, digest in code if not component.startswith("mitigations."))


def code_digest(code: Code) -> str:
    """Return one digest of a whole code; empty if the code was not recorded.

    Example:
        >>> code_digest((("engine", "1a"), ("task", "2b")))
        '98b014449b1b7dad'
        >>> code_digest(())
        ''
    """
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16] if code else ""


def code_differences(old: Code, new: Code) -> tuple[tuple[str, str, str], ...]:
    """Return the components whose digests differ, with the first digits of both; an absent component has ``none``.

    Example:
        >>> code_differences((("engine", "1a"), ("task", "2b")), (("engine", "9f"), ("task", "2b")))
        (('engine', '1a', '9f'),)
    """
    before, after = dict(old), dict(new)
    return tuple(
        (component, before.get(component, "none")[:SHORT_DIGEST], after.get(component, "none")[:SHORT_DIGEST])
        for component in sorted(before.keys() | after.keys())
        if before.get(component) != after.get(component)
    )


def describe_differences(differences: tuple[tuple[str, str, str], ...], sign: str = "->") -> str:
    """Return differences of two codes in one line, at most `MAX_DIFFERENCES` of them.

    Example:
        >>> describe_differences((("engine", "1a", "9f"), ("task", "2b", "8e")))
        'engine 1a -> 9f, task 2b -> 8e'
    """
    shown = [f"{component} {old} {sign} {new}" for component, old, new in differences[:MAX_DIFFERENCES]]
    num_more = len(differences) - len(shown)
    return ", ".join([*shown, *([f"and {num_more} more components"] if num_more else [])])

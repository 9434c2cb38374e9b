"""Overrides."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from noisybench.errors import UserError, nearest


def parse_stack(value: Any) -> list[Any]:
    """Members of a stack written as ``a``, ``a+b``, a mapping, or a list of those. An empty stack is cross-entropy."""
    if value is None or value == [] or value == "":
        return ["cross_entropy"]
    if isinstance(value, str):
        return [part.strip() for part in value.split("+")]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return [member for each in value for member in parse_stack(each)]
    return [value]


def parse_overrides(arguments: Iterable[str]) -> list[tuple[list[str], list[Any]]]:
    """Split ``a.b=x`` arguments into key path and the values to sweep over.

    A comma outside brackets and quotes separates values: ``seed=0,1,2`` is three runs. Values are YAML.

    Raises:
        UserError: an argument without ``=``, or a value that is no YAML.
    """
    parsed = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"`{argument}`: expected an override such as noise.rate=0.4")
        try:
            values = [_scalar(part) for part in _split_commas(text)]
        except yaml.YAMLError:
            raise UserError(f"`{argument}`: the value is not valid YAML") from None
        parsed.append((key.split("."), values))
    # Whole components first, so that `noise.rate=0.4 noise=pair_flip` does not lose the rate.
    return sorted(parsed, key=lambda each: len(each[0]))


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:  # YAML takes 1e-3 for text
            return float(value)
        except ValueError:
            return value
    return value


def _split_commas(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for character in text:
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif not quote:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def override(raw: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of a specification with one field set; ``mitigations.NAME.parameter`` finds the member of that name.

    Raises:
        UserError: the stack has no such member.
    """
    changed = copy.deepcopy(dict(raw))
    if path[0] == "mitigations" and len(path) > 1:
        members = [
            each if isinstance(each, dict) else {"name": each} for each in parse_stack(changed.get("mitigations"))
        ]
        chosen = [each for each in members if each.get("name") == path[1]]
        if not chosen or len(path) != 3:
            stack = [str(each.get("name")) for each in members]
            raise UserError(
                f"{'.'.join(path)}: expected mitigations.NAME.PARAMETER with a member of the stack; {nearest(path[1], stack)}"
            )
        chosen[0][path[2]] = value
        changed["mitigations"] = members
        return changed
    place = changed
    for key in path[:-1]:
        inner = place.get(key)
        place[key] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        place = place[key]
    place[path[-1]] = value
    return changed


def expand(raw: Mapping[str, Any], overrides: Iterable[str]) -> list[dict[str, Any]]:
    """All specifications that overrides make of one; more than one where a value has commas."""
    parsed = parse_overrides(overrides)
    expanded = []
    for values in itertools.product(*(values for _, values in parsed)):
        each: dict[str, Any] = dict(raw)
        for (path, _), value in zip(parsed, values, strict=True):
            each = override(each, path, value)
        expanded.append(each)
    return expanded

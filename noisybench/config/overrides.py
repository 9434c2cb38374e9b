"""Overrides of a specification from the command line, and stacks in their short form."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from noisybench.errors import UserError, nearest


def parse_stack(value: Any) -> list[Any]:
    """Return the members of a stack, each a name or a mapping.

    Args:
        value: ``a``, ``a+b``, a mapping with `name`, or a list of those. An empty stack is cross-entropy.

    Example:
        >>> parse_stack("mixup+elr")
        ['mixup', 'elr']
        >>> parse_stack(["mixup", {"name": "gce", "q": 0.5}])
        ['mixup', {'name': 'gce', 'q': 0.5}]
        >>> parse_stack(None)
        ['cross_entropy']
    """
    if value is None or value == [] or value == "":
        return ["cross_entropy"]
    if isinstance(value, str):
        return [part.strip() for part in value.split("+")]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return [member for item in value for member in parse_stack(item)]
    return [value]


def parse_overrides(arguments: Iterable[str]) -> list[tuple[list[str], list[Any]]]:
    """Split arguments such as ``a.b=x`` into a key path and the values to sweep over.

    A comma outside brackets and quotes separates values: ``seed=0,1,2`` gives three runs. Values are YAML.

    Raises:
        UserError: an argument has no ``=``, or its value is not valid YAML.

    Example:
        >>> parse_overrides(["noise.rate=0.4", "seed=0,1"])
        [(['seed'], [0, 1]), (['noise', 'rate'], [0.4])]
    """
    parsed = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"`{argument}`: expected an override such as noise.rate=0.4")
        try:
            values = [_parse_scalar(part) for part in _split_commas(text)]
        except yaml.YAMLError:
            raise UserError(f"`{argument}`: the value is not valid YAML") from None
        parsed.append((key.split("."), values))
    # Whole components first, so that `noise.rate=0.4 noise=pair_flip` keeps the rate.
    return sorted(parsed, key=lambda item: len(item[0]))


def _parse_scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:  # YAML reads 1e-3 as text
            return float(value)
        except ValueError:
            return value
    return value


def _split_commas(text: str) -> list[str]:
    """Split a text at commas outside brackets and quotes."""
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
    """Return a copy of a specification with one field set.

    Args:
        raw: specification; it is not changed.
        path: keys of the field; ``mitigations.NAME.PARAMETER`` selects the member of that name.
        value: new value.

    Raises:
        UserError: the stack has no member of that name.

    Example:
        >>> override({"noise": "pair_flip"}, ["noise", "rate"], 0.2)
        {'noise': {'name': 'pair_flip', 'rate': 0.2}}
    """
    # Deep, because the runs of a sweep share the nested mappings that are changed below.
    changed = copy.deepcopy(dict(raw))
    if path[0] == "mitigations" and len(path) > 1:
        members = [
            member if isinstance(member, dict) else {"name": member}
            for member in parse_stack(changed.get("mitigations"))
        ]
        matches = [member for member in members if member.get("name") == path[1]]
        if not matches or len(path) != 3:
            names = [str(member.get("name")) for member in members]
            raise UserError(
                f"{'.'.join(path)}: expected mitigations.NAME.PARAMETER with a member of the stack; {nearest(path[1], names)}"
            )
        matches[0][path[2]] = value
        changed["mitigations"] = members
        return changed
    node = changed
    for key in path[:-1]:
        child = node.get(key)
        # A component that is given by its name alone becomes a mapping, to which the parameter can be added.
        node[key] = {"name": child} if isinstance(child, str) else dict(child or {})
        node = node[key]
    node[path[-1]] = value
    return changed


def expand(raw: Mapping[str, Any], overrides: Iterable[str]) -> list[dict[str, Any]]:
    """Return the specifications that result from overrides; several if a value has commas.

    Example:
        >>> [spec["seed"] for spec in expand({"noise": "clean"}, ["seed=0,1,2"])]
        [0, 1, 2]
    """
    parsed = parse_overrides(overrides)
    expanded = []
    for values in itertools.product(*(values for _, values in parsed)):
        spec: dict[str, Any] = dict(raw)
        for (path, _), value in zip(parsed, values, strict=True):
            spec = override(spec, path, value)
        expanded.append(spec)
    return expanded

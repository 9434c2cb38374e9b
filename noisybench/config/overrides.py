"""Overrides of a specification from the command line, and stacks in their short form."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from noisybench.config.registry import get_entry, list_entries
from noisybench.config.scalars import PlainScalar, is_null, read_scalar
from noisybench.config.validation import accepts_list, accepts_text
from noisybench.config.yaml_files import parse_yaml
from noisybench.errors import UserError, nearest, show

COMPONENT_KINDS = {"task": "tasks", "dataset": "datasets", "noise": "noise_models", "mitigations": "mitigations"}
"""Kind of the registry of each field that names components."""

DEFAULT_COMPONENTS = {"task": "classification", "dataset": "digits", "noise": "clean"}
"""Components of a specification that names none."""


def parse_stack(value: Any) -> list[Any]:
    """Return the members of a stack, each a name or a mapping.

    Args:
        value: ``a``, ``a+b``, ``a(parameter=value)``, a mapping with `name`, or a list of those. An empty stack is
            cross-entropy.

    Raises:
        UserError: parentheses are not closed, or a parameter in them is malformed.

    Example:
        >>> parse_stack("mixup+elr")
        ['mixup', 'elr']
        >>> parse_stack(["mixup", {"name": "gce", "q": 0.5}])
        ['mixup', {'name': 'gce', 'q': 0.5}]
        >>> parse_stack("mixup+elr(preset=paper, beta=0.9)")
        ['mixup', {'name': 'elr', 'preset': 'paper', 'beta': 0.9}]
        >>> parse_stack(None)
        ['cross_entropy']
    """
    if is_null(value) or value == [] or value == "":
        return ["cross_entropy"]
    if isinstance(value, str):
        return [_parse_member(part) for part in _split(value, "+", "mitigations", "([{", ")]}")]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return [member for item in value for member in parse_stack(item)]
    return [value]


def _parse_member(text: str) -> Any:
    """Return a member of a stack: its name, or with parameters in parentheses a mapping."""
    name, parenthesis, rest = text.partition("(")
    if not parenthesis:
        return text
    if not rest.endswith(")") or not name.strip():
        raise UserError(f"mitigations: expected a name such as gce, or gce(q=0.5), but got {show(text, quotes=False)}")
    member: dict[str, Any] = {"name": name.strip()}
    for part in _split(rest[:-1], ",", "mitigations"):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or key in member:
            raise UserError(
                f"mitigations: expected each parameter once, such as {name.strip()}(preset=paper), but got "
                f"{show(text, quotes=False)}"
            )
        member[key] = _parse_value(value, f"mitigations.{name.strip()}.{key}", is_text=False)
    return member


@dataclass(frozen=True)
class Override:
    """One argument such as ``noise.rate=0.2,0.4``.

    Attributes:
        path: keys of the field.
        text: text behind the equals sign; its meaning depends on the type of the parameter, see `values`.
    """

    path: tuple[str, ...]
    text: str

    @property
    def key(self) -> str:
        """Dotted path of the field."""
        return ".".join(self.path)

    def values(self, raw: Mapping[str, Any]) -> list[Any]:
        """Return the values to sweep over.

        A comma separates values, except inside brackets and quotes. Where a path is wanted, a text that names an existing
        file or folder is that path, whatever characters it contains. Values in brackets are YAML; all others are taken as
        they are, without comments or escapes.

        Args:
            raw: specification that the override changes; it decides which component the parameter belongs to.

        Raises:
            UserError: the value is malformed, or given several times.

        Example:
            >>> Override(("seed",), "0,1").values({}), Override(("dataset", "class_names"), "[no, yes]").values({})
            ([0, 1], [['no', 'yes']])
            >>> Override(("dataset", "root"), '"cats, dogs"').values({"dataset": "image_folder"})
            ['cats, dogs']
        """
        kind = _declared_type(raw, self.path)
        is_text = accepts_text(kind)
        if is_text and _exists(self.text):
            return [self.text]
        # Where a list of paths is allowed as well, brackets are one.
        is_text = is_text and not (accepts_list(kind) and self.text.startswith("[") and self.text.endswith("]"))
        # In a stack, parentheses hold the parameters of a member.
        is_stack = self.path in (("mitigations",), ("stacks",))
        parts = _split(self.text, ",", self.key, *(("([{", ")]}") if is_stack else ()))
        if len(parts) > 1 and "" in parts:
            raise UserError(f"{self.key}: an empty value stands beside a comma in {show(self.text, quotes=False)}")
        if repeated := sorted({part for part in parts if parts.count(part) > 1}):
            raise UserError(
                f"{self.key}: {show(repeated[0], quotes=False)} is given {parts.count(repeated[0])} times; give it once"
            )
        return [_parse_value(part, self.key, is_text) for part in parts]

    def value(self, raw: Mapping[str, Any], reason: str) -> Any:
        """Return the only value.

        Args:
            raw: specification that the override changes.
            reason: end of the message if there are several values.

        Raises:
            UserError: the value is malformed, or a comma separates several values.
        """
        values = self.values(raw)
        if len(values) > 1:
            hint = ""
            if accepts_text(_declared_type(raw, self.path)):
                hint = (
                    f"; no file or folder is named {show(self.text, quotes=False)}, and quotes keep a comma in a text"
                )
            raise UserError(f"{self.key}: {reason}{hint}")
        return values[0]


def parse_overrides(arguments: Iterable[str]) -> list[Override]:
    """Split arguments such as ``a.b=x`` into a key path and a text.

    Returns:
        Whole components first, so that ``noise.rate=0.4 noise=pair_flip`` keeps the rate.

    Raises:
        UserError: an argument has no ``=`` or an incomplete key, or two arguments have the same key.

    Example:
        >>> [override.path for override in parse_overrides(["noise.rate=0.4", "seed=0,1"])]
        [('seed',), ('noise', 'rate')]
    """
    overrides: dict[tuple[str, ...], Override] = {}
    problems = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        path = tuple(key.split("."))
        if not equals or not all(part and not set(part) & set(" \t\n") for part in path):
            problems.append(f"{show(argument, quotes=False)}: expected an override such as noise.rate=0.4")
        elif path in overrides:
            first = overrides[path].text
            problems.append(
                f"{key} is given twice, as {show(first, quotes=False)} and {show(text, quotes=False)}; give it once"
            )
        else:
            overrides[path] = Override(path, text)
    if problems:
        raise UserError(*problems)
    return sorted(overrides.values(), key=lambda item: len(item.path))


def _declared_type(raw: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the declared type of a parameter of a component; None if it has none."""
    kind = COMPONENT_KINDS.get(path[0])
    if kind is None or len(path) != (3 if kind == "mitigations" else 2):
        return None
    component = raw.get(path[0]) or DEFAULT_COMPONENTS.get(path[0])
    name = path[1] if kind == "mitigations" else component.get("name") if isinstance(component, Mapping) else component
    if not isinstance(name, str) or name not in list_entries(kind):
        return None
    fields = get_entry(kind, name).schema.fields
    return fields[path[-1]][0] if path[-1] in fields else None


def _exists(text: str) -> bool:
    return bool(text) and os.path.lexists(os.path.expanduser(text))


def _parse_value(text: str, key: str, is_text: bool) -> Any:
    """Return one value: text in quotes, YAML in brackets, or a plain scalar."""
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    if text[:1] in ("[", "{") and not is_text:
        try:
            return parse_yaml(text, key)
        except UserError as error:
            raise UserError(
                f"{error} (in {show(text, quotes=False)}; put text with special characters in quotes)"
            ) from None
    return read_scalar(text)


def _split(text: str, separator: str, key: str, opening: str = "[{", closing: str = "]}") -> list[str]:
    """Split a text at separators outside brackets and quotes.

    Quotes and brackets count only from the beginning of a value on, parentheses everywhere.

    Raises:
        UserError: a quote at the beginning of a value is not closed.
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        # Inside brackets a value begins after a bracket, comma or colon; outside only at the beginning of a part.
        inside = ("", "[", "{", "(", ",", ":", "=")
        begins = parts[-1].rstrip()[-1:] in inside if depth else not parts[-1].strip()
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and begins:
            quote = character
        elif character in opening and (depth or begins or character == "("):
            depth += 1
        elif character in closing and depth:
            depth -= 1
        if character == separator and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    if quote:
        raise UserError(f"{key}: the quote in {show(text, quotes=False)} is not closed")
    return [part.strip() for part in parts]


def override(raw: Mapping[str, Any], path: Iterable[str], value: Any) -> dict[str, Any]:
    """Return a copy of a specification with one field set.

    Args:
        raw: specification; it is not changed.
        path: keys of the field; ``mitigations.NAME.PARAMETER`` selects the member of that name.
        value: new value.

    Raises:
        UserError: the stack has no member of that name, or a field on the way has no fields of its own.

    Example:
        >>> override({"noise": "pair_flip"}, ["noise", "rate"], 0.2)
        {'noise': {'name': 'pair_flip', 'rate': 0.2}}
    """
    path = list(path)
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
    for depth, key in enumerate(path[:-1]):
        child = node.get(key)
        if key == "budget" and isinstance(child, str) and not isinstance(child, PlainScalar):
            node[key] = {"preset": child}
        # A component that is given by its name alone becomes a mapping, to which the parameter can be added.
        elif isinstance(child, str) and not is_null(child) and key in DEFAULT_COMPONENTS:
            node[key] = {"name": child}
        elif is_null(child):
            node[key] = {"name": DEFAULT_COMPONENTS[key]} if not depth and key in DEFAULT_COMPONENTS else {}
        elif not isinstance(child, Mapping):
            field = ".".join(path[: depth + 1])
            raise UserError(f"{'.'.join(path)}: `{field}` is {show(child)}, which has no fields; set `{field}` itself")
        node = node[key]
    node[path[-1]] = value
    return changed


def expand(raw: Mapping[str, Any], overrides: Iterable[str]) -> list[dict[str, Any]]:
    """Return the specifications that result from overrides; several if a value has commas.

    Example:
        >>> [spec["seed"] for spec in expand({"noise": "clean"}, ["seed=0,1,2"])]
        [0, 1, 2]
    """
    specs = [dict(raw)]
    for change in parse_overrides(overrides):
        specs = [override(spec, change.path, value) for spec in specs for value in change.values(spec)]
    return specs

"""Short names of stacks, noise models, datasets and tasks for people; the whole name is shown where there is room or on hover."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Sequence

SELF_EXPLANATORY = frozenset({"labels", "match", "mode", "preset", "source", "strategy", "variant"})
"""Parameters whose values are words that need no name beside them."""
MAX_LISTED = 3
"""Most values of a list that a short name shows."""


@functools.lru_cache(maxsize=4096)
def short_name(name: str) -> str:
    """Return the display name of a component or stack in words, without the syntax of its parameters.

    Args:
        name: name with parameters as in records; members of a stack are joined by ``+``. Any other text is returned as it is.

    Example:
        >>> short_name("el2n(num_networks=5, epochs=2)"), short_name("pair_flip(rate=0.4)")
        ('el2n (5 networks, 2 epochs)', 'pair_flip 40 %')
        >>> short_name("simclr(epochs=60)+lsa(warmup_epochs=9, detector_cycle=['linear'])")
        'simclr (60 epochs) + lsa (9 warmup epochs, linear detector cycle)'
    """
    return " + ".join(_component(part) for part in _split(name, "+"))


def short_title(parts: Iterable[str]) -> str:
    """Return the short names of dataset, noise and task in one line, without the empty ones.

    Example:
        >>> short_title(["digits", "symmetric_exclusive(rate=0.2)", ""])
        'digits · symmetric_exclusive 20 %'
    """
    return " · ".join(short_name(part) for part in parts if part)


def distinct_names(names: Iterable[str]) -> dict[str, str]:
    """Return short names by whole names; names that would share a short one keep their whole name.

    Example:
        >>> distinct_names(["gce(q=0.7)", "f(steps=[1, 2, 3, 4])", "f(steps=[1, 2, 3, 5])"])["gce(q=0.7)"]
        'gce (q 0.7)'
        >>> distinct_names(["f(steps=[1, 2, 3, 4])", "f(steps=[1, 2, 3, 5])"])["f(steps=[1, 2, 3, 4])"]
        'f(steps=[1, 2, 3, 4])'
    """
    whole = dict.fromkeys(names)
    short = {name: short_name(name) for name in whole}
    counts: dict[str, int] = {}
    for value in short.values():
        counts[value] = counts.get(value, 0) + 1
    return {name: value if counts[value] == 1 else name for name, value in short.items()}


def distinguishing_titles(titles: Sequence[Sequence[str]]) -> list[str]:
    """Return short titles that leave out what all titles share, for columns that stand beside each other.

    Args:
        titles: parts of each title, such as dataset, noise and task; a part may be empty.

    Example:
        >>> distinguishing_titles([["digits", "pair_flip(rate=0.2)", ""], ["digits", "pair_flip(rate=0.4)", ""]])
        ['pair_flip 20 %', 'pair_flip 40 %']
        >>> distinguishing_titles([["d", "web(ood=0.4, source=noise)", ""], ["d", "web(ood=0.6, source=noise)", ""]])
        ['web (ood 0.4)', 'web (ood 0.6)']
    """
    columns = list(zip(*titles, strict=True))
    differing = [column for column in columns if len(set(column)) > 1]
    # Titles that differ in nothing are shown whole.
    kept = [_without_shared(column) for column in differing or columns]
    return [" · ".join(short_name(part) for part in parts if part) for parts in zip(*kept, strict=True)]


def _without_shared(names: Sequence[str]) -> list[str]:
    """Return names without the parameters that all those of the same component share."""
    split = [re.fullmatch(r"([\w:.-]+)\((.*)\)", name, re.DOTALL) for name in names]
    parameters: dict[str, list[list[str]]] = {}
    for match in split:
        if match:
            parameters.setdefault(match[1], []).append(_split(match[2], ","))
    shared = {name: set.intersection(*map(set, lists)) for name, lists in parameters.items() if len(lists) > 1}
    shortened = []
    for name, match in zip(names, split, strict=True):
        left = [each for each in _split(match[2], ",") if _stays(each, shared.get(match[1], set()))] if match else []
        shortened.append(f"{match[1]}({', '.join(left)})" if match and left else match[1] if match else name)
    return shortened


def _stays(parameter: str, shared: Container[str]) -> bool:
    # Rates identify a noise model even where all columns have the same one.
    return parameter.startswith("rate=") or parameter not in shared


def _component(text: str) -> str:
    """Return one component in words: its name, its rate, and its other parameters in parentheses."""
    match = re.fullmatch(r"([\w:.-]+)\((.*)\)", text, re.DOTALL)
    if match is None:
        return text
    name, parameters = match[1], [part.partition("=") for part in _split(match[2], ",")]
    if not all(separator for _, separator, _ in parameters):
        return text
    rates = [_percent(value) for key, _, value in parameters if key == "rate" and _is_number(value)]
    others = [_parameter(key, value) for key, _, value in parameters if key != "rate" or not _is_number(value)]
    return " ".join([name, *rates, *([f"({', '.join(others)})"] if others else [])])


def _parameter(key: str, value: str) -> str:
    """Return one parameter in words."""
    words = key.replace("_", " ")
    if value in ("True", "False"):
        return words if value == "True" else f"no {words}"
    if value.startswith("["):
        return _list(words, [item.strip("'\"").replace("_", " ") for item in _split(value[1:-1], ",")])
    if "(" in value:
        return f"{words} {short_name(value)}"
    if not _is_number(value):
        text = value.strip("'\"").replace("_", " ")
        return text if key in SELF_EXPLANATORY else f"{text} {words}"
    if key.endswith("_fraction"):
        return f"{words.removesuffix(' fraction')} {_percent(value)}"
    if key.startswith("num_"):
        return f"{value} {words.removeprefix('num ')}"
    return f"{value} {words}" if key.endswith("epochs") else f"{words} {value}"


def _list(words: str, items: list[str]) -> str:
    if len(items) > MAX_LISTED:
        return f"{len(items)} {words}"
    if all(map(_is_number, items)):
        return f"{words} {'–'.join(items) if words.endswith('range') else ' '.join(items)}"
    return f"{' '.join(items)} {words}".strip()


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", value) is not None


def _percent(value: str) -> str:
    return f"{100 * float(value):.6g} %"


def _split(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators that are in no parentheses, brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == separator and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]

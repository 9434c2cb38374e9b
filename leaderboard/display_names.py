"""Short names of stacks, noise models, datasets and tasks for people; the whole name is shown where there is room or on hover."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

SELF_EXPLANATORY = frozenset({"labels", "match", "mode", "preset", "source", "strategy", "variant"})
"""Parameters whose values are words that need no name beside them."""
MAX_LISTED = 3
"""Most values of a list that a short name shows."""
_SEARCH = r" \(tuned[\w ]*, \d+ trials\)"
"""What follows the name of a stack whose parameters a search has selected."""


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
        >>> short_name("full(members=[{'name': 'gce', 'q': 0.5}], cut=None)"), short_name("elr(beta=0.9) (tuned, 5 trials)")
        ('full (gce (q 0.5) members, no cut)', 'elr (beta 0.9) (tuned, 5 trials)')
        >>> short_name("asymmetric(rate=0.2, map=(cat=dog, dog=cat, car=truck, bird=plane))")
        'asymmetric 20 % (map of 4)'
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
    whole = list(dict.fromkeys(names))
    return _distinct(whole, whole)


def stack_names(stacks: Iterable[str]) -> dict[str, str]:
    """Return short names by whole names as `distinct_names`, without the parameters that distinguish no stack.

    These are the parameters that a mitigation has in all of several stacks with it.

    Example:
        >>> list(stack_names(["simclr(epochs=60)+lsa", "simclr(epochs=60)+lsa(cycle=['loss'])"]).values())
        ['simclr + lsa', 'simclr + lsa (loss cycle)']
    """
    whole = list(dict.fromkeys(stacks))
    return _distinct(whole, _without_common(whole))


def is_tuned(stack: str) -> bool:
    """Return True for a stack whose parameters a search has selected.

    Example:
        >>> is_tuned("elr(beta=0.9) (tuned, 5 trials)"), is_tuned("elr(beta=0.9)")
        (True, False)
    """
    return untuned_name(stack) != stack


def untuned_name(stack: str) -> str:
    """Return the name of a stack without the search that has selected its parameters, if any.

    Example:
        >>> untuned_name("elr(beta=0.9) (tuned, 5 trials)")
        'elr(beta=0.9)'
    """
    return re.sub(rf"{_SEARCH}$", "", stack)


def _distinct(whole: Sequence[str], shown: Sequence[str]) -> dict[str, str]:
    short = dict(zip(whole, map(short_name, shown), strict=True))
    counts = Counter(short.values())
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
    split = [_parsed(name) for name in names]
    parameters: dict[str, list[list[str]]] = {}
    for parsed in split:
        if parsed and parsed.parameters:
            parameters.setdefault(parsed.name, []).append(parsed.parameters)
    shared = {name: set.intersection(*map(set, lists)) for name, lists in parameters.items() if len(lists) > 1}
    return [
        _without(parsed, shared.get(parsed.name, set())) if parsed else name
        for name, parsed in zip(names, split, strict=True)
    ]


def _without_common(stacks: Sequence[str]) -> list[str]:
    """Return stacks without the parameters that a component has wherever it occurs in several of them."""
    split = [[(part, _parsed(part)) for part in _split(stack, "+")] for stack in stacks]
    parameters: dict[str, list[list[str]]] = {}
    for members in split:
        for _, parsed in members:
            if parsed:
                parameters.setdefault(parsed.name, []).append(parsed.parameters)
    common = {name: set.intersection(*map(set, lists)) for name, lists in parameters.items() if len(lists) > 1}
    return [
        "+".join(_without(parsed, common.get(parsed.name, set())) if parsed else part for part, parsed in members)
        for members in split
    ]


def _without(component: _Component, dropped: Container[str]) -> str:
    # Rates identify a noise model even where all columns have the same one.
    left = [each for each in component.parameters if each.startswith("rate=") or each not in dropped]
    return f"{component.name}({', '.join(left)}){component.search}" if left else component.name + component.search


class _Component(NamedTuple):
    """Name of a component, its parameters such as ``rate=0.4``, and the search that selected them, if any."""

    name: str
    parameters: list[str]
    search: str


def _parsed(text: str) -> _Component | None:
    """Return the parts of a component; None for other text."""
    match = re.fullmatch(rf"([\w:.-]+)(?:\((.*?)\))?({_SEARCH})?", text, re.DOTALL)
    if match is None:
        return None
    parameters = _split(match[2], ",") if match[2] else []
    is_known = all(re.match(r"\w+=", parameter) for parameter in parameters)
    return _Component(match[1], parameters, match[3] or "") if is_known else None


def _component(text: str) -> str:
    """Return one component in words: its name, its rate, and its other parameters in parentheses."""
    parsed = _parsed(text)
    if parsed is None:
        return text
    parameters = [parameter.partition("=") for parameter in parsed.parameters]
    rates = [_percent(value) for key, _, value in parameters if key == "rate" and _is_number(value)]
    others = [_parameter(key, value) for key, _, value in parameters if key != "rate" or not _is_number(value)]
    return " ".join([parsed.name, *rates, *([f"({', '.join(others)})"] if others else [])]) + parsed.search


def _parameter(key: str, value: str) -> str:
    """Return one parameter in words."""
    words = key.replace("_", " ")
    if value in ("True", "False", "None"):
        return words if value == "True" else f"no {words}"
    if value.startswith("["):
        return _list(words, [_item(item) for item in _split(value[1:-1], ",") if item])
    if value.startswith("{"):
        return f"{words} {_item(value)}"
    if value.startswith("(") and len(items := _split(value[1:-1], ",")) > MAX_LISTED:
        return f"{words} of {len(items)}"
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


def _item(text: str) -> str:
    """Return an item of a list in words: a component may be a mapping with its name."""
    if not text.startswith("{"):
        return text.strip("'\"").replace("_", " ")
    pairs = (item.partition(":") for item in _split(text[1:-1], ",") if item)
    values = {key.strip(" '\""): value.strip(" '\"") for key, _, value in pairs}
    name = values.pop("name", "")
    words = ", ".join(_parameter(key, value) for key, value in values.items())
    return f"{name} ({words})" if name and words else name or words


def _list(words: str, items: list[str]) -> str:
    if not items:
        return f"no {words}"
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

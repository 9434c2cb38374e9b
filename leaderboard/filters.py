"""Selection of the settings and stacks that tables show, by the names that the terminal and the page show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from noisybench.errors import UserError, nearest, show
from noisybench.leaderboard.display_names import short_name, stack_names
from noisybench.leaderboard.setting_description import distinct_titles, short_titles
from noisybench.leaderboard.table import Setting

CUT = "…"
"""Mark of the characters that a chart leaves out of a long name."""
MARKS = " *†"
"""Marks that tables append to the name of a stack."""


def select_settings(settings: Sequence[Setting], setting: str = "", stacks: Sequence[str] = ()) -> list[Setting]:
    """Return the settings that match, each with the stacks to show. Ranks stay those among all stacks.

    Args:
        settings: settings with their stacks.
        setting: title of a setting as the terminal or the page shows it, or words that are all in it; in any case.
        stacks: names of stacks, whole or as the terminal or the page shows them, or of mitigations in them.

    Raises:
        UserError: nothing matches, with the nearest names; or a short name is that of several stacks, with their whole names.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> settings = build_settings(each for each in builtin_measurements() if each.entry == "quickstart")
        >>> setting, = select_settings(settings, "pair_flip", ["elr", "gce"])
        >>> [row.stack for row in setting.shown_rows], len(setting.ranking.ranks)
        (['elr', 'gce'], 8)
    """
    found = _with_title(settings, setting)
    if not stacks:
        return found
    names = _shown_names(settings, found)
    selected = frozenset[str]().union(*(_named(name, names) for name in stacks))
    return [replace(each, selected=selected) for each in found if selected & {row.stack for row in each.rows}]


def member_names(stack: str) -> list[str]:
    """Return the names of the mitigations of a stack.

    Example:
        >>> member_names("mixup+gce(q=0.5, noise=f(a+b)) (tuned, 5 trials)")
        ['mixup', 'gce']
    """
    while stack != (stack := re.sub(r"\([^()]*\)", "", stack)):
        pass
    return [name.strip() for name in stack.split("+")]


def _with_title(settings: Sequence[Setting], text: str) -> list[Setting]:
    """Return the setting with a title, or else those whose titles have all of its words."""
    descriptions = [each.description for each in settings]
    titles = [
        (whole.casefold(), short.casefold())
        for whole, short in zip(distinct_titles(descriptions), short_titles(descriptions), strict=True)
    ]
    # The words of a title may be those of a longer one as well.
    found = [each for each, shown in zip(settings, titles, strict=True) if text.casefold().strip() in shown]
    words = text.casefold().replace(CUT, " ").split()
    found = found or [
        each
        for each, shown in zip(settings, titles, strict=True)
        if all(word in f"{shown[0]} {shown[1]}" for word in words)
    ]
    if not found:
        raise UserError(f"setting: no setting matches {show(text, quotes=False)}; {_nearest_title(text, settings)}")
    return found


def _nearest_title(text: str, settings: Sequence[Setting]) -> str:
    titles = list(dict.fromkeys(setting.title for setting in settings))
    # Titles are long: the parts of them, such as the names of datasets and noise models, are nearer to what was typed.
    parts = {part.partition("(")[0] for title in titles for part in title.split(" · ")}
    return nearest(text, parts)


def _shown_names(settings: Iterable[Setting], found: Iterable[Setting]) -> dict[str, set[str]]:
    """Return the names under which the terminal and the page show the stacks of the settings that were found."""
    # The page leaves out the parameters that all stacks of the board share.
    on_page = stack_names(row.stack for setting in settings for row in setting.rows)
    stacks = dict.fromkeys(row.stack for setting in found for row in setting.rows)
    return {stack: {stack, short_name(stack), on_page[stack]} for stack in stacks}


def _named(name: str, names: Mapping[str, set[str]]) -> set[str]:
    """Return the stacks with a mitigation, or else the one stack with a name, see `_shown_names`."""
    if with_member := {stack for stack in names if name in (stack, *member_names(stack))}:
        return with_member
    parts = name.rstrip(MARKS).split(CUT)
    found = {stack for stack, shown in names.items() if any(_has_parts(each, parts) for each in shown)}
    if not found:
        allowed = {other for stack, shown in names.items() for other in (*shown - {stack}, *member_names(stack))}
        raise UserError(f"stack: no stack or mitigation is named {show(name, quotes=False)}; {nearest(name, allowed)}")
    if len(found) > 1:
        raise UserError(
            f"stack: {show(name, quotes=False)} is the name of {len(found)} stacks; give one of their whole names: "
            f"{', '.join(sorted(found))}"
        )
    return found


def _has_parts(name: str, parts: Sequence[str]) -> bool:
    """Return whether a name consists of parts in this order, with any characters between them.

    Example:
        >>> _has_parts("co_teaching", ["co", "ing"]), _has_parts("co_teaching", ["co"])
        (True, False)
    """
    first, *others = parts
    if not others:
        return name == first
    *inner, last = others
    # Not a regular expression, whose time grows as a power with the number of parts.
    position = len(first)
    for part in inner:
        position = name.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return name.startswith(first) and name.endswith(last) and len(name) - len(last) >= position

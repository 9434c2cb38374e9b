"""Selection of the settings and stacks that tables show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from noisybench.errors import UserError, nearest, show
from noisybench.leaderboard.display_names import short_name, short_title
from noisybench.leaderboard.table import Setting


def select_settings(settings: Sequence[Setting], setting: str = "", stacks: Sequence[str] = ()) -> list[Setting]:
    """Return the settings that match, each with the stacks to show. Ranks stay those among all stacks.

    Args:
        settings: settings with their stacks.
        setting: words that are all in the title of a setting, in any case.
        stacks: names of stacks, whole or short, or of mitigations in them.

    Raises:
        UserError: nothing matches; the nearest names are given.

    Example:
        >>> from noisybench.leaderboard.measurements import builtin_measurements
        >>> from noisybench.leaderboard.table import build_settings
        >>> settings = build_settings(each for each in builtin_measurements() if each.entry == "quickstart")
        >>> setting, = select_settings(settings, "pair_flip", ["elr", "gce"])
        >>> [row.stack for row in setting.shown_rows], len(setting.ranking.ranks)
        (['elr', 'gce'], 8)
    """
    words = setting.casefold().split()
    found = [each for each in settings if all(word in _searched_title(each) for word in words)]
    if not found:
        raise UserError(
            f"setting: no setting matches {show(setting, quotes=False)}; {_nearest_title(setting, settings)}"
        )
    if not stacks:
        return found
    known = {
        row.stack: {row.stack, short_name(row.stack), *member_names(row.stack)} for each in found for row in each.rows
    }
    for name in stacks:
        if not any(name in names for names in known.values()):
            allowed = {other for stack in known for other in (short_name(stack), *member_names(stack))}
            raise UserError(
                f"stack: no stack or mitigation is named {show(name, quotes=False)}; {nearest(name, allowed)}"
            )
    selected = frozenset(stack for stack, names in known.items() if names & {*stacks})
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


def _searched_title(setting: Setting) -> str:
    description = setting.description
    return f"{setting.title} {short_title([description.dataset, description.noise, description.task])}".casefold()


def _nearest_title(text: str, settings: Sequence[Setting]) -> str:
    titles = list(dict.fromkeys(setting.title for setting in settings))
    # Titles are long: the parts of them, such as the names of datasets and noise models, are nearer to what was typed.
    parts = {part.partition("(")[0] for title in titles for part in title.split(" · ")}
    return nearest(text, parts)

"""Sections of the page: what its views show beyond the tables of single settings, each made by its own module.

The page holds each section as JSON in an element of its own, which a view reads by ``sectionOf("name")`` when it is first shown.
A new section is one function of `SectionInput` and one line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.leaderboard.across import across_settings, noise_draws
from noisybench.leaderboard.answer import answer_groups
from noisybench.leaderboard.cards import card_section
from noisybench.leaderboard.citations import citations
from noisybench.leaderboard.display_names import short_title
from noisybench.leaderboard.entries import entry_section
from noisybench.leaderboard.payload import SettingPayload
from noisybench.leaderboard.reproduction import COLUMNS as REPRODUCTION_COLUMNS
from noisybench.leaderboard.reproduction import grouped, reproduce
from noisybench.leaderboard.setting_scores import RANKING_RULES
from noisybench.leaderboard.stress import stress_tables
from noisybench.leaderboard.stress_text import payload as stress_payload
from noisybench.records.equivalence import Equivalence


@dataclass(frozen=True)
class SectionInput:
    """Data from which sections are computed.

    Attributes:
        payloads: settings in the order of the page.
        equivalences: recorded equivalences of code.
    """

    payloads: Sequence[SettingPayload]
    equivalences: Sequence[Equivalence]


def build_sections(given: SectionInput) -> dict[str, Any]:
    """Return the data of each section as JSON-like values.

    Example:
        >>> build_sections(SectionInput([], []))["answer"]
        []
    """
    return {name: build(given) for name, build in SECTIONS.items()}


def _stress(given: SectionInput) -> list[dict[str, Any]]:
    """Return the stress cards under each noise model, by each ranking rule that has some."""
    points = [payload.stress for payload in given.payloads if payload.stress is not None]
    groups: dict[str, dict[str, Any]] = {}
    for rule in RANKING_RULES:
        for table in stress_tables(points, rule):
            group = groups.setdefault(
                f"{table.title} {table.budget}", {"title": short_title(table.title.split(" · ")), "rules": {}}
            )
            group["rules"][rule] = stress_payload(table)
    return list(groups.values())


def _reproduction(given: SectionInput) -> dict[str, Any]:
    """Return published results beside those of the board by publication, and the titles of their columns."""
    published = [measurement for payload in given.payloads for measurement in payload.published]
    return {"columns": list(REPRODUCTION_COLUMNS), "groups": grouped(reproduce(published, given.equivalences))}


SECTIONS: Mapping[str, Callable[[SectionInput], Any]] = {
    "answer": lambda given: answer_groups(given.payloads),
    "across": lambda given: across_settings(given.payloads),
    "draws": lambda given: noise_draws(given.payloads),
    "stress": _stress,
    "reproduction": _reproduction,
    "cards": lambda given: card_section(given.payloads),
    "citations": lambda given: citations([payload.summary for payload in given.payloads]),
    "entries": lambda given: entry_section(given.payloads),
}
"""Function of each section by its name on the page."""

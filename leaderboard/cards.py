"""Section of the page with a card for each mitigation, noise model, dataset and metric.

Facts about a component come from its source text, see `config.component_card`; what was measured comes from the board.
"""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from noisybench.config.component_card import CARD_KINDS, ComponentCard, component_card
from noisybench.config.fidelity import Fidelity
from noisybench.config.preset_conditions import describe_condition
from noisybench.config.presets import Presets, format_settings
from noisybench.config.registry import list_entries
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.evaluation.catalog import METRICS
from noisybench.leaderboard.display_names import is_tuned
from noisybench.leaderboard.payload import SettingPayload

MIN_SHARED_LENGTH = 8
"""Fewest characters of a text that is written once for all cells that have it."""

SUMMARY_FIELDS = {"noise_models": "noise", "datasets": "dataset"}
"""Field of a setting's summary that names a component of each kind."""


def card_section(payloads: Sequence[SettingPayload]) -> dict[str, Any]:
    """Return the cards of all components by kind.

    Args:
        payloads: settings in the order of the page.

    Returns:
        Cards of mitigations, noise models, datasets and metrics; ``parameters``, the rows that ``parameters`` of cards count
        from 0: many cards share some; and ``texts``, of which cells of tables are positions if they are numbers.
        ``measured`` of a mitigation is what `measured_facts` returns, ``settings`` of the others has the positions of the
        settings that use them.

    Example:
        >>> section = card_section([])
        >>> section["mitigations"][0]["name"], list(section)
        ('adele', ['mitigations', 'noise_models', 'datasets', 'metrics', 'parameters', 'texts'])
    """
    kinds = {kind: [dict(card) for card in cards] for kind, cards in _static().items()}
    for card in kinds["mitigations"]:
        card["measured"] = measured_facts(card["name"], payloads)
    for kind, field in SUMMARY_FIELDS.items():
        for card in kinds[kind]:
            names = [payload.summary[field].partition("(")[0] for payload in payloads]
            card["settings"] = [position for position, name in enumerate(names) if name == card["name"]]
    rows: dict[tuple[str, ...], int] = {}
    for card in (card for kind in CARD_KINDS for card in kinds[kind]):
        card["parameters"] = [rows.setdefault(row, len(rows)) for row in card.get("parameters", [])]
    tables = [list(map(list, rows)), *(table for kind in CARD_KINDS for card in kinds[kind] for table in _tables(card))]
    for card in kinds["metrics"]:
        tables += _tables(card)
    return {**kinds, "parameters": tables[0], "texts": _shared_texts(tables)}


def _tables(card: dict[str, Any]) -> list[list[list[Any]]]:
    """Replace the tables of a card by copies, and return these."""
    *facts, deviations = card.get("fidelity") or [[]]
    if facts:
        deviations = [list(row) for row in deviations]
        card["fidelity"] = [*facts, deviations]
    for name in ("papers", "presets"):
        if card.get(name):
            card[name] = [list(row) for row in card[name]]
    return [card.get("papers") or [], card.get("presets") or [], deviations]


def _shared_texts(tables: Sequence[list[list[Any]]]) -> list[str]:
    """Replace texts that several cells have by their positions in a list, and return this list.

    Example:
        >>> table = [["the same words", "other words"], ["the same words", "short"]]
        >>> _shared_texts([table]), table
        (['the same words'], [[0, 'other words'], [0, 'short']])
    """
    counts = Counter(cell for table in tables for row in table for cell in row)
    shared = [cell for cell, count in counts.items() if count > 1 and len(cell) >= MIN_SHARED_LENGTH]
    positions = {cell: position for position, cell in enumerate(shared)}
    for table in tables:
        for row in table:
            row[:] = [positions.get(cell, cell) for cell in row]
    return shared


def measured_facts(name: str, payloads: Sequence[SettingPayload]) -> dict[str, Any] | None:
    """Return what the settings of a board say about a mitigation; None if no stack has it.

    Args:
        name: registered name.
        payloads: settings of the board.

    Returns:
        ``settings``, their number; ``cost``, seconds of a run divided by those of cross-entropy as lowest, median and highest
        value over settings and whether only stacks of this mitigation alone count, or None; ``tuned``, stacks whose parameters a
        search selected, with the position of the setting; ``stacks``, names of its stacks; and ``rules``: by selection rule and
        number of the stack, positions of the settings in which it is in the best rank group, and of those in which it is
        significantly worse than cross-entropy, with the difference in hundredths of a point; and the number of settings that have
        cross-entropy.
    """
    settings, tuned = 0, list[list[Any]]()
    alone, stacked = list[float](), list[float]()
    rules: dict[str, dict[str, Any]] = {}
    # Names are written once: they are longer than all that is said of a stack in a setting.
    numbers: dict[str, int] = {}
    for position, payload in enumerate(payloads):
        stacks = [stack for stack in payload.summary["codes"] if name in stack_members(stack)]
        if not stacks:
            continue
        settings += 1
        tuned += [[stack, position] for stack in stacks if is_tuned(stack)]
        for stack, ratio in payload.standings.cost.items():
            if stack in stacks:
                (alone if stack_members(stack) == (name,) else stacked).append(ratio)
        for rule, standings in payload.standings.by_rule.items():
            kept = [standing for standing in standings if standing.stack in stacks]
            lists = rules.setdefault(rule, {"best": {}, "worse": {}, "compared": 0})
            lists["compared"] += any(each.gain is not None for each in kept)
            for each in kept:
                number = numbers.setdefault(each.stack, len(numbers))
                if each.is_best:
                    lists["best"].setdefault(number, []).append(position)
                if each.is_significant and each.gain is not None and each.gain < 0:
                    lists["worse"].setdefault(number, []).append([position, round(10_000 * each.gain)])
    if not settings:
        return None
    costs = alone or stacked
    cost = [min(costs), statistics.median(costs), max(costs)] if costs else None
    return {
        "settings": settings,
        "cost": None if cost is None else [round(each, 2) for each in cost],
        "is_alone": bool(alone),
        "tuned": tuned,
        "stacks": list(numbers),
        "rules": rules,
    }


@functools.lru_cache(maxsize=4096)
def stack_members(stack: str) -> tuple[str, ...]:
    """Return the names of the mitigations of a stack.

    Example:
        >>> stack_members("simclr(epochs=60)+lsa(detector_cycle=['linear'])")
        ('simclr', 'lsa')
    """
    return tuple(re.findall(r"(?:^|\+)([a-z]\w*)", stack))


@functools.cache
def _static() -> dict[str, list[dict[str, Any]]]:
    """Return the cards without measurements; they cannot change while a process runs."""
    kinds = {kind: [_card(component_card(entry)) for entry in list_entries(kind).values()] for kind in CARD_KINDS}
    kinds["metrics"] = [
        {
            "name": name,
            "lead": f"{metric.summary}.",
            "direction": metric.direction,
            "fields": list(metric.fields),
            "fidelity": _fidelity(metric.fidelity),
        }
        for name, metric in METRICS.items()
    ]
    return kinds


def _card(card: ComponentCard) -> dict[str, Any]:
    """Return what the page shows of a component; without fields that are empty."""
    license_ = card.license
    fields = {
        "name": card.name,
        "lead": card.lead,
        "details": card.details,
        "formula": card.formula,
        "papers": [[paper.citation, paper.title, paper.url] for paper in card.papers],
        "tasks": list(card.tasks),
        "privileged": [_in_words(use.text) for use in card.privileged],
        "parameters": [
            (each.name, *map(_in_words, (each.default, each.kind, each.allowed)), each.search, each.help)
            for each in card.parameters
        ],
        "convention": card.convention,
        "license": license_ and [license_.name, license_.url, license_.access, license_.note],
        "fidelity": card.fidelity and _fidelity(card.fidelity),
        "presets": list(_presets(card.presets)) if card.presets else [],
        "command": card.command,
        "search": _search_command(card),
    }
    return {name: value for name, value in fields.items() if value}


def _search_command(card: ComponentCard) -> str | bool:
    """Return the command that searches the parameters of a mitigation; True if it is that of a run with another verb."""
    if card.kind != "mitigations" or not any(parameter.search for parameter in card.parameters):
        return False
    for name in sorted(builtin_configs("searches")):
        base = load_config("searches", name).get("base", {})
        if base.get("mitigations") == card.name:
            return f"noisybench search {name}"
    return True


def _fidelity(card: Fidelity) -> list[Any]:
    """Return reference, commit, license, what was compared, the largest difference, and the deviations, in this order."""
    commit = card.commit[:12] if len(card.commit) == 40 else card.commit
    deviations = [[each.what, each.why, each.size] for each in card.deviations]
    return [card.reference, commit, card.license, card.compared, card.difference, deviations]


def _presets(presets: Presets) -> Iterator[list[str]]:
    """Yield name, condition, settings and source of each row of published settings."""
    for name, row in presets.rows.items():
        is_default = " (the defaults)" if name == presets.defaults else ""
        settings = _in_words(format_settings(row.settings)) or "none"
        yield [name, describe_condition(row) + is_default, settings, row.source]


def _in_words(text: str) -> str:
    """Return values and types of Python as configurations write them.

    Example:
        >>> _in_words("['linear', 'loss']"), _in_words("int | None"), _in_words("noise_rate (only if noise_rate == 'oracle')")
        ('[linear, loss]', 'int | none', 'noise_rate (only if noise_rate is oracle)')
    """
    text = re.sub(r"\b(None|True|False)\b", lambda match: match[0].lower(), text)
    return re.sub(r"'([\w.-]+)'", r"\1", text).replace(" == ", " is ")

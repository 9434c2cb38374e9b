"""Blocks about claims of publications, with the differences that were measured."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from blocks.entry import RULE, Block, Entry
from noisybench.leaderboard.mixed_model import LabelSetScores, compare_stacks
from noisybench.leaderboard.setting_scores import setting_scores
from noisybench.leaderboard.statistics import summarize

CLAIMS = Path(__file__).parents[1] / "claims.yaml"
SIDES = ("first", "second")

Found = tuple[str, tuple[float, float, float], list[float]]
"""What was compared, its difference with both ends of the interval, and the difference in each setting, as fractions."""


def claims(entry: Entry) -> Block:
    """Return the claims of publications about stacks of an entry, with the differences that were measured."""
    cells = [["claim", "compared", "difference in points", "first is better in", "here"]]
    for claim in yaml.safe_load(CLAIMS.read_text(encoding="utf-8")):
        found = _between_settings(entry, claim) if "stack" in claim else _between_stacks(entry, claim)
        if found is None:
            continue
        compared, (difference, low, high), gaps = found
        where = "" if len({gap > 0 for gap in gaps}) == 1 else " on average"
        outcome = f"holds{where}" if low > 0 else f"the reverse holds{where}" if high < 0 else "not settled"
        cells.append([
            f"{claim['claim']} ({claim['source']})", compared, f"{100 * difference:+.1f} [{100 * low:.1f}, {100 * high:.1f}]",
            f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} settings", outcome,
        ])  # fmt: skip
    if len(cells) == 1:
        sys.exit(f"error: no claim is about stacks of {entry.name}")
    return [
        (f"Differences after the last epoch over {entry.seeds()}, with 95 % intervals, each for its pair alone.", cells)
    ]


def _between_stacks(entry: Entry, claim: Mapping[str, Any]) -> Found | None:
    """Return the difference of two stacks in the settings of a claim; None if the entry has none of them."""
    first, second = (next((stack for stack in claim[side] if stack in entry.names), None) for side in SIDES)
    settings = [each for each in entry.settings if each.description.noise.startswith(tuple(claim.get("noise", [""])))]
    if first is None or second is None or not settings:
        return None
    scores = [setting_scores(setting) for setting in settings]
    data = [LabelSetScores(each.setting, each.scores[RULE], each.resolution, each.is_drawn) for each in scores]
    compared = compare_stacks(data, [first, second], "label_sets")
    difference, low, high = (float(each[0, 1]) for each in (compared.difference, *compared.intervals()))
    gaps = [float(compare_stacks([each], [first, second], "label_sets").difference[0, 1]) for each in data]
    return f"`{entry.names[first]}` – `{entry.names[second]}`", (difference, low, high), gaps


def _between_settings(entry: Entry, claim: Mapping[str, Any]) -> Found | None:
    """Return the difference of one stack between tasks or noise models with an equal parameter; None without such pairs."""
    sides = [_scores_by_parameter(entry, claim, side) for side in SIDES]
    shared = [value for value in sides[0] if value in sides[1]]
    if not shared:
        return None
    by_pair = [
        {seed: score - sides[1][value][seed] for seed, score in sides[0][value].items() if seed in sides[1][value]}
        for value in shared
    ]
    seeds = set.intersection(*(set(pair) for pair in by_pair))
    over_seeds = summarize([statistics.fmean(pair[seed] for pair in by_pair) for seed in sorted(seeds)])
    if over_seeds is None or over_seeds.low is None or over_seeds.high is None:
        return None
    names = [" ".join(claim[side].values()) for side in SIDES]
    compared = f"{names[0]} – {names[1]}" + (", each minus clean" if claim.get("minus_clean") else "")
    gaps = [statistics.fmean(pair.values()) for pair in by_pair]
    return f"`{claim['stack']}`: {compared}", (over_seeds.mean, over_seeds.low, over_seeds.high), gaps


def _scores_by_parameter(entry: Entry, claim: Mapping[str, Any], side: str) -> dict[str, dict[int, float]]:
    """Return the scores by seed of a claim's stack in the settings of one side, by their value of the matched parameter."""
    task, noise = claim[side].get("task", ""), claim[side]["noise"]
    clean: dict[int, float] = {}
    found: dict[str, dict[int, float]] = {}
    for setting in entry.settings:
        description = setting.description
        rows = [row for row in setting.rows if row.stack == claim["stack"]]
        if not rows or not description.task.startswith(task):
            continue
        scores = {each.seed: each.last for each in rows[0].measurements if each.last is not None}
        value = re.search(rf"\b{claim['match']}=([^,)]+)", description.noise)
        if description.noise == "clean":
            clean = scores
        elif value and description.noise.startswith(f"{noise}("):
            found[value[1]] = scores
    if not claim.get("minus_clean"):
        return found
    return {
        value: {seed: score - clean[seed] for seed, score in scores.items() if seed in clean}
        for value, scores in found.items()
    }

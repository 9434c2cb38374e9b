"""Figures of suites: something measured against a field of the runs, or along the axis of their probes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.leaderboard.statistics import summarise
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBE = "probe."
Lines = dict[str, dict[float, list[float]]]
"""By label, the values of all seeds at each place on the x axis."""


def file_name(title: str) -> str:
    """A file name from a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".png"


def measured(record: RunRecord, name: str) -> float | None:
    """A number of a finished run.

    Args:
        record: of the run.
        name: a selection rule; that of the rows before refinement as ``train/RULE``; ``diagnostics/NAME`` or
            ``detector/DETECTOR/NAME`` of the last row that has it; else a field of the last row, such as ``memorized_fraction``.
    """
    if name in SELECTION_RULES:
        return select(record, name)
    kind, _, rest = name.partition("/")
    if kind == "train" and rest in SELECTION_RULES:
        return select(record, rest, "train")
    values: list[float | None]
    if kind == "diagnostics":
        values = [row.diagnostics.get(rest) for row in record.rows]
    elif kind == "detector":
        detector, _, key = rest.partition("/")
        values = [row.detectors.get(detector, {}).get(key) for row in record.rows]
    else:
        values = [getattr(row, name, None) for row in record.rows]
    return next((each for each in reversed(values) if each is not None), None)


def field(spec: dict[str, Any], path: str) -> Any:
    """A field of a complete specification by its dotted path; None where there is none."""
    place: Any = spec
    for key in path.split("."):
        if isinstance(place, list):
            place = next((each for each in place if each.get("name") == key), None)
        else:
            place = place.get(key) if isinstance(place, dict) else None
    return place


def draw(records: Sequence[RunRecord], title: str, x: str, y: Sequence[str], path: Path) -> bool:
    """Draw one figure: a column of panels for each cell, a row for each quantity, a line for each stack.

    Stacks without the field, or with one value of it alone, are horizontal lines. Lines are means over seeds, bars their 95 %
    intervals where there are three seeds or more. Along a field of the noise, lines also go by the kind of noise.

    Args:
        records: of one suite.
        title: above the figure.
        x: dotted path of a field, such as ``mitigations.el2n.offset``, or ``probe.AXIS`` for the probes at the end of training.
        y: names as in `measured`; for probes fields of what is judged, such as ``test_accuracy``.
        path: the PNG file.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[RunRecord]] = {}
    for record in records:
        panels.setdefault(_panel(record, x), []).append(record)
    collect = _along_probes if x.startswith(PROBE) else _along_field
    figure = Figure(figsize=(6.5 * len(panels) + 2, 3.6 * len(y) + 0.6), layout="constrained", dpi=100)
    drawn = False
    for column, (name, members) in enumerate(panels.items()):
        for row, quantity in enumerate(y):
            axes = figure.add_subplot(len(y), len(panels), row * len(panels) + column + 1)
            lines, levels = collect(members, x, quantity)
            drawn |= bool(lines)
            _plot(axes, lines, levels)
            axes.set(xlabel=x.removeprefix(PROBE), ylabel=quantity)
            if row == 0:
                axes.set_title(textwrap.fill(name, 70), fontsize=9)
            axes.grid(alpha=0.3)
    figure.suptitle(title)
    if drawn:
        figure.savefig(path)
    return drawn


def _panel(record: RunRecord, x: str) -> str:
    """Runs that share a panel: the same cell, but for the field on the x axis."""
    parts = [record.dataset, record.noise]
    if record.task and not x.startswith("task."):
        parts.append(record.task)
    part = {"dataset": 0, "noise": 1}.get(x.split(".")[0])
    return " · ".join(each for place, each in enumerate(parts) if place != part)


def _along_field(records: Sequence[RunRecord], x: str, quantity: str) -> tuple[Lines, dict[str, list[float]]]:
    lines: Lines = {}
    levels: dict[str, list[float]] = {}
    own = x.split(".")[-1]
    for record in records:
        value, place = measured(record, quantity), field(record.spec, x)
        if value is None:
            continue
        if not isinstance(place, int | float):
            label = f"{record.noise} · {record.stack}" if x.startswith("noise.") else record.stack
            levels.setdefault(label, []).append(value)
            continue
        label = _without(own, record.stack)
        if x.startswith("noise."):
            label = f"{_without(own, record.noise)} · {label}"
        lines.setdefault(label, {}).setdefault(float(place), []).append(value)
    for label in [label for label, points in lines.items() if len(points) == 1]:
        levels[label] = next(iter(lines.pop(label).values()))
    return lines, levels


def _without(field: str, label: str) -> str:
    """A label without the value of one field."""
    return re.sub(rf"(, )?\b{field}=[^,)]+", "", label).replace("(, ", "(").replace("()", "")


def _along_probes(records: Sequence[RunRecord], x: str, quantity: str) -> tuple[Lines, dict[str, list[float]]]:
    """The last probe of each run; its further classifiers, and the trained one, are levels."""
    lines: Lines = {}
    levels: dict[str, list[float]] = {}
    for record in records:
        for probe in record.probes[-1:]:
            if probe.axis != x.removeprefix(PROBE):
                continue
            for place, judged in zip(probe.positions, probe.metrics, strict=True):
                value = getattr(judged, quantity)
                if value is not None:
                    lines.setdefault(record.stack, {}).setdefault(float(place), []).append(value)
            for name, judged in probe.controls.items():
                value = getattr(judged, quantity)
                if value is not None:
                    levels.setdefault(name.replace("_", " "), []).append(value)
            if quantity == "test_accuracy":
                for rule, told in (("last", "trained classifier"), ("noisy_val", "early stopping by noisy validation")):
                    stopped = select(record, rule, "train")
                    if stopped is not None:
                        levels.setdefault(told, []).append(stopped)
    return lines, levels


def _half_interval(values: Sequence[float]) -> float:
    """From the mean to the end of its 95 % interval; of two values that says nothing, and is left out."""
    found = summarise(values)
    return found.high - found.mean if len(values) > 2 and found is not None and found.high is not None else 0.0


def _plot(axes: Axes, lines: Lines, levels: dict[str, list[float]]) -> None:
    for label, points in sorted(lines.items()):
        places = sorted(points)
        means = [float(np.mean(points[place])) for place in places]
        spread = [_half_interval(points[place]) for place in places]
        axes.errorbar(places, means, yerr=spread, marker=".", capsize=2, label=textwrap.fill(label, 46))
        if min(places) > 0 and max(places) > 20 * min(places):
            axes.set_xscale("log")
    for number, (label, values) in enumerate(sorted(levels.items(), key=lambda each: -float(np.mean(each[1])))):
        mean = float(np.mean(values))
        style, colour = (":", "--", "-.")[number % 3], f"C{(number + 3) % 10}"
        told = textwrap.fill(f"{label}: {mean:.3f}", 46)
        axes.axhline(mean, linestyle=style, linewidth=1, color=colour, label=told)
    if lines or levels:
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))

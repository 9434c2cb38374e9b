"""Figures of suites: a measured quantity against a field of the runs, or along the axis of their probes."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.config.validation import refuse
from noisybench.errors import nearest, show
from noisybench.leaderboard.statistics import summarize
from noisybench.plots.method_styles import DASHES, MethodStyle, method_styles
from noisybench.records.codes import SHORT_DIGEST, Code, as_code, code_digest
from noisybench.records.equivalence import CodeClasses, Equivalence
from noisybench.records.schema import EpochRow, ProbeMetrics, RunRecord
from noisybench.records.selection import SELECTION_RULES, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from noisybench.config.spec import RunSpec
    from noisybench.config.suite_fields import Figure

PROBE = "probe."
"""Prefix of an x axis that is the axis of a probe."""

Lines = dict[str, dict[float, list[float]]]
"""Values of all seeds by label and position on the x axis."""
Levels = dict[str, list[float]]
"""Values of all seeds by label, for horizontal lines."""


def file_name(title: str) -> str:
    """Return a file name for a title.

    Example:
        >>> file_name("Sliding window of EL2N")
        'sliding-window-of-el2n.png'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".png"


def check_figures(figures: Sequence[Figure], specs: Sequence[RunSpec]) -> None:
    """Check before any training that figures name fields of the runs, and quantities that can be measured.

    Args:
        figures: figures of a suite.
        specs: all runs of the suite.

    Raises:
        UserError: a field or quantity is unknown, or two figures have the same file name; all problems are listed.
    """
    fields = {name for spec in specs for name in _numeric_fields(spec.as_dict())}
    row_fields = [field.name for field in dataclasses.fields(EpochRow) if str(field.type).startswith("float")]
    quantities = [*SELECTION_RULES, *(f"train/{rule}" for rule in SELECTION_RULES), *row_fields]
    probe_fields = [field.name for field in dataclasses.fields(ProbeMetrics)]
    problems, names = list[str](), list[str]()
    for number, figure in enumerate(figures):
        is_probe = figure.x.startswith(PROBE)
        if (not is_probe and figure.x not in fields) or figure.x == PROBE:
            problems.append(
                f"figures.{number}.x: no run has a number in the field {show(figure.x, quotes=False)}; "
                f"{nearest(figure.x, fields)}"
            )
        known = probe_fields if is_probe else quantities
        for name in figure.y:
            # Names of diagnostics and detectors are those that mitigations report while they train.
            reported = not is_probe and re.fullmatch("diagnostics/.+|detector/[^/]+/.+", name)
            if name not in known and not reported:
                problems.append(
                    f"figures.{number}.y: unknown metric {show(name, quotes=False)}; {nearest(name, known)}"
                )
        names.append(file_name(figure.title))
        if names[-1] in names[:-1]:
            problems.append(
                f"figures.{number}.title: another figure is written to {names[-1]} as well; change the title"
            )
    refuse(problems)


def _numeric_fields(spec: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all numbers of a specification, as `field_of` reads them."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            yield from _numeric_fields(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(spec, list):
        for item in spec:
            if isinstance(item, dict) and "name" in item:
                yield from _numeric_fields(item, f"{prefix}.{item['name']}")
    elif isinstance(spec, int | float):
        yield prefix


def quantity_of(record: RunRecord, name: str) -> float | None:
    """Return a measured quantity of a finished run; None where it was not measured.

    Args:
        record: finished run.
        name: a selection rule; ``train/RULE`` for a selection rule before refinement; ``diagnostics/NAME`` or
            ``detector/DETECTOR/NAME`` of the last epoch that has it; otherwise a field of the last epoch, such as
            ``memorized_fraction``.
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
    # Diagnostics and detectors are not measured at every epoch, so the last row may have no value.
    return next((value for value in reversed(values) if value is not None), None)


def field_of(spec: dict[str, Any], path: str) -> Any:
    """Return a field of a complete specification by its dotted path; None if it does not exist.

    Example:
        >>> field_of({"mitigations": [{"name": "el2n", "offset": 0.1}]}, "mitigations.el2n.offset")
        0.1
    """
    value: Any = spec
    for key in path.split("."):
        # Mitigations are addressed by name, because the position of one differs between stacks.
        if isinstance(value, list):
            value = next((item for item in value if item.get("name") == key), None)
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def plot_suite(
    records: Sequence[RunRecord],
    title: str,
    x: str,
    y: Sequence[str],
    path: Path,
    equivalences: Sequence[Equivalence] = (),
) -> bool:
    """Plot one figure: a column of panels for each setting, a row for each quantity, a line for each stack.

    Stacks without the field, or with a single value of it, are horizontal lines. Lines are means over seeds; error bars are
    95 % intervals and need three seeds. Along a field of the noise, there is a line for each noise model as well.

    Runs of different code never share a line, unless an equivalence joins their codes.

    Args:
        records: finished runs of one suite.
        title: title of the figure.
        x: dotted path of a field, such as ``mitigations.el2n.offset``, or ``probe.AXIS`` for the final probes.
        y: names of quantities, see `quantity_of`; for probes fields of `ProbeMetrics`, such as ``test_accuracy``.
        path: PNG file to write.
        equivalences: recorded equivalences of code.

    Returns:
        Whether the figure has a line, and was written.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[RunRecord]] = {}
    for record in records:
        panels.setdefault(_panel_title(record, x), []).append(record)
    collect = _along_probes if x.startswith(PROBE) else _along_field
    # A figure without pyplot has no global state, and needs no display.
    figure = Figure(figsize=(6.5 * len(panels) + 2, 3.6 * len(y) + 0.6), layout="constrained", dpi=100)
    has_lines = False
    for column, (panel_title, members) in enumerate(panels.items()):
        for row, quantity in enumerate(y):
            axes = figure.add_subplot(len(y), len(panels), row * len(panels) + column + 1)
            lines, levels = collect(_separate_codes(members, x, equivalences), x, quantity)
            has_lines |= bool(lines)
            _plot_panel(axes, lines, levels, is_fraction(quantity))
            axes.set(xlabel=x.removeprefix(PROBE), ylabel=quantity)
            if row == 0:
                axes.set_title(textwrap.fill(panel_title, 70), fontsize=9)
            axes.grid(alpha=0.3)
    figure.suptitle(title)
    if has_lines:
        figure.savefig(path)
    return has_lines


def _separate_codes(records: Sequence[RunRecord], x: str, equivalences: Sequence[Equivalence]) -> list[RunRecord]:
    """Return records with the code behind the name of each stack whose line would otherwise join several codes."""
    classes, name = CodeClasses(equivalences), x.split(".")[-1]
    lines: list[tuple[str, str]] = []
    codes: list[Code] = []
    for record in records:
        lines.append((_without(name, record.stack), _without(name, record.noise)))
        joined = classes.joined((record.label_set, record.budget, record.stack), as_code(record.code))
        codes.append(min(joined))
    found: dict[tuple[str, str], set[Code]] = {}
    for line, code in zip(lines, codes, strict=True):
        found.setdefault(line, set()).add(code)
    return [
        dataclasses.replace(record, stack=f"{record.stack} (code {code_digest(code)[:SHORT_DIGEST]})")
        if len(found[line]) > 1
        else record
        for record, line, code in zip(records, lines, codes, strict=True)
    ]


def _panel_title(record: RunRecord, x: str) -> str:
    """Return the setting without the field on the x axis; runs with the same title share a panel."""
    parts = {"dataset": record.dataset, "noise": record.noise}
    if record.task and not x.startswith("task."):
        parts["task"] = record.task
    return " · ".join(text for kind, text in parts.items() if kind != x.split(".")[0])


def _along_field(records: Sequence[RunRecord], x: str, quantity: str) -> tuple[Lines, Levels]:
    """Collect a quantity against a field of the specification."""
    lines: Lines = {}
    levels: Levels = {}
    name = x.split(".")[-1]
    for record in records:
        value, position = quantity_of(record, quantity), field_of(record.spec, x)
        if value is None:
            continue
        if not isinstance(position, int | float):
            label = f"{record.noise} · {record.stack}" if x.startswith("noise.") else record.stack
            levels.setdefault(label, []).append(value)
            continue
        # Stacks that differ only in the field on the x axis are points of one line.
        label = _without(name, record.stack)
        if x.startswith("noise."):
            label = f"{_without(name, record.noise)} · {label}"
        lines.setdefault(label, {}).setdefault(float(position), []).append(value)
    for label in [label for label, points in lines.items() if len(points) == 1]:
        levels[label] = next(iter(lines.pop(label).values()))
    return lines, levels


def _without(field: str, label: str) -> str:
    """Return a label without the value of one field."""
    return re.sub(rf"(, )?\b{field}=[^,)]+", "", label).replace("(, ", "(").replace("()", "")


def _along_probes(records: Sequence[RunRecord], x: str, quantity: str) -> tuple[Lines, Levels]:
    """Collect a metric of the final probes along their axis; control classifiers and the trained one are levels."""
    lines: Lines = {}
    levels: Levels = {}
    for record in records:
        # A slice, because a run without probes has no last one.
        for probe in record.probes[-1:]:
            if probe.axis != x.removeprefix(PROBE):
                continue
            for position, metrics in zip(probe.positions, probe.metrics, strict=True):
                value = getattr(metrics, quantity)
                if value is not None:
                    lines.setdefault(record.stack, {}).setdefault(float(position), []).append(value)
            for name, metrics in probe.controls.items():
                value = getattr(metrics, quantity)
                if value is not None:
                    levels.setdefault(name.replace("_", " "), []).append(value)
            if quantity == "test_accuracy":
                for rule, label in (
                    ("last", "trained classifier"),
                    ("noisy_val", "early stopping by noisy validation"),
                ):
                    score = select(record, rule, "train")
                    if score is not None:
                        levels.setdefault(label, []).append(score)
    return lines, levels


def is_fraction(quantity: str) -> bool:
    """Return True if a quantity is a fraction in [0, 1], see `quantity_of`.

    Example:
        >>> is_fraction("train/last"), is_fraction("memorized_fraction"), is_fraction("diagnostics/threshold")
        (True, True, False)
    """
    kind, _, rest = quantity.rpartition("/")
    if kind == "diagnostics":
        return False
    return rest in SELECTION_RULES or rest.endswith(("score", "accuracy", "fraction", "auroc", "precision", "recall"))


def _error_bar(values: Sequence[float], bounded: bool) -> tuple[float, float]:
    """Return how far the 95 % interval reaches below and above the mean; 0 for two values, whose interval is too wide."""
    summary = summarize(values, bounded)
    if len(values) < 3 or summary is None or summary.low is None or summary.high is None:
        return 0.0, 0.0
    return summary.mean - summary.low, summary.high - summary.mean


def _plot_panel(axes: Axes, lines: Lines, levels: Levels, bounded: bool) -> None:
    styles = _line_styles([*lines, *levels])
    for label, points in sorted(lines.items()):
        positions = sorted(points)
        means = [float(np.mean(points[position])) for position in positions]
        spread = np.transpose([_error_bar(points[position], bounded) for position in positions])
        form: dict[str, Any] = styles[label].matplotlib
        axes.errorbar(positions, means, yerr=spread, **form, markersize=4, capsize=2, label=textwrap.fill(label, 46))
        # On a linear axis, the lower positions of such a range would lie on top of each other.
        if min(positions) > 0 and max(positions) > 20 * min(positions):
            axes.set_xscale("log")
    for label, values in sorted(levels.items(), key=lambda item: -float(np.mean(item[1]))):
        mean = float(np.mean(values))
        legend = textwrap.fill(f"{label}: {mean:.3f}", 46)
        # Without a marker, and dotted where the stack has a solid line, which a level is not.
        axes.axhline(
            mean, linestyle=(0, styles[label].dash or (1, 2)), linewidth=1, color=styles[label].color, label=legend
        )
    if bounded:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), min(high, 1.0))
    if lines or levels:
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _line_styles(labels: Sequence[str]) -> dict[str, MethodStyle]:
    """Return the style of each label: that of its stack, with another dash for each further noise model of the same stack."""
    styles = method_styles(label.rpartition(" · ")[2] for label in labels)
    counts: dict[str, int] = {}
    found = {}
    for label in sorted(set(labels)):
        stack = label.rpartition(" · ")[2]
        number = counts.get(stack, 0)
        counts[stack] = number + 1
        style = styles[stack]
        dash = DASHES[(DASHES.index(style.dash) + number) % len(DASHES)]
        found[label] = dataclasses.replace(style, dash=dash)
    return found

"""Probes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.records.schema import ProbeMetrics, ProbeRow, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from noisybench.plots.label_sets import new_figure

PROBE_PANELS = {
    "test_accuracy": "test accuracy",
    "noisy_accuracy": "accuracy on observed labels",
    "memorized_fraction": "memorised wrong labels",
    "recovered_fraction": "recovered clean labels",
}


def probe_page(record: RunRecord, rows: Sequence[ProbeRow], path: Path) -> None:
    """One page about a probe: heat maps over places and epochs, curves at the end beside controls, and energies.

    Args:
        record: of the run.
        rows: of one mitigation's probe, in order of epochs; the last one at the end of training.
        path: the PNG file.
    """
    figure = new_figure((16, 8.5), "constrained")
    halves: Any = figure.subfigures(2, 1)
    above, below = halves
    for place, (key, title) in enumerate(PROBE_PANELS.items()):
        _heat_panel(above.add_subplot(1, len(PROBE_PANELS), place + 1), rows, key, title)
    grid = below.add_gridspec(1, 3, width_ratios=[2, 1, 1])
    _end_panel(below.add_subplot(grid[0]), record, rows[-1])
    _energy_panel(below.add_subplot(grid[1]), rows)
    axes = below.add_subplot(grid[2])
    axes.plot([row.epochs for row in rows], [row.diagnostics.get("effective_rank", np.nan) for row in rows], marker=".")
    axes.set(title="effective rank of the features", xlabel="epochs trained")
    axes.grid(alpha=0.3)
    figure.suptitle(textwrap.fill(f"{rows[0].mitigation}: {record.title}", 150), fontsize=11)
    figure.savefig(path)


def _heat_panel(axes: Axes, rows: Sequence[ProbeRow], key: str, title: str) -> None:
    values = [[getattr(each, key) for each in row.judged] for row in rows]
    image = np.array([[np.nan if each is None else each for each in row] for row in values], dtype=float)
    shown = axes.imshow(image, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="viridis")
    if axes.figure is not None:
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    places = rows[0].places
    step = max(1, len(places) // 7)
    axes.set_xticks(range(0, len(places), step), [str(each) for each in places[::step]], fontsize=7)
    axes.set_yticks(range(len(rows)), [str(row.epochs) for row in rows], fontsize=7)
    axes.set(title=title, xlabel=rows[0].axis, ylabel="epochs trained")


def _end_panel(axes: Axes, record: RunRecord, end: ProbeRow) -> None:
    def values(key: str) -> list[float]:
        found: list[ProbeMetrics] = end.judged
        return [np.nan if getattr(each, key) is None else getattr(each, key) for each in found]

    for key in ("test_accuracy", "memorized_fraction", "recovered_fraction"):
        axes.plot(end.places, values(key), label=key.replace("_", " "), marker=".")
    trained = [row for row in record.rows if row.stage == "train"]
    lines = {"trained classifier": trained[-1].test_score} | {
        name.replace("_", " "): each.test_accuracy for name, each in end.others.items()
    }
    if all(row.noisy_val_score is not None for row in trained):
        stopped = max(trained, key=lambda row: (row.noisy_val_score or 0, row.epoch))
        lines["early stopping by noisy validation"] = stopped.test_score
    for number, (name, value) in enumerate(lines.items()):
        axes.axhline(value, linestyle=":", color=f"C{number + 3}", label=f"{name}: {value:.3f}")
    axes.set(title="after training, and test accuracy of controls", xlabel=end.axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _energy_panel(axes: Axes, rows: Sequence[ProbeRow]) -> None:
    for row, style in {rows[0].epochs: (rows[0], ":"), rows[-1].epochs: (rows[-1], "-")}.values():
        for name, colour in (("signal", "tab:blue"), ("noise", "tab:orange"), ("chance", "tab:gray")):
            energy = getattr(row, f"{name}_energy")
            if energy is not None:
                axes.plot(row.places, energy, style, color=colour, label=f"{name}, {row.epochs} epochs")
    axes.set(title="share of the labels' energy within", xlabel=rows[0].axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)

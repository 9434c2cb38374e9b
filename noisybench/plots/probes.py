"""Figures of the probes of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.plots.label_sets import new_figure
from noisybench.records.schema import ProbeRow, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBE_PANELS = {
    "test_accuracy": "test accuracy",
    "noisy_accuracy": "accuracy on observed labels",
    "memorized_fraction": "memorized incorrect labels",
    "recovered_fraction": "recovered clean labels",
}
"""Title of the heat map of each metric."""


def plot_probe(record: RunRecord, rows: Sequence[ProbeRow], path: Path) -> None:
    """Plot the metrics of a probe over positions and epochs, the final curves beside controls, and label energies.

    Args:
        record: finished run.
        rows: rows of one mitigation's probe in order of epochs; the last one is from the end of training.
        path: PNG file to write.
    """
    figure = new_figure((16, 8.5), "constrained")
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    for column, (key, title) in enumerate(PROBE_PANELS.items()):
        _heat_panel(upper.add_subplot(1, len(PROBE_PANELS), column + 1), rows, key, title)
    grid = lower.add_gridspec(1, 3, width_ratios=[2, 1, 1])
    _final_panel(lower.add_subplot(grid[0]), record, rows[-1])
    _energy_panel(lower.add_subplot(grid[1]), rows)
    axes = lower.add_subplot(grid[2])
    axes.plot([row.epochs for row in rows], [row.diagnostics.get("effective_rank", np.nan) for row in rows], marker=".")
    axes.set(title="effective rank of the features", xlabel="epochs trained")
    axes.grid(alpha=0.3)
    figure.suptitle(textwrap.fill(f"{rows[0].mitigation}: {record.title}", 150), fontsize=11)
    figure.savefig(path)


def _values(row: ProbeRow, key: str) -> list[float]:
    """Return one metric at each position; NaN where it was not measured."""
    values = [getattr(metrics, key) for metrics in row.metrics]
    return [np.nan if value is None else value for value in values]


def _heat_panel(axes: Axes, rows: Sequence[ProbeRow], key: str, title: str) -> None:
    # (epochs, positions)
    image = np.array([_values(row, key) for row in rows], dtype=float)
    heat_map = axes.imshow(image, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="viridis")
    if axes.figure is not None:
        axes.figure.colorbar(heat_map, ax=axes, shrink=0.8)
    positions = rows[0].positions
    step = max(1, len(positions) // 7)
    axes.set_xticks(range(0, len(positions), step), [str(position) for position in positions[::step]], fontsize=7)
    axes.set_yticks(range(len(rows)), [str(row.epochs) for row in rows], fontsize=7)
    axes.set(title=title, xlabel=rows[0].axis, ylabel="epochs trained")


def _final_panel(axes: Axes, record: RunRecord, final: ProbeRow) -> None:
    for key in ("test_accuracy", "memorized_fraction", "recovered_fraction"):
        axes.plot(final.positions, _values(final, key), label=key.replace("_", " "), marker=".")
    trained = [row for row in record.rows if row.stage == "train"]
    lines = {"trained classifier": trained[-1].test_score}
    lines |= {name.replace("_", " "): metrics.test_accuracy for name, metrics in final.controls.items()}
    # Without a noisy validation split, early stopping would need clean labels.
    if all(row.noisy_val_score is not None for row in trained):
        best = max(trained, key=lambda row: (row.noisy_val_score or 0, row.epoch))
        lines["early stopping by noisy validation"] = best.test_score
    for number, (name, value) in enumerate(lines.items()):
        axes.axhline(value, linestyle=":", color=f"C{number + 3}", label=f"{name}: {value:.3f}")
    axes.set(title="after training, with test accuracy of controls", xlabel=final.axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _energy_panel(axes: Axes, rows: Sequence[ProbeRow]) -> None:
    # A probe that was fitted once only has one row, which is then drawn once, as the final one.
    for row, style in {rows[0].epochs: (rows[0], ":"), rows[-1].epochs: (rows[-1], "-")}.values():
        for name, color in (("signal", "tab:blue"), ("noise", "tab:orange"), ("chance", "tab:gray")):
            energy = getattr(row, f"{name}_energy")
            if energy is not None:
                axes.plot(row.positions, energy, style, color=color, label=f"{name}, {row.epochs} epochs")
    axes.set(title="fraction of label energy within", xlabel=rows[0].axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)

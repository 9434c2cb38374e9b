"""Detectors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from noisybench.data.label_set import LABEL_STATUS
from noisybench.records.schema import DetectorScores, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from noisybench.plots.label_sets import new_figure

STATE_COLOURS = ("tab:blue", "tab:orange", "tab:red", "tab:gray")


def detector_page(
    record: RunRecord,
    states: NDArray[np.int8],
    detectors: Mapping[str, DetectorScores],
    curves: Mapping[str, Sequence[NDArray[np.float32]]],
    path: Path,
) -> None:
    """One page about a run's detectors: score histograms by true state, ROC curves through the epochs, agreement.

    Args:
        record: of the run.
        states: (N,) positions in `labels.STATES`.
        detectors: as they stand at the end.
        curves: ROC curves on `metrics.ROC_GRID`, one for each epoch since the detector began.
        path: the PNG file.
    """
    figure = new_figure((5 * max(2, len(detectors)), 11), "constrained")
    rows = figure.add_gridspec(3, 1)
    above = rows[0].subgridspec(1, len(detectors))
    for place, (name, detector) in enumerate(detectors.items()):
        _score_panel(figure.add_subplot(above[place]), name, detector, states)
    middle = rows[1].subgridspec(1, max(1, len(curves)))
    for place, (name, each) in enumerate(curves.items()):
        _curve_panel(figure.add_subplot(middle[place]), name, each)
    below = rows[2].subgridspec(1, 2)
    _epoch_panel(figure.add_subplot(below[0]), record, "auroc_any", "AUROC, all wrong labels")
    _agreement_panel(figure.add_subplot(below[1]), record)
    figure.suptitle(textwrap.fill(record.title, 45 * max(2, len(detectors))), fontsize=11)
    figure.savefig(path)


def _score_panel(axes: Axes, name: str, detector: DetectorScores, states: NDArray[np.int8]) -> None:
    score = detector.score
    edges = np.linspace(score.min(), score.max() + 1e-9, 41)
    present = [state for state in range(len(LABEL_STATUS)) if (states == state).any()]
    axes.hist(
        [score[states == state] for state in present],
        bins=edges.tolist(),
        stacked=True,
        color=[STATE_COLOURS[state] for state in present],
        label=[LABEL_STATUS[state].replace("_", " ") for state in present],
        alpha=0.75,
    )
    if detector.mixture:
        grid, scale = np.linspace(edges[0], edges[-1], 300), len(score) * (edges[1] - edges[0])
        for weight, mean, deviation in zip(*detector.mixture, strict=True):
            density = np.exp(-0.5 * ((grid - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
            axes.plot(grid, scale * weight * density, color="black", linewidth=1)
    axes.set_yscale("symlog", linthresh=10)
    axes.set(title=f"{name}: flags {np.mean(detector.flagged):.0%}", xlabel="score", ylabel="examples")
    axes.legend(fontsize=8)


def _curve_panel(axes: Axes, name: str, curves: Sequence[NDArray[np.float32]]) -> None:
    grid = np.linspace(0, 1, len(curves[0]))
    for place, curve in enumerate(curves):
        axes.plot(grid, curve, color=str(0.85 * (1 - (place + 1) / len(curves))), linewidth=1)
    axes.plot([0, 1], [0, 1], color="tab:red", linewidth=0.7, linestyle="--")
    axes.set(
        title=f"{name}: ROC, later epochs darker",
        xlabel="right labels flagged",
        ylabel="wrong labels flagged",
        ylim=(0, 1.02),
    )


def _epoch_panel(axes: Axes, record: RunRecord, key: str, title: str) -> None:
    rows = [row for row in record.rows if row.detectors]
    for name in dict.fromkeys(name for row in rows for name in row.detectors if "_with_" not in name):
        values = [row.detectors.get(name, {}).get(key) for row in rows]
        axes.plot([row.epoch for row in rows], [np.nan if v is None else v for v in values], label=name, marker=".")
    axes.set(title=title, xlabel="epoch", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def _agreement_panel(axes: Axes, record: RunRecord) -> None:
    rows = [row for row in record.rows if row.detectors]
    for name in dict.fromkeys(name for row in rows for name in row.detectors):
        key = "correlation" if "_with_" in name else "flagged"
        values = [row.detectors.get(name, {}).get(key) for row in rows]
        style = "-" if "_with_" in name else ":"
        pair = name.replace("_with_", " and ")
        label = f"correlation of flags, {pair}" if "_with_" in name else f"share flagged, {name}"
        points = [np.nan if value is None else value for value in values]
        axes.plot([row.epoch for row in rows], points, style, label=label, marker=".")
    axes.set(title="agreement of the detectors, and what they flag", xlabel="epoch")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)

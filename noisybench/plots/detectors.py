"""Figures of the detectors of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import LABEL_STATUS
from noisybench.plots.label_sets import new_figure
from noisybench.plots.method_styles import method_styles
from noisybench.records.evidence import DetectorScores
from noisybench.records.schema import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATUS_COLORS = ("tab:blue", "tab:orange", "tab:red", "tab:gray")
"""Color of each label status."""


def plot_detectors(
    record: RunRecord,
    status: NDArray[np.int8],
    detectors: Mapping[str, DetectorScores],
    curves: Mapping[str, Sequence[NDArray[np.float32]]],
    path: Path,
) -> None:
    """Plot score histograms by label status, ROC curves over the epochs, and the agreement of a run's detectors.

    Args:
        record: finished run.
        status: (N,) index into `LABEL_STATUS`.
        detectors: final output of each detector.
        curves: ROC curves on `metrics.ROC_GRID`, one for each epoch since the detector's first output.
        path: PNG file to write.
    """
    figure = new_figure((5 * max(2, len(detectors)), 11), "constrained")
    grid = figure.add_gridspec(3, 1)
    score_grid = grid[0].subgridspec(1, len(detectors))
    for column, (name, detector) in enumerate(detectors.items()):
        _score_panel(figure.add_subplot(score_grid[column]), name, detector, status)
    curve_grid = grid[1].subgridspec(1, max(1, len(curves)))
    for column, (name, detector_curves) in enumerate(curves.items()):
        _curve_panel(figure.add_subplot(curve_grid[column]), name, detector_curves)
    epoch_grid = grid[2].subgridspec(1, 2)
    _epoch_panel(figure.add_subplot(epoch_grid[0]), record, "noise_auroc", "AUROC, ID and OOD noise")
    _agreement_panel(figure.add_subplot(epoch_grid[1]), record)
    figure.suptitle(textwrap.fill(record.title, 45 * max(2, len(detectors))), fontsize=11)
    figure.savefig(path)


def _score_panel(axes: Axes, name: str, detector: DetectorScores, status: NDArray[np.int8]) -> None:
    score = detector.score
    # Constant scores would otherwise give bins without width.
    edges = np.linspace(score.min(), score.max() + 1e-9, 41)
    present = [kind for kind in range(len(LABEL_STATUS)) if (status == kind).any()]
    axes.hist(
        [score[status == kind] for kind in present],
        bins=edges.tolist(),
        stacked=True,
        color=[STATUS_COLORS[kind] for kind in present],
        label=[LABEL_STATUS[kind].replace("_", " ") for kind in present],
        alpha=0.75,
    )
    if detector.mixture:
        # Densities are scaled to the area of the histogram, so that they lie on its bars.
        grid, scale = np.linspace(edges[0], edges[-1], 300), len(score) * (edges[1] - edges[0])
        for weight, mean, deviation in zip(*detector.mixture, strict=True):
            density = np.exp(-0.5 * ((grid - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
            axes.plot(grid, scale * weight * density, color="black", linewidth=1)
    # Incorrect labels may be rare; unlike a logarithmic axis, this one can show empty bins.
    axes.set_yscale("symlog", linthresh=10)
    axes.set(title=f"{name}: {np.mean(detector.flagged):.0%} flagged", xlabel="score", ylabel="examples")
    axes.legend(fontsize=8)


def _curve_panel(axes: Axes, name: str, curves: Sequence[NDArray[np.float32]]) -> None:
    grid = np.linspace(0, 1, len(curves[0]))
    for index, curve in enumerate(curves):
        axes.plot(grid, curve, color=str(0.85 * (1 - (index + 1) / len(curves))), linewidth=1)
    axes.plot([0, 1], [0, 1], color="tab:red", linewidth=0.7, linestyle="--")
    axes.set(
        title=f"{name}: ROC curves, later epochs darker",
        xlabel="false positive rate",
        ylabel="true positive rate",
        ylim=(0, 1.02),
    )


def _epoch_panel(axes: Axes, record: RunRecord, key: str, title: str) -> None:
    rows = [row for row in record.rows if row.detectors]
    names = dict.fromkeys(name for row in rows for name in row.detectors if "_with_" not in name)
    styles = method_styles(names)
    for name in names:
        values = [row.detectors.get(name, {}).get(key) for row in rows]
        points = [np.nan if value is None else value for value in values]
        form: dict[str, Any] = styles[name].matplotlib
        axes.plot([row.epoch for row in rows], points, label=name, **form, markersize=4)
    axes.set(title=title, xlabel="epoch", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def _agreement_panel(axes: Axes, record: RunRecord) -> None:
    rows = [row for row in record.rows if row.detectors]
    names = dict.fromkeys(name for row in rows for name in row.detectors)
    styles = method_styles(names)
    for name in names:
        is_pair = "_with_" in name
        key = "correlation" if is_pair else "flagged_fraction"
        values = [row.detectors.get(name, {}).get(key) for row in rows]
        pair = name.replace("_with_", " and ")
        label = f"correlation of flags, {pair}" if is_pair else f"flagged fraction, {name}"
        points = [np.nan if value is None else value for value in values]
        color = styles[name].color
        axes.plot([row.epoch for row in rows], points, "-" if is_pair else ":", color=color, label=label, marker=".")
    axes.set(title="flagged fraction and agreement of detectors", xlabel="epoch")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)

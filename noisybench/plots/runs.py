"""Figures of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noisybench.plots.label_sets import new_figure
from noisybench.records.schema import RunRecord


def plot_learning_curves(record: RunRecord, path: Path) -> None:
    """Plot scores, losses, and memorization of mislabeled examples over the epochs.

    Args:
        record: finished run.
        path: PNG file to write.
    """
    rows = [row for row in record.rows if row.stage == "train"]
    panels = {
        record.metric: ("train_score", "noisy_val_score", "test_score"),
        "loss (nats)": ("train_loss", "noisy_val_loss", "test_loss"),
        "mislabeled examples": ("memorized_fraction", "recovered_fraction", "noise_auroc"),
    }
    figure = new_figure((13, 3.8))
    # Margins are fixed because computing them takes as long as drawing, and this figure is drawn for every run.
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.13, top=0.84, wspace=0.13)
    for column, (title, names) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 3, column + 1)
        for name in names:
            values = [getattr(row, name) for row in rows]
            if any(value is not None for value in values):
                points = [np.nan if value is None else value for value in values]
                axes.plot([row.epoch for row in rows], points, label=name.replace("_score", "").replace("_", " "))
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
        if title != "loss (nats)":
            axes.set_ylim(0, 1.02)
    figure.suptitle(record.title, fontsize=11)
    figure.savefig(path)

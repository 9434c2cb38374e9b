"""Runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noisybench.plots.label_sets import new_figure
from noisybench.records.schema import RunRecord


def learning_curves(record: RunRecord, path: Path) -> None:
    """Accuracy, loss and what became of wrong labels, over the epochs."""
    rows = [row for row in record.rows if row.stage == "train"]
    panels = {
        record.metric: ("train_score", "noisy_val_score", "test_score"),
        "loss (nats)": ("train_loss", "noisy_val_loss", "test_loss"),
        "wrongly labelled examples": ("memorized_fraction", "recovered_fraction", "noise_auroc"),
    }
    figure = new_figure((13, 3.8))
    # Fixed margins: working them out takes as long as drawing, and this is done for every run.
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.13, top=0.84, wspace=0.13)
    for place, (title, names) in enumerate(panels.items()):
        each = figure.add_subplot(1, 3, place + 1)
        for name in names:
            values = [getattr(row, name) for row in rows]
            if any(value is not None for value in values):
                points = [np.nan if value is None else value for value in values]
                each.plot([row.epoch for row in rows], points, label=name.replace("_score", "").replace("_", " "))
        each.set_xlabel("epoch")
        each.set_title(title, fontsize=10)
        each.grid(alpha=0.3)
        if each.lines:
            each.legend(fontsize=8)
        if title != "loss (nats)":
            each.set_ylim(0, 1.02)
    figure.suptitle(record.title, fontsize=11)
    figure.savefig(path)

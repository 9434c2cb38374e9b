"""Pictures of runs on masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.plots.label_sets import draw_mask, new_figure
from noisybench.records.evidence import Samples
from noisybench.records.schema import RunRecord

SHOWN = 8


def class_curves(record: RunRecord, names: Sequence[str], path: Path) -> None:
    """One panel for each class: IoU with the labels in training, its fit and onset, and what is learned and memorised."""
    rows = [row for row in record.rows if row.stage == "train"]
    epochs = np.array([row.epoch for row in rows])
    shown = [name for name in names if any(f"iou.{name}" in row.diagnostics for row in rows)]
    wide = min(4, max(1, len(shown)))
    tall = -(-len(shown) // wide)
    figure = new_figure((4.6 * wide, 3.4 * max(1, tall) + 0.5), "constrained")
    for place, name in enumerate(shown):
        axes = figure.add_subplot(max(1, tall), wide, place + 1)
        for key, label, colour in (
            ("iou", "test IoU", "tab:green"),
            ("learned", "wrong pixels: clean label", "tab:blue"),
            ("memorized", "wrong pixels: wrong label", "tab:red"),
            ("adele.training_iou", "training IoU", "black"),
        ):
            values = [row.diagnostics.get(f"{key}.{name}", np.nan) for row in rows]
            if not np.isnan(values).all():
                axes.plot(epochs, values, label=label, color=colour, marker="." if key.startswith("adele") else "")
        last = rows[-1].diagnostics
        if f"adele.fit_a.{name}" in last:
            a, b, c, shift = (last[f"adele.fit_{each}.{name}"] for each in ("a", "b", "c", "shift"))
            times = np.linspace(0, len(rows), 200)
            curve = a * (1 - np.exp(-b * np.maximum(times - shift, 0) ** c))
            axes.plot(times - 1, curve, "--", color="tab:gray", label="fit")
        if f"adele.onset.{name}" in last:
            onset = last[f"adele.onset.{name}"]
            axes.axvline(onset - 1, color="tab:orange", linestyle=":", label=f"corrected from epoch {onset:g} on")
        axes.set(title=name, xlabel="epoch", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)
    figure.suptitle(record.title, fontsize=10)
    figure.savefig(path)


def mask_page(dataset: Dataset, samples: Samples, title: str, path: Path) -> None:
    """Images with their clean, noisy and corrected masks and the prediction; those with most wrong pixels among the first."""
    wrong = (samples.clean != samples.observed).mean(axis=(1, 2))
    chosen = np.sort(np.argsort(-wrong, kind="stable")[: 4 * SHOWN : 4])
    columns = {
        "clean": samples.clean,
        "noisy": samples.observed,
        "corrected": samples.corrected_labels,
        "predicted": samples.prediction,
    }
    figure = new_figure((2.1 * len(chosen) + 0.5, 2.1 * (len(columns) + 1) + 0.4), "constrained")
    for place, row in enumerate(chosen):
        image = dataset.train.inputs[row : row + 1][0].transpose(1, 2, 0)
        axes = figure.add_subplot(len(columns) + 1, len(chosen), place + 1)
        axes.imshow(image[:, :, 0] if image.shape[2] == 1 else image, cmap="gray")
        axes.set_title(f"row {samples.index[row]}", fontsize=7)
        axes.axis("off")
        for number, (name, masks) in enumerate(columns.items()):
            axes = figure.add_subplot(len(columns) + 1, len(chosen), (number + 1) * len(chosen) + place + 1)
            draw_mask(axes, masks[row], dataset.num_classes)
            if not place:
                axes.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)

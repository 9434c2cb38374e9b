"""Figures of segmentation runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noisybench.data.dataset import Dataset
from noisybench.plots.label_sets import draw_mask, new_figure
from noisybench.records.evidence import Samples
from noisybench.records.schema import RunRecord

NUM_IMAGES = 8
"""Number of images in the figure of masks."""


def plot_class_curves(record: RunRecord, class_names: Sequence[str], path: Path) -> None:
    """Plot one panel per class: IoU during training, ADELE's fit and onset, and learned and memorized pixels.

    Args:
        record: finished run.
        class_names: names of the classes.
        path: PNG file to write.
    """
    rows = [row for row in record.rows if row.stage == "train"]
    epochs = np.array([row.epoch for row in rows])
    present = [name for name in class_names if any(f"iou.{name}" in row.diagnostics for row in rows)]
    num_columns = min(4, max(1, len(present)))
    num_rows = max(1, -(-len(present) // num_columns))
    figure = new_figure((4.6 * num_columns, 3.4 * num_rows + 0.5), "constrained")
    final = rows[-1].diagnostics
    for index, name in enumerate(present):
        axes = figure.add_subplot(num_rows, num_columns, index + 1)
        for key, label, color in (
            ("iou", "test IoU", "tab:green"),
            ("learned", "mislabeled pixels: clean label", "tab:blue"),
            ("memorized", "mislabeled pixels: observed label", "tab:red"),
            ("adele.training_iou", "training IoU", "black"),
        ):
            values = [row.diagnostics.get(f"{key}.{name}", np.nan) for row in rows]
            if not np.isnan(values).all():
                axes.plot(epochs, values, label=label, color=color, marker="." if key.startswith("adele") else "")
        if f"adele.fit_a.{name}" in final:
            a, b, c, shift = (final[f"adele.fit_{parameter}.{name}"] for parameter in ("a", "b", "c", "shift"))
            times = np.linspace(0, len(rows), 200)
            curve = a * (1 - np.exp(-b * np.maximum(times - shift, 0) ** c))
            # ADELE counts epochs from 1, the axis from 0.
            axes.plot(times - 1, curve, "--", color="tab:gray", label="fit")
        if f"adele.onset.{name}" in final:
            onset = final[f"adele.onset.{name}"]
            axes.axvline(onset - 1, color="tab:orange", linestyle=":", label=f"corrected from epoch {onset:g}")
        axes.set(title=name, xlabel="epoch", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6)
    figure.suptitle(record.title, fontsize=10)
    figure.savefig(path)


def plot_masks(dataset: Dataset, samples: Samples, title: str, path: Path) -> None:
    """Plot images with their clean, noisy, corrected and predicted masks, among the images with most mislabeled pixels.

    Args:
        dataset: dataset of the run.
        samples: final masks of the training images.
        title: title of the figure.
        path: PNG file to write.
    """
    mislabeled = (samples.clean != samples.observed).mean(axis=(1, 2))  # (N,)
    # Every fourth image, because the worst ones alone would all look alike.
    selected = np.sort(np.argsort(-mislabeled, kind="stable")[: 4 * NUM_IMAGES : 4])
    masks_by_name = {
        "clean": samples.clean,
        "noisy": samples.observed,
        "corrected": samples.corrected_labels,
        "predicted": samples.prediction,
    }
    num_rows, num_columns = len(masks_by_name) + 1, len(selected)
    figure = new_figure((2.1 * num_columns + 0.5, 2.1 * num_rows + 0.4), "constrained")
    for column, row in enumerate(selected):
        # A slice of one, because images on disk are read by slices.
        image = dataset.train.inputs[row : row + 1][0].transpose(1, 2, 0)
        axes = figure.add_subplot(num_rows, num_columns, column + 1)
        axes.imshow(image[:, :, 0] if image.shape[2] == 1 else image, cmap="gray")
        axes.set_title(f"row {samples.index[row]}", fontsize=7)
        axes.axis("off")
        for number, (name, masks) in enumerate(masks_by_name.items(), 1):
            axes = figure.add_subplot(num_rows, num_columns, number * num_columns + column + 1)
            draw_mask(axes, masks[row], dataset.num_classes)
            if not column:
                axes.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)

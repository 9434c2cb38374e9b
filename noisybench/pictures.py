"""Pictures of runs and label sets, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from noisybench.dataset import Dataset
from noisybench.labels import LabelSet
from noisybench.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(size: tuple[float, float], layout: Literal["constrained"] | None = None) -> Figure:
    """A figure that needs no display; ``size`` in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout=layout, dpi=100)


def learning_curves(record: RunRecord, path: Path) -> None:
    """Accuracy, loss and what became of wrong labels, over the epochs."""
    rows = [row for row in record.rows if row.stage == "train"]
    panels = {
        "accuracy": ("train_accuracy", "noisy_val_accuracy", "test_accuracy"),
        "loss (nats)": ("train_loss", "noisy_val_loss", "test_loss"),
        "wrongly labelled examples": ("memorised", "recovered", "detection_auroc"),
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
                each.plot([row.epoch for row in rows], points, label=name.replace("_", " "))
        each.set_xlabel("epoch")
        each.set_title(title, fontsize=10)
        each.grid(alpha=0.3)
        if each.lines:
            each.legend(fontsize=8)
        if title != "loss (nats)":
            each.set_ylim(0, 1.02)
    figure.suptitle(record.title, fontsize=11)
    figure.savefig(path)


def label_set_page(dataset: Dataset, labels: LabelSet, path: Path, examples: int = 24) -> None:
    """One page about a label set: transition matrix, rates, class counts and examples with both labels.

    Args:
        dataset: what the labels belong to.
        labels: the label set.
        path: the PNG file.
        examples: how many pictures to show, wrongly labelled ones first.
    """
    from matplotlib.gridspec import GridSpec

    figure = new_figure((14, 11), "constrained")
    grid = GridSpec(2, 3, figure, height_ratios=[1.1, 1])
    _transition_panel(figure.add_subplot(grid[0, 0]), dataset, labels)
    _rate_panel(figure.add_subplot(grid[0, 1]), dataset, labels)
    _count_panel(figure.add_subplot(grid[0, 2]), dataset, labels)
    _example_panel(figure, grid, dataset, labels, examples)
    noise = labels.manifest["noise"]
    figure.suptitle(
        f"{dataset.name} · {noise['name']} · {noise['convention']}\nlabel set {labels.hash[:16]}", fontsize=11
    )
    figure.savefig(path)


def _transition_panel(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    counts = np.asarray(labels.manifest["transition_counts"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="observed", ylabel="clean", title="transitions (share of the clean class)")
    classes = dataset.num_classes
    if classes <= 12:
        axes.set_xticks(range(classes), dataset.class_names, rotation=90, fontsize=7)
        axes.set_yticks(range(classes), dataset.class_names, fontsize=7)
        for row, column in np.argwhere(shares >= 0.005):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=6, color=colour)


def _rate_panel(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    counts = np.asarray(labels.manifest["transition_counts"], dtype=float)
    rates = 1 - np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    axes.bar(range(dataset.num_classes), rates, color="tab:orange")
    realised, nominal = labels.manifest["realised_rate"], labels.manifest["noise"]["nominal_rate"]
    axes.axhline(realised, color="black", label=f"realised {realised:.3f}")
    if nominal is not None:
        axes.axhline(nominal, color="tab:blue", linestyle="--", label=f"nominal {nominal:.3f}")
    axes.set(title="share of wrong labels per clean class", xlabel="class", ylim=(0, 1))
    axes.legend(fontsize=8)


def _count_panel(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    place = np.arange(dataset.num_classes)
    for shift, targets, name in ((-0.2, dataset.train.targets, "clean"), (0.2, labels.train, "observed")):
        axes.bar(place + shift, np.bincount(targets, minlength=dataset.num_classes), 0.4, label=name)
    axes.set(title="training examples per class", xlabel="class")
    axes.legend(fontsize=8)


def _example_panel(figure: Figure, grid: object, dataset: Dataset, labels: LabelSet, examples: int) -> None:
    wrong = labels.train != dataset.train.targets
    order = np.argsort(~wrong, kind="stable")[:examples]
    images = dataset.train.inputs[np.sort(order)]
    inner = grid[1, :].subgridspec((len(order) + 11) // 12, 12)  # type: ignore[index]
    for place, (row, image) in enumerate(zip(np.sort(order), images, strict=True)):
        axes = figure.add_subplot(inner[place // 12, place % 12])
        picture = image.transpose(1, 2, 0)
        axes.imshow(picture[:, :, 0] if picture.shape[2] == 1 else picture, cmap="gray")
        observed, clean = (
            dataset.class_names[labels.train[row]],
            dataset.class_names[dataset.train.targets[row]],
        )
        colour = "tab:red" if wrong[row] else "black"
        axes.set_title(f"{observed}\n(is {clean})" if wrong[row] else observed, fontsize=7, color=colour)
        axes.axis("off")

"""Figures of label sets, as PNG files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import CLEAN, IGNORED, IN_DISTRIBUTION, UNKNOWN_STATUS, MaskTargets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIFFERENCE_COLORS = np.array([[0.95, 0.95, 0.95], [0.12, 0.47, 0.71], [0.84, 0.15, 0.16], [1.0, 0.5, 0.05]])
"""Colors of equal, gained, lost and otherwise changed pixels."""

MAX_LABELED_CLASSES = 12
"""Largest number of classes whose names and values are printed in the transition matrix."""

COLUMNS = 12
"""Number of example images in a row."""


def new_figure(size: tuple[float, float], layout: Literal["constrained"] | None = None) -> Figure:
    """Return a figure that needs no display; ``size`` is in inches."""
    from matplotlib.figure import Figure

    # Without pyplot, which would keep the figure in memory and look for a display.
    return Figure(figsize=size, layout=layout, dpi=100)


def mask_palette() -> NDArray[np.float64]:
    """Return the (256, 3) colors of classes in masks, in [0, 1]; pixels without a label are black."""
    from matplotlib import colormaps

    # Any uint8 mask is a valid index, whatever its number of classes.
    palette = np.array([[0.93, 0.93, 0.93], *(colormaps["tab20"](index % 20)[:3] for index in range(255))])
    palette[IGNORED] = 0.0
    return palette


def draw_mask(axes: Axes, mask: NDArray[np.uint8], num_classes: int) -> None:
    """Draw a mask in the colors of its classes; unlabeled pixels are black."""
    axes.imshow(mask_palette()[mask], interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def plot_label_set(dataset: Dataset, labels: LabelSet, path: Path, num_examples: int = 24) -> None:
    """Plot a label set: transition matrix, noise rates, class counts, and examples with both labels.

    Args:
        dataset: the dataset the labels belong to.
        labels: the label set.
        path: the PNG file.
        num_examples: number of example images, mislabeled ones first.
    """
    from matplotlib.gridspec import GridSpec

    dataset = labels.apply_to(dataset)
    if isinstance(labels.target_kind, MaskTargets):
        plot_mask_set(dataset, labels, path, num_examples)
        return
    figure = new_figure((14, 11), "constrained")
    grid = GridSpec(2, 3, figure, height_ratios=[1.1, 1])
    _draw_transitions(figure.add_subplot(grid[0, 0]), dataset, labels)
    _draw_rates(figure.add_subplot(grid[0, 1]), dataset, labels)
    _draw_class_counts(figure.add_subplot(grid[0, 2]), dataset, labels)
    _draw_examples(figure, grid, dataset, labels, num_examples)
    _save(figure, dataset, labels, path)


def plot_mask_set(dataset: Dataset, labels: LabelSet, path: Path, num_examples: int = 24) -> None:
    """Plot noisy masks: transition matrix, IoU by class, and images with clean and noisy masks and their difference.

    Args:
        dataset: the dataset the masks belong to.
        labels: the label set.
        path: the PNG file.
        num_examples: number of panels with examples, spread over the fraction of incorrect pixels.
    """
    columns = max(1, min(num_examples // 3, len(labels.train)))
    figure = new_figure((2.2 * columns + 0.5, 12.5), "constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 2.1])
    _draw_transitions(halves[0].add_subplot(1, 2, 1), dataset, labels)
    _draw_iou(halves[0].add_subplot(1, 2, 2), dataset, labels)
    # (N,) fraction of incorrect pixels in each mask.
    incorrect = (labels.label_status(dataset.train.targets) == IN_DISTRIBUTION).mean(axis=(1, 2))
    # A stable sort: masks with equal fractions would otherwise be chosen differently across platforms.
    order = np.argsort(-incorrect, kind="stable")
    rows = np.sort(order[np.linspace(0, len(order) - 1, columns).astype(int)])
    for column, row in enumerate(rows.tolist()):
        panels = [halves[1].add_subplot(4, columns, line * columns + column + 1) for line in range(4)]
        _draw_image(panels[0], dataset.train.inputs[row : row + 1][0])
        panels[0].set_title(f"row {dataset.train.index[row]}: {incorrect[row]:.1%} incorrect", fontsize=7)
        clean, noisy = dataset.train.targets[row], labels.train[row]
        draw_mask(panels[1], clean, dataset.num_classes)
        draw_mask(panels[2], noisy, dataset.num_classes)
        # Gained pixels are the noisy mask's objects, lost ones the clean mask's.
        difference = np.select([clean == noisy, clean == 0, noisy == 0], [0, 1, 2], 3)
        panels[3].imshow(DIFFERENCE_COLORS[difference], interpolation="nearest")
        panels[3].set(xticks=[], yticks=[])
        if not column:
            panels[1].set_ylabel("clean", fontsize=8)
            panels[2].set_ylabel("noisy", fontsize=8)
            panels[3].set_ylabel("gained (blue), lost (red),\nother class (orange)", fontsize=7)
    _save(figure, dataset, labels, path)


def _save(figure: Figure, dataset: Dataset, labels: LabelSet, path: Path) -> None:
    noise = labels.manifest["noise"]
    title = textwrap.fill(f"{dataset.name} · {noise['name']} · {noise['convention']}", 130)
    figure.suptitle(f"{title}\nlabel set {labels.hash[:16]}", fontsize=11)
    figure.savefig(path)


def _draw_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Draw a (C, H, W) image."""
    pixels = image.transpose(1, 2, 0)
    axes.imshow(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, cmap="gray")
    axes.axis("off")


def _draw_transitions(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    counts = np.asarray(labels.manifest["transition_counts"], dtype=float)
    # A class without examples has a row of zeros instead of a division by zero.
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="observed", ylabel="clean", title="transitions (fraction of the clean class)")
    num_classes = dataset.num_classes
    if num_classes <= MAX_LABELED_CLASSES:
        axes.set_xticks(range(num_classes), dataset.class_names, rotation=90, fontsize=7)
        axes.set_yticks(range(num_classes), dataset.class_names, fontsize=7)
        # Smaller values would print as 0.00.
        for row, column in np.argwhere(fractions >= 0.005):
            value = fractions[row, column]
            color = "white" if value > 0.5 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)


def _draw_iou(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    masks = labels.manifest["masks"]
    values = [np.nan if value is None else value for value in masks["iou"]]
    axes.bar(range(len(values)), values, color="tab:blue")
    if masks["miou"] is not None:
        axes.axhline(masks["miou"], color="black", label=f"foreground mean {masks['miou']:.3f}")
        axes.legend(fontsize=8)
    bias = "" if masks["area_bias"] is None else f", area {masks['area_bias']:+.1%}"
    axes.set(title=f"IoU of clean and noisy masks{bias}", ylim=(0, 1))
    axes.set_xticks(range(len(values)), dataset.class_names, rotation=90, fontsize=7)


def _draw_rates(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    counts = np.asarray(labels.manifest["transition_counts"], dtype=float)
    rates = 1 - np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    axes.bar(range(dataset.num_classes), rates, color="tab:orange")
    actual, nominal = labels.manifest["actual_noise_rate"], labels.manifest["noise"]["nominal_rate"]
    if actual is not None:
        axes.axhline(actual, color="black", label=f"actual {actual:.3f}")
    if nominal is not None:
        axes.axhline(nominal, color="tab:blue", linestyle="--", label=f"nominal {nominal:.3f}")
    axes.set(title="noise rate by clean class", xlabel="class", ylim=(0, 1))
    axes.legend(fontsize=8)


def _draw_class_counts(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    positions = np.arange(dataset.num_classes)
    # `bincount` accepts no negative targets, which stand for OOD images and unknown classes.
    known = dataset.train.targets[dataset.target_kind.is_labeled(dataset.train.targets)]
    for offset, targets, name in ((-0.2, known, "clean"), (0.2, labels.train, "observed")):
        axes.bar(positions + offset, np.bincount(targets, minlength=dataset.num_classes), 0.4, label=name)
    ood_counts = labels.manifest.get("ood_counts")
    if ood_counts:
        axes.bar(positions + 0.2, ood_counts, 0.4, color="tab:red", label="observed on OOD images")
    axes.set(title="training examples per class", xlabel="class")
    axes.legend(fontsize=8)


def _draw_examples(figure: Figure, grid: object, dataset: Dataset, labels: LabelSet, num_examples: int) -> None:
    clean = dataset.train.targets
    status = labels.label_status(clean)
    incorrect = (status != CLEAN) & (status != UNKNOWN_STATUS)
    # Stable, so that the same label set always shows the same examples.
    rows = np.sort(np.argsort(~incorrect, kind="stable")[:num_examples])
    inner = grid[1, :].subgridspec((len(rows) + COLUMNS - 1) // COLUMNS, COLUMNS)  # type: ignore[index]
    for number, (row, image) in enumerate(zip(rows, dataset.train.inputs[rows], strict=True)):
        axes = figure.add_subplot(inner[number // COLUMNS, number % COLUMNS])
        _draw_image(axes, image)
        observed = dataset.class_names[labels.train[row]]
        true_class = dataset.class_names[clean[row]] if clean[row] >= 0 else "out of distribution"
        title = f"{observed}\n(is {true_class})" if incorrect[row] else observed
        axes.set_title(title, fontsize=7, color="tab:red" if incorrect[row] else "black")

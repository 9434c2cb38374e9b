"""Pictures of runs and label sets, as PNG files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_set import LabelSet
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION, UNKNOWN_TARGET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(size: tuple[float, float], layout: Literal["constrained"] | None = None) -> Figure:
    """A figure that needs no display; ``size`` in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout=layout, dpi=100)


def draw_mask(axes: Axes, mask: NDArray[np.uint8], classes: int) -> None:
    """A mask in the colours of its classes; black where there is no label."""
    from matplotlib import colormaps

    palette = np.array([[0.93, 0.93, 0.93], *(colormaps["tab20"](each % 20)[:3] for each in range(255))])
    palette[IGNORED] = 0.0
    axes.imshow(palette[mask], interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def mask_set_page(dataset: Dataset, labels: LabelSet, path: Path, examples: int = 24) -> None:
    """One page about noisy masks: transitions, IoU by class, and images with clean and noisy masks and their difference.

    Args:
        dataset: what the masks belong to.
        labels: the label set.
        path: the PNG file.
        examples: how many pictures to show, spread over how much is wrong.
    """
    count = max(1, min(examples // 3, len(labels.train)))
    figure = new_figure((2.2 * count + 0.5, 12.5), "constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 2.1])
    _transition_panel(halves[0].add_subplot(1, 2, 1), dataset, labels)
    axes = halves[0].add_subplot(1, 2, 2)
    found = labels.manifest["masks"]
    values = [np.nan if each is None else each for each in found["iou"]]
    axes.bar(range(len(values)), values, color="tab:blue")
    if found["miou"] is not None:
        axes.axhline(found["miou"], color="black", label=f"mean without background {found['miou']:.3f}")
        axes.legend(fontsize=8)
    bias = "" if found["area_bias"] is None else f", area {found['area_bias']:+.1%}"
    axes.set(title=f"IoU of clean and noisy masks{bias}", ylim=(0, 1))
    axes.set_xticks(range(len(values)), dataset.class_names, rotation=90, fontsize=7)
    wrong = (labels.label_status(dataset.train.targets) == IN_DISTRIBUTION).mean(axis=(1, 2))
    order = np.argsort(-wrong, kind="stable")
    for place, row in enumerate(np.sort(order[np.linspace(0, len(order) - 1, count).astype(int)])):
        image = dataset.train.inputs[row : row + 1][0].transpose(1, 2, 0)
        axes = halves[1].add_subplot(4, count, place + 1)
        axes.imshow(image[:, :, 0] if image.shape[2] == 1 else image, cmap="gray")
        axes.set_title(f"row {dataset.train.index[row]}: {wrong[row]:.1%} wrong", fontsize=7)
        axes.axis("off")
        clean, noisy = dataset.train.targets[row], labels.train[row]
        for number, (name, mask) in enumerate((("clean", clean), ("noisy", noisy))):
            axes = halves[1].add_subplot(4, count, (number + 1) * count + place + 1)
            draw_mask(axes, mask, dataset.num_classes)
            if not place:
                axes.set_ylabel(name, fontsize=8)
        axes = halves[1].add_subplot(4, count, 3 * count + place + 1)
        # Gained pixels are the noisy mask's objects, lost ones the clean mask's.
        difference = np.select([clean == noisy, clean == 0, noisy == 0], [0, 1, 2], 3)
        axes.imshow(DIFFERENCE[difference], interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        if not place:
            axes.set_ylabel("gained (blue), lost (red),\nother class (orange)", fontsize=7)
    noise = labels.manifest["noise"]
    title = textwrap.fill(f"{dataset.name} · {noise['name']} · {noise['convention']}", 130)
    figure.suptitle(f"{title}\nlabel set {labels.hash[:16]}", fontsize=11)
    figure.savefig(path)


DIFFERENCE = np.array([[0.95, 0.95, 0.95], [0.12, 0.47, 0.71], [0.84, 0.15, 0.16], [1.0, 0.5, 0.05]])
"""Colours of equal, gained, lost and otherwise changed pixels."""


def label_set_page(dataset: Dataset, labels: LabelSet, path: Path, examples: int = 24) -> None:
    """One page about a label set: transition matrix, rates, class counts and examples with both labels.

    Args:
        dataset: what the labels belong to.
        labels: the label set.
        path: the PNG file.
        examples: how many pictures to show, wrongly labelled ones first.
    """
    from matplotlib.gridspec import GridSpec

    dataset = labels.apply_to(dataset)
    if labels.target_kind.name == "masks":
        mask_set_page(dataset, labels, path, examples)
        return
    figure = new_figure((14, 11), "constrained")
    grid = GridSpec(2, 3, figure, height_ratios=[1.1, 1])
    _transition_panel(figure.add_subplot(grid[0, 0]), dataset, labels)
    _rate_panel(figure.add_subplot(grid[0, 1]), dataset, labels)
    _count_panel(figure.add_subplot(grid[0, 2]), dataset, labels)
    _example_panel(figure, grid, dataset, labels, examples)
    noise = labels.manifest["noise"]
    title = textwrap.fill(f"{dataset.name} · {noise['name']} · {noise['convention']}", 130)
    figure.suptitle(f"{title}\nlabel set {labels.hash[:16]}", fontsize=11)
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
    realised, nominal = labels.manifest["actual_noise_rate"], labels.manifest["noise"]["nominal_rate"]
    if realised is not None:
        axes.axhline(realised, color="black", label=f"realised {realised:.3f}")
    if nominal is not None:
        axes.axhline(nominal, color="tab:blue", linestyle="--", label=f"nominal {nominal:.3f}")
    axes.set(title="share of wrong labels per clean class", xlabel="class", ylim=(0, 1))
    axes.legend(fontsize=8)


def _count_panel(axes: Axes, dataset: Dataset, labels: LabelSet) -> None:
    place = np.arange(dataset.num_classes)
    known = dataset.train.targets[dataset.train.targets >= 0]
    for shift, targets, name in ((-0.2, known, "clean"), (0.2, labels.train, "observed")):
        axes.bar(place + shift, np.bincount(targets, minlength=dataset.num_classes), 0.4, label=name)
    outsiders = labels.manifest.get("ood_counts")
    if outsiders:
        axes.bar(place + 0.2, outsiders, 0.4, color="tab:red", label="observed on an image of no class")
    axes.set(title="training examples per class", xlabel="class")
    axes.legend(fontsize=8)


def _example_panel(figure: Figure, grid: object, dataset: Dataset, labels: LabelSet, examples: int) -> None:
    clean = dataset.train.targets
    states = labels.label_status(clean)
    wrong = (states > 0) & (clean != UNKNOWN_TARGET)
    order = np.argsort(~wrong, kind="stable")[:examples]
    images = dataset.train.inputs[np.sort(order)]
    inner = grid[1, :].subgridspec((len(order) + 11) // 12, 12)  # type: ignore[index]
    for place, (row, image) in enumerate(zip(np.sort(order), images, strict=True)):
        axes = figure.add_subplot(inner[place // 12, place % 12])
        picture = image.transpose(1, 2, 0)
        axes.imshow(picture[:, :, 0] if picture.shape[2] == 1 else picture, cmap="gray")
        observed = dataset.class_names[labels.train[row]]
        truth = dataset.class_names[clean[row]] if clean[row] >= 0 else "of no class"
        colour = "tab:red" if wrong[row] else "black"
        axes.set_title(f"{observed}\n(is {truth})" if wrong[row] else observed, fontsize=7, color=colour)
        axes.axis("off")

"""Pictures of runs and label sets, as PNG files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import IGNORED, UNKNOWN, Dataset
from noisybench.labels import IN_DISTRIBUTION, STATES, LabelSet, noise_states
from noisybench.records import DetectorScores, Judged, ProbeRow, RunRecord

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
        record.metric: ("train_score", "noisy_val_score", "test_score"),
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
    present = [state for state in range(len(STATES)) if (states == state).any()]
    axes.hist(
        [score[states == state] for state in present],
        bins=edges.tolist(),
        stacked=True,
        color=[STATE_COLOURS[state] for state in present],
        label=[STATES[state].replace("_", " ") for state in present],
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


PROBE_PANELS = {
    "test_accuracy": "test accuracy",
    "noisy_accuracy": "accuracy on observed labels",
    "memorised": "memorised wrong labels",
    "recovered": "recovered clean labels",
}


def probe_page(record: RunRecord, rows: Sequence[ProbeRow], path: Path) -> None:
    """One page about a probe: heat maps over places and epochs, curves at the end beside controls, and energies.

    Args:
        record: of the run.
        rows: of one mitigation's probe, in order of epochs; the last one at the end of training.
        path: the PNG file.
    """
    figure = new_figure((16, 8.5), "constrained")
    halves: Any = figure.subfigures(2, 1)
    above, below = halves
    for place, (key, title) in enumerate(PROBE_PANELS.items()):
        _heat_panel(above.add_subplot(1, len(PROBE_PANELS), place + 1), rows, key, title)
    grid = below.add_gridspec(1, 3, width_ratios=[2, 1, 1])
    _end_panel(below.add_subplot(grid[0]), record, rows[-1])
    _energy_panel(below.add_subplot(grid[1]), rows)
    axes = below.add_subplot(grid[2])
    axes.plot([row.epochs for row in rows], [row.facts.get("effective_rank", np.nan) for row in rows], marker=".")
    axes.set(title="effective rank of the features", xlabel="epochs trained")
    axes.grid(alpha=0.3)
    figure.suptitle(textwrap.fill(f"{rows[0].mitigation}: {record.title}", 150), fontsize=11)
    figure.savefig(path)


def _heat_panel(axes: Axes, rows: Sequence[ProbeRow], key: str, title: str) -> None:
    values = [[getattr(each, key) for each in row.judged] for row in rows]
    image = np.array([[np.nan if each is None else each for each in row] for row in values], dtype=float)
    shown = axes.imshow(image, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="viridis")
    if axes.figure is not None:
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    places = rows[0].places
    step = max(1, len(places) // 7)
    axes.set_xticks(range(0, len(places), step), [str(each) for each in places[::step]], fontsize=7)
    axes.set_yticks(range(len(rows)), [str(row.epochs) for row in rows], fontsize=7)
    axes.set(title=title, xlabel=rows[0].axis, ylabel="epochs trained")


def _end_panel(axes: Axes, record: RunRecord, end: ProbeRow) -> None:
    def values(key: str) -> list[float]:
        found: list[Judged] = end.judged
        return [np.nan if getattr(each, key) is None else getattr(each, key) for each in found]

    for key in ("test_accuracy", "memorised", "recovered"):
        axes.plot(end.places, values(key), label=key.replace("_", " "), marker=".")
    trained = [row for row in record.rows if row.stage == "train"]
    lines = {"trained classifier": trained[-1].test_score} | {
        name.replace("_", " "): each.test_accuracy for name, each in end.others.items()
    }
    if all(row.noisy_val_score is not None for row in trained):
        stopped = max(trained, key=lambda row: (row.noisy_val_score or 0, row.epoch))
        lines["early stopping by noisy validation"] = stopped.test_score
    for number, (name, value) in enumerate(lines.items()):
        axes.axhline(value, linestyle=":", color=f"C{number + 3}", label=f"{name}: {value:.3f}")
    axes.set(title="after training, and test accuracy of controls", xlabel=end.axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _energy_panel(axes: Axes, rows: Sequence[ProbeRow]) -> None:
    for row, style in {rows[0].epochs: (rows[0], ":"), rows[-1].epochs: (rows[-1], "-")}.values():
        for name, colour in (("signal", "tab:blue"), ("noise", "tab:orange"), ("chance", "tab:gray")):
            energy = getattr(row, f"{name}_energy")
            if energy is not None:
                axes.plot(row.places, energy, style, color=colour, label=f"{name}, {row.epochs} epochs")
    axes.set(title="share of the labels' energy within", xlabel=rows[0].axis, xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)


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
    wrong = (noise_states(dataset.train.targets, labels.train) == IN_DISTRIBUTION).mean(axis=(1, 2))
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

    dataset = labels.applied_to(dataset)
    if labels.train.ndim > 1:
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
    realised, nominal = labels.manifest["realised_rate"], labels.manifest["noise"]["nominal_rate"]
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
    outsiders = labels.manifest.get("outsider_counts")
    if outsiders:
        axes.bar(place + 0.2, outsiders, 0.4, color="tab:red", label="observed on an image of no class")
    axes.set(title="training examples per class", xlabel="class")
    axes.legend(fontsize=8)


def _example_panel(figure: Figure, grid: object, dataset: Dataset, labels: LabelSet, examples: int) -> None:
    clean = dataset.train.targets
    states = noise_states(clean, labels.train)
    wrong = (states > 0) & (clean != UNKNOWN)
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

"""Pictures of noise models and of losses, drawn when the site is built."""

from __future__ import annotations

import dataclasses
import functools
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from noisybench.config.registry import Entry, get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import NoiseModel
from noisybench.integrations import losses
from noisybench.plots.label_sets import new_figure, plot_label_set

SCENES = {"train_images": 60, "validation_images": 4, "test_images": 4, "size": 32}
"""Drawn scenes, few enough that all pictures take seconds."""

WITHOUT_PICTURE = ("clean", "coco_n", "from_folder", "human", "real_world")
"""Noise models without a figure: no noise, and labels or annotations of people, which no embedded dataset has."""


@dataclass(frozen=True)
class Picture:
    """PNG file with its description."""

    png: bytes
    description: str


@functools.cache
def _dataset(task: str) -> Dataset:
    if task == "segmentation":
        made: Dataset = get_entry("datasets", "scenes").load_class()(**SCENES).load()
    else:
        made = get_entry("datasets", "digits").load_class()(train_size=600).load()
    return made


def noise_picture(entry: Entry) -> Picture | None:
    """Return the figure of `noisybench inspect` for a noise model; None for traces, steps and labels from files."""
    cls = entry.load_class()
    if entry.name in WITHOUT_PICTURE or not {"classification", "segmentation"} & {*cls.tasks}:
        return None
    if "segmentation" not in cls.tasks and cls.example_classes != NoiseModel.example_classes:
        return _matrix_picture(entry)
    task = "classification" if "classification" in cls.tasks else "segmentation"
    dataset = cls.example_dataset(_dataset(task))
    with tempfile.TemporaryDirectory() as folder:
        labels = cls(**cls.example(dataset, Path(folder))).apply(dataset)
        path = Path(folder) / "picture.png"
        plot_label_set(dataset, labels, path)
        data = "drawn scenes" if task == "segmentation" else "handwritten digits"
        return Picture(path.read_bytes(), f"Effect of {entry.name} on {data}")


def _matrix_picture(entry: Entry) -> Picture:
    """Return the transition matrix of a noise model that is defined for certain classes, which no embedded dataset has."""
    cls = entry.load_class()
    model = cls(**cls.example(_dataset("classification"), Path()))
    matrix = model.matrix(dataclasses.replace(_dataset("classification"), class_names=cls.example_classes))
    figure = new_figure((5, 4.4), "constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1), label="probability")
    axes.set(xlabel="observed class", ylabel="clean class", title=entry.name)
    return Picture(_png(figure), f"Transition matrix of {entry.name} for {len(cls.example_classes)} classes")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


POINTWISE_LOSSES = ("bootstrapping", "gce", "label_smoothing", "sce")
"""Losses of one example that depend on its prediction and its label alone, without a state or other examples."""


def loss_curve(entry: Entry) -> Picture | None:
    """Return the loss of one example over the probability of its label; None where the loss depends on more than that."""
    if entry.name not in POINTWISE_LOSSES:
        return None
    probability = torch.linspace(0.005, 0.995, 199)
    logits = torch.stack([probability.log(), (1 - probability).log()], 1)
    labels = torch.zeros(len(logits), dtype=torch.int64)
    figure = new_figure((5, 3.2), "constrained")
    axes = figure.subplots()
    for name, style in ((entry.name, "-"), ("cross_entropy", ":")):
        axes.plot(probability, losses.StackLoss(name, reduction="none")(logits, labels), style, label=name)
    axes.set(xlabel="probability of the given label", ylabel="loss (nats)", ylim=(0, 6))
    axes.legend()
    return Picture(_png(figure), f"Loss of {entry.name} on one example of two classes, beside cross-entropy")

"""Masks: how fast they are corrupted, and what ADELE adds to an epoch.

python -m pytest tests/performance/test_masks.py -n 0 --benchmark-enable --benchmark-only -s
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import pytest
import torch

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.dataset import Dataset
from noisybench.noise_models._masks import MaskNoise
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from tests.performance.test_speed import paired_ratio

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(32, "unet:8"), (64, "unet:8"), (64, "unet:32"), *([(256, "unet:32")] if DEVICE == "cuda" else [])]
GENERATED = [name for name, entry in list_entries("noise_models").items() if issubclass(entry.load_class(), MaskNoise)]


@pytest.fixture(scope="module")
def large() -> Dataset:
    made: Dataset = (
        get_entry("datasets", "scenes")
        .load_class()(size=256, train_images=60, validation_images=2, test_images=1)
        .load()
    )
    return made


@pytest.mark.parametrize("name", GENERATED)
def test_masks_corrupted_in_a_second(name: str, large: Dataset, benchmark: Any) -> None:
    cv2.setNumThreads(1)
    noise = get_entry("noise_models", name).load_class()(corrupted_fraction=1.0)
    split = large.train if benchmark.enabled else large.validation
    spent: list[float] = []

    def corrupt() -> None:
        start = time.process_time()
        noise.corrupt_masks(split, 5, 1.0)
        spent.append(time.process_time() - start)

    benchmark.pedantic(corrupt, rounds=5 if benchmark.enabled else 1)
    if benchmark.enabled:
        print(f"\n{name}: {len(split) / min(spent):.0f} masks of 256x256 per second of CPU time")


def task_of(stack: dict[str, Any], size: int, network: str = "unet:8", count: int = 50) -> Task:
    source = get_entry("datasets", "scenes").load_class()(
        size=size, train_images=count, validation_images=2, test_images=1
    )
    dataset = source.load()
    data = TrainingSet(
        torch.from_numpy(dataset.train.inputs), torch.from_numpy(dataset.train.targets), 5, None, dataset.class_names
    )
    budget = Budget(network=network, batch_size=5, optimizer="adam", learning_rate=0.008, epochs=30)
    made = Stack(
        [get_entry("mitigations", stack["name"]).load_class()(**{k: v for k, v in stack.items() if k != "name"})]
    )
    task: Task = get_entry("tasks", "segmentation").load_class()(budget, 0, data, made)
    task.to(DEVICE)
    data.move_to(torch.device(DEVICE))
    for each in made.mitigations:
        each.prepare(task, data)
        each.state = {name: tensor.to(DEVICE) for name, tensor in each.state.items()}
    return task


@pytest.mark.parametrize(("size", "network"), SIZES)
@pytest.mark.parametrize("scales", [None, [0.5, 0.75, 1.0], [0.7, 1.0, 1.5]])
def test_an_epoch_of_adele_against_cross_entropy(
    scales: list[float] | None, size: int, network: str, benchmark: Any
) -> None:
    consistency = {"consistency": 1.0, "scales": scales} if scales else {}
    tasks = [
        task_of({"name": name, **more}, size, network, 50 if benchmark.enabled else 5)
        for name, more in (("adele", consistency), ("cross_entropy", {}))
    ]
    optimizers: list[Any] = [each.configure_optimizers() for each in tasks]

    def epoch(place: int) -> None:
        train_epoch(tasks[place], optimizers[place], epoch=0)

    benchmark.pedantic(lambda: epoch(0), rounds=1, iterations=1)
    if benchmark.enabled:
        ratio = paired_ratio(lambda: epoch(0), lambda: epoch(1), rounds=5)
        print(
            f"\nADELE, {consistency or 'no consistency'}, {network}, {size}x{size}, {DEVICE}: "
            f"{ratio:.2f} of cross-entropy's epoch"
        )

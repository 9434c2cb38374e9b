"""Speed and memory, measured and never asserted.

    python -m pytest tests/performance -n 0 --benchmark-enable --benchmark-only -s

Ratios are paired: both sides run in turn on the same machine, and the median of the single ratios counts. In the
ordinary test run each function runs once, to stay correct.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.suite import read_suite
from noisybench.data.noise_model import NoiseModel
from noisybench.networks import build_network
from noisybench.tasks.classification import Classification
from noisybench.training.augmentation import crop_and_flip
from noisybench.training.loop import attach, train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import toy_dataset
from tests.leaderboard.test_leaderboard import record

CASES = {
    "digits_cnn": ("small_cnn", (1213, 1, 8, 8), 64, 30),
    "resnet18": ("resnet18_cifar_stem", (96, 3, 32, 32), 32, 1),
}


def training_data(shape: tuple[int, ...]) -> TrainingSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return TrainingSet(images, torch.randint(0, 10, shape[:1], generator=generator), 10)


def bare_loop(network: str, shape: tuple[int, ...], batch: int, epochs: int) -> Callable[[], None]:
    """A loop written by hand: data in memory, batches by index, nothing recorded."""
    data = training_data(shape)
    net = build_network(network, 10, shape[1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def train() -> None:
        for _ in range(epochs):
            order = torch.randperm(len(data))
            for start in range(0, len(data) - 1, batch):
                index = order[start : start + batch]
                images = data.inputs[index].float().sub_(127.5).mul_(1 / 73.0)
                loss = functional.cross_entropy(net(images), data.targets[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    return train


def own_loop(network: str, shape: tuple[int, ...], batch: int, epochs: int) -> Callable[[], None]:
    """The same through task, stack and noisybench's loop; evaluation and records come on top."""
    budget = Budget(network=network, epochs=epochs, batch_size=batch)
    stack = Stack([get_entry("mitigations", "cross_entropy").load_class()()])

    def train() -> None:
        task = Classification(budget, 0, training_data(shape), stack)
        attach(task, Fabric(accelerator="cpu", devices=1))
        optimizer = task.configure_optimizers()
        task.on_fit_start()
        for epoch in range(epochs):
            train_epoch(task, optimizer, epoch)

    return train


def lightning_trainer(network: str, shape: tuple[int, ...], batch: int, epochs: int) -> Callable[[], None]:
    """The same in a Lightning `Trainer` without callbacks and loggers."""
    from pytorch_lightning import Trainer

    budget = Budget(network=network, epochs=epochs, batch_size=batch)
    stack = Stack([get_entry("mitigations", "cross_entropy").load_class()()])

    def train() -> None:
        task = Classification(budget, 0, training_data(shape), stack)
        trainer = Trainer(
            accelerator="cpu", max_epochs=epochs, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer.fit(task)

    return train


def paired_ratio(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> float:
    """Median over rounds of the time of ``first`` over that of ``second``."""
    ratios = []
    for number in range(rounds + 1):
        times = []
        for function in (first, second):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        if number:  # the first round warms up
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)


@pytest.mark.parametrize("loop", [own_loop, lightning_trainer])
@pytest.mark.parametrize("case", CASES)
def test_step_overhead(case: str, loop: Callable[..., Callable[[], None]], benchmark: Any) -> None:
    torch.set_num_threads(1)
    network, shape, batch, epochs = CASES[case]
    if not benchmark.enabled:
        shape, batch, epochs = (8, *shape[1:]), 4, 1
    ours, bare = (make(network, shape, batch, epochs) for make in (loop, bare_loop))
    benchmark.pedantic(ours, rounds=1, iterations=1)
    if benchmark.enabled:
        benchmark.extra_info["paired ratio to a bare loop"] = ratio = paired_ratio(ours, bare, rounds=11)
        print(f"\n{case}, {loop.__name__}: {ratio:.3f} x a bare loop")
    else:
        bare()


def test_augmentation_throughput(benchmark: Any) -> None:
    """Crop and flip of CIFAR-shaped images against torchvision's per-image pipeline on PIL images."""
    from PIL import Image
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    count = 512
    images = training_data((count, 3, 32, 32)).inputs
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    per_image = v2.Compose([
        v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.25] * 3),
    ])  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def batched() -> None:
        for start in range(0, count, 128):
            crop_and_flip(images[start : start + 128], generator, flip=True).float().sub_(127.5).mul_(1 / 64)

    def one_by_one() -> None:
        torch.stack([per_image(picture) for picture in pictures])

    benchmark(batched)
    if benchmark.enabled:
        benchmark.extra_info["paired ratio to per-image PIL"] = ratio = paired_ratio(one_by_one, batched, rounds=11)
        print(f"\naugmentation: {ratio:.1f} x the images per second of torchvision's PIL pipeline")
    else:
        one_by_one()


def epoch_seconds(mitigation: str, network: str, count: int, **parameters: Any) -> float:
    """Seconds of one epoch after the warm-up: steps, prediction of the training set and, if there is one, detection."""
    budget = Budget(network=network, epochs=2, batch_size=128, augmentation="crop_flip")
    stack = Stack([get_entry("mitigations", mitigation).load_class()(**parameters)])
    task = Classification(budget, 0, training_data((count, 3, 32, 32)), stack)
    attach(task, Fabric(accelerator="cpu", devices=1))
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    train_epoch(task, optimizer, 0)
    task.training_probabilities()
    start = time.perf_counter()
    train_epoch(task, optimizer, 1)
    task.training_probabilities()
    return time.perf_counter() - start


@pytest.mark.parametrize("mitigation", ["lsa", "pls", "dividemix"])
def test_epoch_against_cross_entropy(mitigation: str, benchmark: Any) -> None:
    """Paired ratio of whole epochs on 32x32 images; in the ordinary test run a single tiny pair."""
    count, network, rounds = (1024, "resnet8_cifar_stem", 5) if benchmark.enabled else (256, "three_block_cnn", 1)
    quick = {"warmup_epochs": 1} | ({} if mitigation == "dividemix" else {"warmup_steps": 0, "flag_threshold": 0.5})
    ratios = [
        epoch_seconds(mitigation, network, count, **quick) / epoch_seconds("cross_entropy", network, count)
        for _ in range(rounds)
    ]
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print(f"\nan epoch of {mitigation} takes {statistics.median(ratios):.2f} epochs of cross-entropy")


def test_mixture_and_regression(benchmark: Any) -> None:
    """50,000 losses, and as many features of 128 dimensions as correlated as those of a network."""
    from noisybench.evaluation.mixture import two_components
    from noisybench.mitigations._detection import linear_separation

    count = 50_000 if benchmark.enabled else 2_000
    generator = torch.Generator().manual_seed(0)
    outside = torch.rand(count, generator=generator) < 0.4
    hidden = torch.randn(count, 20, generator=generator) + 1.5 * outside[:, None] * torch.randn(20, generator=generator)
    features = (hidden @ torch.randn(20, 128, generator=generator)).relu()
    losses = torch.where(outside, 3.0, 0.4) * torch.rand(count, generator=generator)

    def detect() -> None:
        flags = two_components(losses).high > 0.95
        linear_separation(features, flags)

    benchmark.pedantic(detect, rounds=5 if benchmark.enabled else 1, iterations=1)


NOISE = [
    name
    for name, entry in list_entries("noise_models").items()
    if name not in ("clean", "from_file", "human") and "classification" in entry.load_class().tasks
]


@pytest.mark.parametrize("name", NOISE)
def test_a_million_labels(name: str, benchmark: Any) -> None:
    """One million labels, a hundred classes, 8x8 images; the hash of the inputs is not part of it."""
    size = 1_000_000 if benchmark.enabled else 1_000
    cls = list_entries("noise_models")[name].load_class()
    classes = cls.example_classes if len(cls.example_classes) == 100 else tuple(map(str, range(100)))
    dataset = cls.example_dataset(toy_dataset(classes, size=size, held_out=100))
    parameters = cls.example(dataset, Path())
    if name == "asymmetric":
        parameters["map"] = {str(number): str((number + 7) % 100) for number in range(50)}
    model: NoiseModel = cls(**parameters)
    _ = dataset.hash
    made = benchmark.pedantic(lambda: model.apply(dataset), rounds=1, iterations=1)
    assert len(made.train) == size


# As installed: the second start finds compiled modules.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_start_up(arguments: list[str], benchmark: Any) -> None:
    command = [sys.executable, "-m", "noisybench", *arguments]
    benchmark(lambda: subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT))


def test_a_finished_suite_again(benchmark: Any, store: Any, workspace: Path) -> None:
    """72 recorded runs, all skipped: planning, tables and the page, as `noisybench bench` does it."""
    suite = {
        "base": {"recipe": "digits"},
        "noise": [{"name": "pair_flip", "rate": rate} for rate in (0.2, 0.3, 0.4)[: 3 if benchmark.enabled else 1]],
        "stacks": ["cross_entropy", "gce", "sce", "elr", "mixup", "co_teaching", "bootstrapping", "label_smoothing"],
        "seeds": [0, 1, 2] if benchmark.enabled else [0],
    }
    (workspace / "again.yaml").write_text(json.dumps(suite))
    specs = read_suite("again.yaml")
    comparable_rows = workspace / "diagnostics"
    comparable_rows.mkdir()
    for spec in specs:
        made = dataclasses.replace(
            record(spec.stack, spec.seed), identity=spec.identity, spec=spec.as_dict(), noise=spec.noise.display_name(),
            label_set=spec.noise.display_name().ljust(64), rows=record().rows * 3,
        )  # fmt: skip
        (comparable_rows / "record.json").write_text(json.dumps(made.as_dict()))
        store.start(spec, {}).finish(made, comparable_rows)
    command = [sys.executable, "-m", "noisybench", "bench", "again.yaml"]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT),
        rounds=5 if benchmark.enabled else 1,
    )
    assert f"0 completed, {len(specs)} skipped" in done.stdout

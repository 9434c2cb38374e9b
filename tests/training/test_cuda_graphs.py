"""Calls that a GPU replays as CUDA graphs give the numbers of ordinary calls. These tests need a GPU."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry, list_entries
from noisybench.nn.cuda_graphs import CapturedCalls, has_hooks, parts_of
from noisybench.nn.features import capture_activations
from noisybench.tasks.classification import Classification
from noisybench.training.loop import attach, train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import use_deterministic_kernels
from tests.helpers import TRANSFER, comparable_rows, prepared_toy, train_toy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is available")

STACKS = {
    "cross_entropy": {},
    "elr": {},
    "co_teaching": {"forget_rate": 0.2, "ramp_epochs": 1},
    "mixup": {},
    "dividemix": {"warmup_epochs": 1},
    "lsa": {"warmup_epochs": 1, "warmup_steps": 1},
    "pls": {"warmup_epochs": 1, "warmup_steps": 1},
    "spectral_truncation": {},
}


def training_set(examples: int = 150) -> TrainingSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (examples, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return TrainingSet(images, torch.randint(0, 4, (examples,), generator=generator), 4)


def trained(name: str, *, graphs: bool, epochs: int = 3) -> tuple[Classification, list[float]]:
    """A network trained for some epochs, with the last batch of each epoch smaller than the others."""
    use_deterministic_kernels(torch.device("cuda"))
    entry: Any = get_entry("mitigations", name).load_class()
    budget = Budget(
        network="resnet8_cifar_stem", epochs=epochs, batch_size=32, augmentation="crop_flip", precision="bfloat16",
        channels_last=True, gradient_clipping=5.0,
    )  # fmt: skip
    task = Classification(budget, 0, training_set(), Stack([entry(**STACKS[name])]))
    task.captured.enabled = graphs
    attach(task, Fabric(accelerator="cuda", devices=1))
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    losses = []
    for epoch in range(epochs):
        losses.append(train_epoch(task, optimizer, epoch))
        task.training_outputs(0)
    return task, losses


@needs_gpu
@pytest.mark.parametrize("name", STACKS)
def test_replayed_training_is_bit_identical_to_ordinary_training(name: str) -> None:
    replayed, losses = trained(name, graphs=True)
    ordinary, expected = trained(name, graphs=False)
    assert replayed.captured.num_graphs >= 2
    assert ordinary.captured.num_graphs == 0
    assert losses == expected
    for key, value in ordinary.networks.state_dict().items():
        assert torch.equal(replayed.networks.state_dict()[key], value), key
    assert torch.equal(replayed.training_outputs(0).logits, ordinary.training_outputs(0).logits)


ON_GPU = {"device": "cuda", "cuda_graphs": True}
"""Execution whose runs are compared with ordinary ones."""

CASES = {
    **{
        f"{name} {number}": {"mitigations": {"name": name, **parameters}}
        for name, entry in list_entries("mitigations").items()
        if {"classification", "transfer"} & set(entry.load_class().tasks)
        for number, parameters in enumerate(entry.load_class().test_cases())
    },
    "adam": {"mitigations": "cross_entropy", "budget": {"optimizer": "adam", "learning_rate": 0.01}},
    "adamw of several networks": {
        "mitigations": "co_teaching",
        "budget": {"optimizer": "adamw", "learning_rate": 0.01},
    },
    "bfloat16": {"mitigations": "mixup", "budget": {"precision": "bfloat16", "channels_last": True}},
    "batch normalization": {
        "mitigations": {"name": "dividemix", "warmup_epochs": 1},
        "budget": {"network": "resnet8_cifar_stem", "batch_size": 16},
    },
    "two regularizers": {"mitigations": ["elr", "nmtune"], "task": TRANSFER},
    "scores of frozen features": {
        "mitigations": [{"name": "el2n", "num_networks": 2, "epochs": 1, "allow_empty_classes": True}, "linear_probe"],
        "task": TRANSFER,
    },
    "compiled": {"mitigations": "cross_entropy", "budget": {"compile": True, "epochs": 2}},
}
"""Runs that read other parts of the engine."""


@needs_gpu
@pytest.mark.parametrize("case", CASES)
def test_a_run_with_graphs_has_the_record_of_one_without(case: str, tmp_path: Path) -> None:
    runs = [
        train_toy(prepared_toy(**CASES[case], execution={**ON_GPU, "cuda_graphs": graphs}), tmp_path / str(graphs))
        for graphs in (True, False)
    ]
    replayed, ordinary = runs
    assert comparable_rows(replayed.rows) == comparable_rows(ordinary.rows)
    assert replayed._final is not None
    assert ordinary._final is not None
    for key, value in ordinary._final["weights"].items():
        assert torch.equal(replayed._final["weights"][key], value), key


@needs_gpu
@pytest.mark.parametrize("name", ["cross_entropy", "t_loss", "lsa", "co_teaching"])
def test_a_resumed_run_with_graphs_has_the_record_of_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    stack = {"name": name, **({"warmup_steps": 1, "flag_threshold": 0.6} if name == "lsa" else {})}
    whole = train_toy(prepared_toy(stack, execution=ON_GPU), tmp_path / "whole")
    assert not train_toy(prepared_toy(stack, execution=ON_GPU), tmp_path / "parts", stop_after=1).complete
    parts = train_toy(prepared_toy(stack, execution=ON_GPU), tmp_path / "parts")
    assert comparable_rows(whole.rows) == comparable_rows(parts.rows)


@needs_gpu
def test_two_calls_before_one_backward_pass_keep_activations_of_their_own() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).cuda()
    inputs = torch.randn(2, 5, 4, device="cuda")

    def gradients(captured: CapturedCalls) -> list[Tensor]:
        captured.start_epoch(network)
        for _ in range(4):
            torch.manual_seed(1)
            network.zero_grad(set_to_none=True)
            with captured.step():
                first, second = (captured("logits", network, network, each) for each in inputs)
                (first.square().sum() + second.sum()).backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    captured = CapturedCalls(enabled=True)
    for found, expected in zip(gradients(captured), gradients(CapturedCalls(enabled=False)), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    assert captured.num_graphs == 2


@needs_gpu
def test_a_network_that_draws_on_the_host_runs_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    class Drawing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * random.random()

    network, inputs, captured = Drawing(), torch.ones(3, device="cuda"), CapturedCalls(enabled=True)
    captured.start_epoch(network)
    random.seed(0)
    found = [captured("scores", network, network, inputs)[0].item() for _ in range(4)]
    random.seed(0)
    assert found == pytest.approx([random.random() for _ in range(4)])
    assert "draws random numbers on the host" in caplog.text


@needs_gpu
def test_layers_that_are_frozen_within_an_epoch_receive_no_gradient() -> None:
    network, captured = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).cuda(), CapturedCalls(enabled=True)
    captured.start_epoch(network)
    for step in range(6):
        network[0].requires_grad_(step < 3)
        network.zero_grad()
        with captured.step():
            captured("scores", network, network, torch.ones(5, 3, device="cuda")).sum().backward()
        assert (network[0].weight.grad is not None) == (step < 3)
    assert captured.num_graphs == 2


@needs_gpu
def test_a_network_that_waits_for_the_device_runs_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * float(inputs.sum().item())

    network, captured = Waiting(), CapturedCalls(enabled=True)
    captured.start_epoch(network)
    inputs = torch.ones(3, device="cuda")
    for _ in range(3):
        assert captured("scores", network, network, inputs).tolist() == [3.0, 3.0, 3.0]
    assert captured.num_graphs == 0
    assert "cannot be captured" in caplog.text


def test_gradients_of_several_calls_in_bfloat16_add_in_float32() -> None:
    """Replayed calls add them so, and ordinary calls must give the same numbers."""
    budget = Budget(network="resnet8_cifar_stem", epochs=1, batch_size=8, precision="bfloat16")
    task = Classification(budget, 0, training_set(8), Stack([get_entry("mitigations", "cross_entropy").load_class()()]))
    weight = next(task.networks.parameters())
    batches = torch.randn(2, 8, 3, 32, 32)

    def gradient(*inputs: Tensor) -> Tensor:
        with task.autocast():
            loss = torch.stack([task.logits(images, 0).float().square().sum() for images in inputs]).sum()
        return torch.autograd.grad(loss, weight)[0]

    assert torch.equal(gradient(*batches), gradient(batches[0]) + gradient(batches[1]))


def test_on_a_cpu_every_call_is_an_ordinary_one() -> None:
    network, captured = nn.Linear(2, 1), CapturedCalls(enabled=True)
    captured.start_epoch(network)
    with captured.step():
        for _ in range(3):
            scores = captured("scores", network, network, torch.zeros(3, 2))
    assert scores.requires_grad
    assert captured.num_graphs == 0


def test_a_network_with_hooks_is_not_replayed() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    with capture_activations(network[1], inputs=True):
        assert has_hooks(parts_of(network))
    assert not has_hooks(parts_of(network))
    network[0].weight.register_hook(lambda gradient: gradient)
    assert has_hooks(parts_of(network))

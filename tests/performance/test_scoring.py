"""Scoring networks and spectra: measured, and where two ways compute the same, held equal.

python -m pytest tests/performance/test_scoring.py -n 0 --benchmark-enable --benchmark-only -s
"""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.mitigations._scores import early_scores
from noisybench.networks import build_network
from noisybench.nn.spectrum import predict_by_rank, spectrum_of
from noisybench.training.stack import Stack
from tests.performance.test_speed import paired_ratio, training_data

MEMBERS, STEPS, RATE = 10, 3, 0.05
CASES = {"mlp:256-128": (64, 8), "small_cnn": (64, 8), "conv_dense": (64, 32), "resnet8_cifar_stem": (64, 32)}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def members(network: str, device: str) -> list[nn.Module]:
    made = []
    for number in range(MEMBERS):
        torch.manual_seed(number)
        made.append(build_network(network, 10, 1).train().to(device))
    return made


def batches(batch: int, side: int, steps: int, device: str) -> tuple[Tensor, Tensor]:
    """(steps, K, B, 1, side, side) images and their targets: every member has batches of its own."""
    generator = torch.Generator().manual_seed(1)
    shape = (steps, MEMBERS, batch)
    images = torch.randn(*shape, 1, side, side, generator=generator)
    return images.to(device), torch.randint(10, shape, generator=generator).to(device)


def one_after_the_other(networks: list[nn.Module], images: Tensor, targets: Tensor) -> list[dict[str, Tensor]]:
    for number, network in enumerate(networks):
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9)
        for step in range(len(images)):
            loss = functional.cross_entropy(network(images[step, number]), targets[step, number])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return [network.state_dict() for network in networks]


def stacked(networks: list[nn.Module], images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """All members in one: their weights are stacked, and no member's loss reaches another's weights."""
    weights, buffers = stack_module_state(networks)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(networks[0]).to("meta")
    forward = vmap(lambda w, b, x: functional_call(skeleton, (w, b), (x,)))
    optimizer = torch.optim.SGD(weights.values(), lr=RATE, momentum=0.9)
    for step in range(len(images)):
        logits: Any = forward(weights, buffers, images[step])
        loss = functional.cross_entropy(logits.flatten(0, 1), targets[step].flatten(), reduction="none")
        loss = loss.view(MEMBERS, -1).mean(1).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return weights


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("network", CASES)
def test_stacked_networks_against_one_after_the_other(network: str, device: str, benchmark: Any) -> None:
    """The measurement by which scoring networks are trained one after the other."""
    torch.set_num_threads(1)
    batch, side = CASES[network]
    if not benchmark.enabled:
        images, targets = batches(8, side, 2, device)
        # In double precision, where rounding differs little between the kernels of CPUs.
        single, together = (
            train([each.double() for each in members(network, device)], images.double(), targets)
            for train in (one_after_the_other, stacked)
        )
        for name, each in together.items():
            for number in range(MEMBERS):
                torch.testing.assert_close(each[number].detach(), single[number][name], rtol=1e-7, atol=1e-9)
        benchmark.pedantic(lambda: None, rounds=1)
        return
    images, targets = batches(batch, side, STEPS, device)

    def run(train: Any) -> None:
        train(members(network, device), images, targets)
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(lambda: run(stacked), rounds=1)
    ratio = paired_ratio(lambda: run(stacked), lambda: run(one_after_the_other), rounds=3)
    benchmark.extra_info["stacked over sequential"] = ratio
    print(f"\n{network} on {device}: {MEMBERS} stacked networks take {ratio:.2f} x the time of {MEMBERS} in turn")


def test_scoring_against_an_evaluation_pass(benchmark: Any) -> None:
    """All early scores of a network come with one pass over the data."""
    torch.set_num_threads(1)
    count = 50_000 if benchmark.enabled else 300
    data = training_data((count, 3, 32, 32))
    budget = Budget(network="conv_dense")
    task = get_entry("tasks", "classification").load_class()(budget, 0, data, Stack([]))
    scored = benchmark.pedantic(lambda: early_scores(task), rounds=1)
    assert all(each.shape == (count,) for each in scored.values())
    if benchmark.enabled:
        ratio = paired_ratio(lambda: early_scores(task), lambda: task.predict(data.inputs), rounds=3)
        benchmark.extra_info["scoring over evaluation"] = ratio
        print(f"\nscoring {count} images takes {ratio:.2f} x one evaluation pass")


def test_every_rank_of_a_spectrum(benchmark: Any) -> None:
    """Components, and the predictions of all ranks from 1 to D, for N x D features."""
    torch.set_num_threads(2)
    count, width = (50_000, 512) if benchmark.enabled else (400, 32)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (count,), generator=generator)
    points = (
        torch.randn(count, width, generator=generator).relu() + torch.randn(10, width, generator=generator)[targets]
    )

    def sweep() -> Tensor:
        found = spectrum_of(points, targets, 10)
        return predict_by_rank(found.components(points), found.coefficients(), found.shares, range(1, width + 1))

    swept = benchmark.pedantic(sweep, rounds=3 if benchmark.enabled else 1)
    assert swept.shape == (width, count)
    if benchmark.enabled:
        start = time.perf_counter()
        sweep()
        print(f"\n{count} x {width} features, every rank: {time.perf_counter() - start:.2f} s")
    torch.set_num_threads(1)

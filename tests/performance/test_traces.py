"""Traces: how fast they are made and noised, what training costs beside a bare loop, and what writing in batches saves.

python -m pytest tests/performance/test_traces.py -n 0 --benchmark-enable --benchmark-only -s
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.data.targets import IGNORED
from noisybench.networks import build_network
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.performance.test_speed import paired_ratio

SIZE = 128


def source(count: int, **values: Any) -> Any:
    cls = get_entry("datasets", "traced_integers").load_class()
    return cls(train_problems=count, validation_problems=1, test_problems=SIZE, **values)


@pytest.mark.parametrize("edit", ["digit", "character", "token", "line", None])
@pytest.mark.parametrize("program", ["add", "max", "sort"])
def test_traces_made_and_noised_in_a_second(program: str, edit: str | None, benchmark: Any) -> None:
    count = 9000 if benchmark.enabled else 50
    noise = get_entry("noise_models", "cot_static" if edit else "cot_dynamic").load_class()
    spent: list[float] = []

    def make() -> None:
        start = time.process_time()
        dataset = source(count, program=program).load()
        made = noise(**({"edit": edit} if edit else {}))
        made.corrupt_labels(dataset, dataset.train, made.stream(dataset, dataset.train))
        spent.append(time.process_time() - start)

    benchmark.pedantic(make, rounds=5 if benchmark.enabled else 1)
    if benchmark.enabled:
        print(f"\n{program} {edit or 'dynamic'}: {count / min(spent):.0f} traces per second of CPU time")


def task_of(count: int) -> tuple[Any, Any]:
    dataset = source(count).load()
    data = TrainingSet(
        torch.from_numpy(dataset.train.inputs),
        torch.from_numpy(dataset.train.targets),
        dataset.num_classes,
        traces=dataset.trace_format,
    )
    budget = Budget(network="decoder:64x2", batch_size=64, optimizer="adamw", learning_rate=0.003, epochs=30)
    return ChainOfThought(budget, 0, data, Stack([])), dataset


def test_training_against_a_bare_loop(benchmark: Any) -> None:
    torch.set_num_threads(1)
    task, dataset = task_of(1920 if benchmark.enabled else 128)
    optimizer = task.configure_optimizers()
    epochs = iter(range(10_000))
    bare: Any = build_network("decoder:64x2", dataset.num_classes, 1)
    bare_optimizer = torch.optim.AdamW(bare.parameters(), lr=0.003)
    prompts = torch.from_numpy(dataset.train.inputs[:, 0, 0]).long()
    used = int((dataset.train.targets != IGNORED).any(0).sum())
    responses = torch.from_numpy(dataset.train.targets[:, :used]).long()
    tokens = torch.cat([prompts, responses.masked_fill(responses == IGNORED, 0)[:, :-1]], 1)

    def ours() -> None:
        train_epoch(task, optimizer, next(epochs) % 30)

    def plain() -> None:
        for rows in torch.randperm(len(tokens)).split(64):
            scores = bare(tokens[rows])[:, prompts.shape[1] - 1 :]
            loss = functional.cross_entropy(scores.flatten(0, 1), responses[rows].flatten(), ignore_index=IGNORED)
            bare_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            bare_optimizer.step()

    rounds = 9 if benchmark.enabled else 1
    ratio = paired_ratio(ours, plain, rounds)
    benchmark.pedantic(ours, rounds=1)
    if benchmark.enabled:
        shown = int((responses != IGNORED).sum())
        print(f"\ntraining against a bare loop: {ratio:.3f} x; {shown} tokens of responses an epoch")


def test_writing_in_batches_against_one_by_one(benchmark: Any) -> None:
    torch.set_num_threads(1)
    task, dataset = task_of(64)
    inputs = dataset.test.inputs

    def together() -> None:
        task.write(inputs, 23)

    def one_by_one() -> None:
        for row in range(len(inputs)):
            task.write(inputs[row : row + 1], 23)

    ratio = paired_ratio(one_by_one, together, 5 if benchmark.enabled else 1)
    benchmark.pedantic(together, rounds=1)
    if benchmark.enabled:
        print(f"\n{len(inputs)} responses one by one against all together: {ratio:.1f} x")

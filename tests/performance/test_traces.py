"""Traces: how fast they are made and noised, what training costs beside a bare loop, and what writing in batches saves.

python -m pytest tests/performance/test_traces.py -n 0 --benchmark-enable --benchmark-only -s

`NOISYBENCH_DATA=folder` with gsm8k/train.jsonl adds batches of solutions of different lengths.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.data.targets import IGNORED
from noisybench.networks import build_network
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.performance.test_speed import paired_ratio

SIZE = 128
GSM8K = Path(os.environ.get("NOISYBENCH_DATA", "nowhere")).absolute() / "gsm8k"


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


class PaddedToTheLongest(ChainOfThought):
    """Chain-of-thought whose batches all have the width of the longest training trace."""

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        longest = int(self._num_characters().max()) - 1
        for batch in super().batches(steps):
            tokens = batch.inputs
            missing = (0, longest - tokens.tokens.shape[1])
            # Tokens that do not count have the first position.
            wide = {name: functional.pad(getattr(tokens, name), missing) for name in ("tokens", "positions")}
            yield replace(batch, views={"weak": replace(tokens, **wide)})


@pytest.mark.skipif(not (GSM8K / "train.jsonl").is_file(), reason="needs NOISYBENCH_DATA with GSM8K")
def test_batches_of_similar_length_against_padding_to_the_longest(benchmark: Any) -> None:
    torch.set_num_threads(1)
    dataset = get_entry("datasets", "gsm8k").load_class()(root=GSM8K).load()

    def task_of(kind: Any, count: int, batching: str | None) -> Any:
        inputs, targets = (torch.from_numpy(array[:count]) for array in (dataset.train.inputs, dataset.train.targets))
        data = TrainingSet(inputs, targets, dataset.num_classes, traces=dataset.trace_format)
        network = f"decoder:64x2x{inputs.shape[3] + targets.shape[1]}"
        budget = Budget(network=network, batch_size=16, optimizer="adamw", learning_rate=0.003, batching=batching)
        return kind(budget, 0, data, Stack([]))

    def widths(task: Any) -> int:
        return sum(batch.inputs.tokens.numel() for batch in task.batches(task.sampler.plan(0)))

    real = int((task_of(ChainOfThought, len(dataset.train), None)._num_characters() - 1).sum())
    kinds = {
        "longest": (PaddedToTheLongest, None),
        "random": (ChainOfThought, None),
        "bucketed": (ChainOfThought, "bucketed"),
    }
    read = {name: widths(task_of(kind, len(dataset.train), mode)) / real for name, (kind, mode) in kinds.items()}
    assert read["longest"] > 1.8 * read["bucketed"]
    tasks = {name: task_of(kind, 512, mode) for name, (kind, mode) in kinds.items() if benchmark.enabled}

    def trained(name: str) -> Any:
        return lambda: train_epoch(tasks[name], tasks[name].configure_optimizers(), 0)

    if benchmark.enabled:
        print(f"\ntokens read for each one that counts: { {name: round(value, 2) for name, value in read.items()} }")
        for name in ("longest", "random"):
            print(f"{name} against bucketed: {paired_ratio(trained(name), trained('bucketed'), 1):.2f} x")
    benchmark.pedantic(lambda: None, rounds=1)

"""Batches of texts of different lengths: similar lengths together, several in a row, and parts one after the other."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from noisybench.data.targets import IGNORED
from noisybench.errors import TrainingError, UserError
from noisybench.runs.preparation import prepare_run
from noisybench.tasks._token_batches import TokenBatch
from noisybench.tasks._trace_task import num_characters
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.batch import BatchPlan
from noisybench.training.stack import Stack
from tests.data.traces.helpers import build_noise, load_traces, training_set
from tests.helpers import comparable_rows, prepared_toy, start_first_epoch, toy_spec, train_toy
from tests.tasks.test_language_models import save_model
from tests.tasks.test_step_verification import recipe


def ragged(count: int = 40) -> tuple[Any, Any]:
    """Return sums and their traces, which lack lines at random."""
    dataset = load_traces(width=3, train_problems=count, validation_problems=2, test_problems=6)
    return dataset, build_noise("cot_static", edit="line", intensity=0.6).apply(dataset)


def task_of(data: tuple[Any, Any], network: str = "decoder:16x2", **budget: Any) -> Any:
    """Return a task at the start of its training; some prompts lack their first characters."""
    spec, examples = (
        toy_spec(task="chain_of_thought", budget={"network": network, "batch_size": 8, **budget}),
        training_set(*data),
    )
    examples.inputs[1::3, ..., :2] = IGNORED  # type: ignore[index]
    task = ChainOfThought(spec.budget, 0, examples, Stack([]))
    start_first_epoch(task)
    return task


def loss_and_gradients(task: Any, rows: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    (batch,) = task.batches([BatchPlan(rows)])
    loss = task.training_step(batch, 0)
    task.networks.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach(), [each.grad for each in task.networks.parameters() if each.grad is not None]


def padded(task: Any) -> int:
    """Return the number of tokens of an epoch that do not count."""
    inputs = [batch.inputs for batch in task.batches(task.sampler.plan(0))]
    return sum(each.tokens.numel() - int(each.lengths.sum()) for each in inputs)


@pytest.mark.fast
def test_batches_of_similar_lengths_have_less_padding_and_the_same_examples() -> None:
    dataset = ragged(90)
    task, plain = task_of(dataset, batching="bucketed"), task_of(dataset)
    assert 2 * padded(task) < padded(plain)
    plans = [task.sampler.plan(epoch) for epoch in (0, 0, 1)]
    orders = [[step.index.tolist() for step in plan] for plan in plans]
    assert orders[0] == orders[1] != orders[2], "an epoch has the same batches whenever it is planned"
    assert sorted(itertools.chain(*orders[0])) == list(range(90))
    lengths = task.sampler.lengths
    assert torch.equal(
        lengths, num_characters(task.training_set.inputs[:, 0, 0]) + num_characters(task.training_set.targets)
    )
    assert [len(rows) for rows in orders[0]] == [8] * 11 + [2]
    firsts = [int(lengths[rows[0]]) for rows in orders[0]]
    assert firsts != sorted(firsts), "the order of the batches is random"


def test_a_resumed_run_has_the_same_batches(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"task": "chain_of_thought", "budget": {"batching": "bucketed", "epochs": 3}}
    data = ragged(24)
    whole = train_toy(prepared_toy("cross_entropy", *data, **fields), tmp_path / "whole")
    train_toy(prepared_toy("cross_entropy", *data, **fields), tmp_path / "parts", stop_after=1)
    parts = train_toy(prepared_toy("cross_entropy", *data, **fields), tmp_path / "parts")
    assert comparable_rows(parts.rows) == comparable_rows(whole.rows)


def test_packed_traces_have_the_loss_and_the_gradients_of_their_own_rows(tmp_path: Path) -> None:
    dataset, rows = ragged(), torch.arange(12)
    for network in ("decoder:16x2", f"huggingface:{save_model(tmp_path)}"):
        alone, packed = task_of(dataset, network), task_of(dataset, network, batching="packed")
        (batch,) = packed.batches([BatchPlan(rows)])
        assert len(batch.inputs.rows().tokens) < 12, "several traces share a row"
        expected, found = loss_and_gradients(alone, rows), loss_and_gradients(packed, rows)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
        for one, other in zip(found[1], expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_parts_of_a_batch_have_the_gradients_of_the_batch(tmp_path: Path) -> None:
    dataset, rows = ragged(), torch.arange(11)
    whole, *others = (
        task_of(dataset),
        task_of(dataset, gradient_accumulation=3),
        task_of(dataset, gradient_accumulation=99),
    )
    others.append(task_of(dataset, gradient_accumulation=2, batching="packed"))
    expected = loss_and_gradients(whole, rows)
    for task in others:
        found = loss_and_gradients(task, rows)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
        for one, other in zip(found[1], expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    run = prepared_toy(
        "elr", budget={"network": "mlp:4", "epochs": 2, "gradient_accumulation": 4, "gradient_clipping": 0.1}
    )
    once = prepared_toy("elr", budget={"network": "mlp:4", "epochs": 2, "gradient_clipping": 0.1})
    in_parts, at_once = (train_toy(each, tmp_path / str(number)).rows for number, each in enumerate((run, once)))
    for one_row, other_row in zip(in_parts, at_once, strict=True):
        assert one_row.train_loss == pytest.approx(other_row.train_loss, rel=1e-4)
        assert one_row.test_loss == pytest.approx(other_row.test_loss, rel=1e-4)


class Unmasked(torch.nn.Module):
    """Read all tokens of a row, whatever the mask says."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor, mask: Any = None, **others: Any) -> torch.Tensor:
        scores: torch.Tensor = self.network(tokens, **others)
        return scores


def test_a_network_that_mixes_the_traces_of_a_row_is_refused() -> None:
    task = task_of(ragged(), batching="packed")
    task._check_packing()
    task.forwards = [Unmasked(task.networks[0])]
    with pytest.raises(TrainingError, match=r"ignores the mask between traces; set budget\.batching=bucketed"):
        task._check_packing()


@pytest.mark.fast
def test_an_empty_prompt_has_a_row_of_its_own() -> None:
    batch = TokenBatch(torch.ones(2, 3).long(), torch.arange(3)[None], torch.tensor([[1], [0]]), torch.tensor([2, 1]))
    assert len(replace(batch, is_packed=True).rows().tokens) == 2
    assert replace(batch, is_packed=True, has_padding=True).rows().mask is None


def test_verifiers_train_on_batches_of_similar_length(tmp_path: Path) -> None:
    fields = recipe(task={"pretraining_epochs": 1}, mitigations="cross_entropy", budget={"batching": "bucketed"})
    run = prepare_run(toy_spec(**fields))
    recorder = train_toy(run, tmp_path)
    assert recorder.rows[-1].test_score > 0.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": {"batching": "packed"}}, "the task classification has no packed batches of texts; set it to null"),
        (recipe(budget={"batching": "packed"}), "has no packed batches of texts; set it to bucketed or null"),
        (
            recipe(task={"pretraining_epochs": 0}, budget={"batching": "bucketed"}),
            "budget.batching: features of a frozen model all have the same size; set it to null",
        ),
        (
            {"mitigations": "co_teaching", "budget": {"gradient_accumulation": 2}},
            "budget.gradient_accumulation: co_teaching needs complete batches; set it to null",
        ),
        (
            {"budget": {"network": "preact_resnet18", "gradient_accumulation": 2}},
            "batch normalization would see a part of a batch at a time; choose a network without it, or set it to null",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_batched_so_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(**{"mitigations": "cross_entropy", **fields}) if "task" not in fields else prepare_run(
            toy_spec(**fields)
        )

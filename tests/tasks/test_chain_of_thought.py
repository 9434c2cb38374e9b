"""Language modeling of traces: networks, tokenizers, decoding, loss and records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from noisybench.config.resolve import resolve
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.runs.preparation import prepare_run
from noisybench.tasks._token_batches import IGNORE_INDEX, TokenBatch
from noisybench.tasks._tokenizers import CharacterTokenizer
from noisybench.training.batch import BatchPlan
from tests.data.traces.helpers import (
    build_noise,
    load_traces,
    program_format,
    toy_task,
    trace_format_of,
    training_set,
)
from tests.helpers import prepared_toy, toy_traces, train_toy


def test_caching_does_not_change_scores() -> None:
    torch.manual_seed(0)
    network: Any = build_network("decoder:16x2", 12, 1).eval()
    given = torch.randint(0, 12, (3, 9))
    for padded in (False, True):
        if padded:
            given[0, :3] = network.padding_token
        full, cache = network(given, has_padding=padded), network.new_cache()
        parts = [
            network(given[:, :4], has_padding=padded, cache=cache),
            *(network(given[:, place : place + 1], has_padding=padded, cache=cache) for place in range(4, 9)),
        ]
        torch.testing.assert_close(torch.cat(parts, 1)[:, 3:], full[:, 3:], rtol=1e-4, atol=1e-5)


def test_left_padding_does_not_change_scores() -> None:
    torch.manual_seed(0)
    network: Any = build_network("decoder:16x2", 12, 1).eval()
    given = torch.randint(0, 12, (2, 6))
    padding = torch.full((2, 4), network.padding_token)
    plain = network(given, first_position=4)
    torch.testing.assert_close(
        network(torch.cat([padding, given], 1), has_padding=True)[:, 4:], plain, rtol=1e-4, atol=1e-5
    )


def test_greedy_decoding_takes_the_most_likely_characters() -> None:
    dataset = toy_traces()
    task = toy_task(dataset)
    network = task.networks[0].eval()
    given = torch.from_numpy(dataset.test.inputs[:, 0, 0]).long()
    tokens = task._generate(torch.from_numpy(dataset.test.inputs)[:, 0, 0], 12, 0.0, (0, 0))
    for row in range(len(given)):
        so_far = given[row]
        for token in tokens[row].tolist():
            if token == IGNORE_INDEX:
                break
            assert int(network(so_far[None])[0, -1].argmax()) == token
            so_far = torch.cat([so_far, torch.tensor([token])])
    drawn = [task.write(dataset.test.inputs, 12, 1.0, draw) for draw in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_trace_page_marks_errors(tmp_path: Path) -> None:
    dataset = load_traces(train_problems=40, ood_lengths=[3])
    noisy = build_noise("cot_dynamic", intensity=0.3).apply(dataset)
    run = prepared_toy("self_consistency", dataset, noisy, task="chain_of_thought", budget={"epochs": 2})
    recorder = train_toy(run, tmp_path)
    recorder.write(recorder.record({}), tmp_path)
    page = (tmp_path / "traces.html").read_text()
    assert page.count('<mark class="corrupted">') > 50
    assert '<mark class="propagated">' in page
    row = recorder.rows[-1]
    assert row.metric == "exact_match"
    assert {
        "loss_correct",
        "loss_corrupted",
        "step_accuracy",
        "valid_traces",
        "shift_accuracy.width_3",
        "exact_match_sampled",
    } <= set(row.diagnostics)
    assert row.detectors["trace_execution"]["noise_auroc"] is None, "every trace is noised"
    assert 0 <= (row.detectors["step_loss"]["noise_auroc"] or -1) <= 1


def test_loss_covers_only_the_response_and_its_end() -> None:
    dataset = toy_traces()
    data, task = training_set(dataset), toy_task(dataset)
    (batch,) = task.batches([BatchPlan(torch.arange(6))])
    assert batch.has_label is not None
    assert int(batch.has_label.sum()) == sum(map(len, trace_format_of(dataset).decode(data.targets[:6].numpy())))
    assert torch.equal(batch.observed[batch.has_label], data.targets.view(-1)[batch.index][batch.has_label].long())
    reading: TokenBatch = batch.inputs
    scores = task.networks[0](reading.tokens)[:, int(reading.label_columns[0, 0]) :]
    responses = data.targets[:6, : scores.shape[1]].long()
    expected = torch.nn.functional.cross_entropy(scores.transpose(1, 2), responses, ignore_index=IGNORED)
    torch.testing.assert_close(task.sampler.mean_loss(task.default_loss(batch), batch), expected)


def test_character_tokenizer_round_trip() -> None:
    trace_format = program_format("add")
    reader = CharacterTokenizer(trace_format)
    coded = torch.from_numpy(trace_format.encode(["7+5:", "12+34:"], 9, left=True))
    reading = reader.prompt_batch(coded)
    assert (reading.tokens.shape[1], reading.first_position, reading.has_padding) == (6, 3, True)
    labels, places = reader.encode_responses(torch.from_numpy(trace_format.encode(["#1$", "1;2#3$"], 8)))
    assert labels[0, 3:].eq(IGNORE_INDEX).all()
    assert places[1].tolist() == list(range(8))
    assert reader.decode(labels) == ["#1$", "1;2#3$"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digits"}, "supports the tasks classification"),
        ({"budget": {"network": "small_cnn"}}, "does not generate tokens"),
        ({"budget": {"network": "decoder:10x2"}}, "a multiple of 4"),
        (
            {"budget": {"network": "huggingface:no/such-model"}},
            "no causal language model `no/such-model` on this machine",
        ),
        ({"budget": {"network": "decoder:16x1", "augmentation": "crop"}}, "traces cannot be augmented"),
        (
            {"dataset": {"name": "traced_integers", "program": "max", "width": 12, "count": 40}},
            r"needs a context of \d+ tokens, but .* has 512; choose a network such as decoder:64x2x",
        ),
        ({"noise": {"name": "cot_static", "intensity": 1.5}}, r"noise\.intensity"),
        ({"noise": {"name": "cot_dynamic", "contamination": -0.1}}, r"noise\.contamination"),
        (
            {"mitigations": {"name": "trimmed_loss", "unit": "label", "among": "epoch"}},
            "only whole examples can be compared over an epoch",
        ),
    ],
)
def test_invalid_runs_are_refused(fields: dict[str, Any], message: str) -> None:
    full = {"task": "chain_of_thought", "dataset": "traced_integers", "budget": {"network": "decoder:16x1"}, **fields}
    with pytest.raises(UserError, match=message):
        prepare_run(resolve(full))

"""Traces: programs, noise of both kinds, scoring, and the task that writes them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noisybench.tasks.chain_of_thought import ChainOfThought
from scipy import stats

from noisybench.dataset import IGNORED, Dataset
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.registry import find
from noisybench.runner import prepare
from noisybench.spec import resolve
from noisybench.traces import NUMBER, PROGRAMS, Machine, decode, encode, program_of, read_prompt, score
from tests.helpers import prepared_toy, toy_labels, toy_spec, toy_traces, train_toy


def traces(**values: Any) -> Dataset:
    made: Dataset = (
        find("datasets", "traced_integers")
        .load()(**{"train_problems": 400, "validation_problems": 20, "test_problems": 40, **values})
        .load()
    )
    return made


def noise(name: str, **values: Any) -> Any:
    return find("noise_models", name).load()(**values)


def tokens(program: str, operands: list[int], width: int) -> list[int]:
    return [NUMBER[each] for each in program_of(program, width, len(operands)).prompt(operands)]


# Programs


def test_additions_are_right_and_replay() -> None:
    program = program_of("add", 2, 2)
    for first, second in itertools.product(range(100), repeat=2):
        text = program.trace([first, second])
        assert int(text.partition("#")[2].removesuffix("$")) == first + second
        assert all(program.replay([first, second], text))
    assert program.trace([47, 5]) == "7+5+0=12;4+0+1=05#052$"


@given(st.lists(st.integers(0, 99), min_size=2, max_size=9), st.sampled_from(["max", "sum", "mod"]))
@settings(max_examples=150, deadline=None)
def test_lists_have_the_answer_of_python(operands: list[int], name: str) -> None:
    wanted = {"max": max(operands), "sum": sum(operands), "mod": sum(operands) % 10}[name]
    if name == "mod" and operands[0] > 9:
        operands = [each % 10 for each in operands]
        wanted = sum(operands) % 10
    program = program_of(name, 2, len(operands))
    text = program.trace(operands)
    assert int(text.partition("#")[2].removesuffix("$")) == wanted
    assert all(program.replay(operands, text))
    assert len(program.replay(operands, text)) == len(operands) + 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_prompt_says_what_is_to_be_run(name: str) -> None:
    operands = [7, 12] if name == "add" else [7, 12, 99]
    program, found = read_prompt(tokens(name, operands, 2))
    assert (type(program), found) == (PROGRAMS[name], operands)


@pytest.mark.parametrize(
    ("response", "right", "readable", "steps"),
    [
        ("7+5+0=12;4+0+1=05#052$", True, True, (3, 3)),
        ("7+5+0=12;4+0+1=05#52$", True, True, (3, 3)),
        ("7+5+0=13;4+0+1=05#052$", True, True, (3, 1)),
        ("7+5+0=12;4+0+1=05#053$", False, True, (3, 2)),
        ("4+0+1=05#052$", True, True, (2, 0)),
        ("7+5+0=12;4+0+1=05#$", False, False, (3, 2)),
        ("7+5+0=12;4+0+1=05", False, False, (1, 0)),
        ("", False, False, (1, 0)),
        (";;##==$", False, False, (4, 0)),
        ("#+$", False, False, (1, 0)),
    ],
)
def test_scores_by_hand(response: str, right: bool, readable: bool, steps: tuple[int, int]) -> None:
    found = score(tokens("add", [47, 5], 2), response)
    assert (found.right, found.readable) == (right, readable)
    if response and "#" in response and response.endswith("$") and response[0].isdigit():
        assert (found.steps, found.right_steps) == steps


@given(st.text(alphabet="0123456789+=;#$,", max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_response_breaks_the_score(response: str) -> None:
    for name, operands in (("add", [47, 5]), ("max", [3, 9, 4])):
        found = score(tokens(name, operands, 2), response)
        assert 0 <= found.right_steps <= found.steps


@given(st.text(alphabet="0123456789+=;#", max_size=30))
@settings(max_examples=50, deadline=None)
def test_tokens_are_text_again(text: str) -> None:
    coded = encode([text + "$"], 40)
    assert decode(coded[0]) == text + "$"
    with pytest.raises(UserError, match="tokens, but 3 fit"):
        encode([text + "1234$"], 3)


# Data


def test_splits_have_no_prompt_in_common() -> None:
    for values in ({}, {"program": "max", "width": 3, "count": 5}):
        dataset = traces(**values)
        prompts = [
            each.tobytes() for split in (dataset.train, dataset.validation, dataset.test) for each in split.inputs
        ]
        assert len(set(prompts)) == len(prompts) == 460
    with pytest.raises(UserError, match="there are 100 different ones"):
        traces(width=1)


# Noise


@pytest.mark.parametrize("values", [{"intensity": 0.0}, {"contamination": 0.0}])
@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_no_noise_changes_no_byte(name: str, values: dict[str, float]) -> None:
    dataset = traces()
    made = noise(name, **values).corrupt(dataset)
    np.testing.assert_array_equal(made.train, dataset.train.targets)


def test_static_digits_change_digits_alone_at_their_rate() -> None:
    dataset = traces(train_problems=2000)
    clean = dataset.train.targets
    digits = clean < 10
    for exclude, rate in ((False, 0.27), (True, 0.3)):
        found = noise("cot_static", intensity=0.3, exclude_self=exclude).corrupt(dataset).train
        np.testing.assert_array_equal(found[~digits], clean[~digits])
        share = (found != clean)[digits].mean()
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / digits.sum())
    every = noise("cot_static", intensity=1.0, exclude_self=True).corrupt(dataset).train
    assert (every != clean)[digits].all()
    new = noise("cot_static", intensity=1.0).corrupt(dataset).train[digits]
    assert stats.chisquare(np.bincount(new, minlength=10)).pvalue > 1e-4
    kept = noise("cot_static", intensity=1.0, answer="kept").corrupt(dataset).train
    for before, after in zip(clean[:50], kept[:50], strict=True):
        assert decode(before).partition("#")[2] == decode(after).partition("#")[2]


def test_static_lines_are_deleted_and_the_answer_stays() -> None:
    dataset = traces(program="max", width=1, train_problems=1500)
    made = noise("cot_static", edit="line", intensity=0.4).corrupt(dataset)
    left, whole = 0, 0
    for before, after in zip(dataset.train.targets, made.train, strict=True):
        old, new = decode(before), decode(after)
        assert old.partition("#")[2] == new.partition("#")[2]
        lines, rest = old.partition("#")[0].split(";"), new.partition("#")[0].split(";")
        rest = [each for each in rest if each]
        position = iter(lines)
        assert all(each in position for each in rest), "a subsequence"
        left, whole = left + len(rest), whole + len(lines)
    assert abs(left / whole - 0.6) < 4 * np.sqrt(0.24 / whole)
    only = noise("cot_static", edit="line", intensity=1.0).corrupt(dataset).train
    assert decode(only[0]) == "#" + decode(dataset.train.targets[0]).partition("#")[2]


def test_dynamic_noise_is_carried_on_and_static_noise_is_not() -> None:
    """Every line of a dynamic trace is computed from what is stored; a static one differs from the clean one here and there."""

    class Checked(Machine):
        """Remembers every integer that was made."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.made: list[tuple[int, int]] = []

        def new(self, value: int) -> int:
            found = super().new(value)
            self.made.append((value, found))
            return found

    rng = np.random.default_rng(0)
    program, differing = program_of("max", 1, 6), 0
    for _ in range(300):
        operands = rng.integers(0, 10, 6).tolist()
        machine = Checked((rng.random(200) < 0.3).tolist(), rng.integers(0, 10, 200).tolist())
        text = program.trace(operands, machine)
        stored = [machine.made[0][1]]
        for place in range(5):
            read, combined = machine.made[1 + 2 * place], machine.made[2 + 2 * place]
            assert read[0] == operands[place + 1], "operands of the prompt stay"
            assert combined[0] == max(stored[-1], read[1]), "exact result of the stored operands"
            stored.append(combined[1])
        assert text.partition("#")[0] == ";".join(map(str, stored))
        assert machine.changed >= sum(exact != kept for exact, kept in machine.made), (
            "a digit may be replaced by itself"
        )
        if not machine.changed:
            assert text == program.trace(operands)
        differing += text != program.trace(operands)
    assert differing > 250


@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_contaminated_documents_are_nested_and_tests_are_never_noised(name: str) -> None:
    dataset = traces(train_problems=1500)
    clean, before = dataset.train.targets, dataset.test.targets.copy()
    changed = [
        (noise(name, contamination=each, intensity=0.9).corrupt(dataset).train != clean).any(1)
        for each in (0.2, 0.5, 1.0)
    ]
    assert not (changed[0] & ~changed[1]).any()
    assert not (changed[1] & ~changed[2]).any()
    assert abs(changed[1].mean() - 0.5) < 4 * 0.5 / np.sqrt(1500)
    np.testing.assert_array_equal(dataset.test.targets, before)
    facts = noise(name, contamination=0.5, intensity=0.9).corrupt(dataset).manifest["noise"]["traces"]
    assert facts["changed"] == changed[1].mean()
    assert facts["wrong_answer"] <= facts["changed"]


def test_a_right_answer_may_follow_a_wrong_run() -> None:
    dataset = traces()
    made = noise("cot_dynamic", intensity=0.5, answer="right").corrupt(dataset)
    assert made.manifest["noise"]["traces"]["wrong_answer"] == 0
    assert made.manifest["noise"]["traces"]["not_replaying"] > 0.8


# Filters


def kept_by(by: str, dataset: Dataset, labels: Any, folder: Path) -> np.ndarray[Any, Any]:
    run = prepared_toy({"name": "trace_filter", "by": by}, dataset, labels, budget={"epochs": 1})
    task_weights: list[Any] = []
    original = type(run.stack.mitigations[0]).select

    def remember(self: Any, task: Any, training_set: Any) -> Any:
        task_weights.append(original(self, task, training_set))
        return task_weights[-1]

    type(run.stack.mitigations[0]).select = remember  # type: ignore[method-assign]
    try:
        train_toy(run, folder)
    finally:
        type(run.stack.mitigations[0]).select = original  # type: ignore[method-assign]
    return np.asarray(task_weights[0]) > 0


def test_filters_keep_what_they_say(tmp_path: Path) -> None:
    dataset = traces(train_problems=200)
    made = noise("cot_dynamic", contamination=0.5, intensity=0.3).corrupt(dataset)
    right = np.array(
        [score(*pair).right for pair in zip(dataset.train.inputs[:, 0, 0], map(decode, made.train), strict=True)]
    )
    changed = (made.train != dataset.train.targets).any(1)
    np.testing.assert_array_equal(kept_by("answer", dataset, made, tmp_path / "a"), right)
    np.testing.assert_array_equal(kept_by("oracle", dataset, made, tmp_path / "o"), ~changed)
    replayed = kept_by("replay", dataset, made, tmp_path / "r")
    assert replayed[~changed].all(), "clean traces replay"
    assert not replayed[changed].any()
    assert kept_by("random", dataset, made, tmp_path / "x").sum() == replayed.sum()


# The task


def test_a_cache_changes_nothing() -> None:
    torch.manual_seed(0)
    network = build_network("decoder:16x2", 12, 1).eval()
    given = torch.randint(0, 12, (3, 9))
    whole, cache = network(given), []
    parts = [network(given[:, :4], cache), *(network(given[:, place : place + 1], cache) for place in range(4, 9))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_written_tokens_are_the_most_likely_ones(tmp_path: Path) -> None:
    dataset = toy_traces()
    run = prepared_toy("cross_entropy", dataset, task="chain_of_thought", budget={"epochs": 2})
    recorder = train_toy(run, tmp_path)
    task: Any = ChainOfThought(run.spec.budget, 0, training_set(dataset), run.stack)
    written = task.generate(dataset.test.inputs, 12)
    given = torch.from_numpy(dataset.test.inputs[:, 0, 0]).long()
    for row in range(len(given)):
        tokens_so_far = given[row]
        for token in written[row].tolist():
            if token == IGNORED:
                break
            assert int(task.networks[0].eval()(tokens_so_far[None])[0, -1].argmax()) == token
            tokens_so_far = torch.cat([tokens_so_far, torch.tensor([token])])
    assert recorder.rows[-1].metric == "exact_match"
    recorder.write(recorder.record({}), tmp_path)
    assert "<mark>" in (tmp_path / "traces.html").read_text()


def training_set(dataset: Dataset) -> Any:
    from noisybench.training_set import TrainingSet

    labels = toy_labels(dataset)
    return TrainingSet(torch.from_numpy(dataset.train.inputs), torch.from_numpy(labels.train), dataset.num_classes)


def test_the_loss_is_on_the_response_and_its_end_alone() -> None:
    dataset = toy_traces()
    data = training_set(dataset)
    spec = toy_spec(task="chain_of_thought")
    from noisybench.stack import Stack
    from noisybench.training_set import Planned

    task = ChainOfThought(spec.budget, 0, data, Stack([]))
    task.on_train_epoch_start()
    (batch,) = task.batches([Planned(torch.arange(6))])
    assert batch.valid is not None
    assert int(batch.valid.sum()) == sum(len(decode(each)) for each in data.targets[:6].numpy())
    assert torch.equal(batch.observed[batch.valid], data.targets.view(-1)[batch.index][batch.valid].long())
    scores = task.networks[0](batch.inputs)[:, task.prompt_length - 1 :]
    responses = data.targets[:6, : scores.shape[1]].long()
    wanted = torch.nn.functional.cross_entropy(scores.transpose(1, 2), responses, ignore_index=IGNORED)
    torch.testing.assert_close(task.mean_loss(task.plain_objective(batch), batch), wanted)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digits"}, "serves the tasks classification"),
        ({"budget": {"network": "small_cnn"}}, "does not take"),
        ({"budget": {"network": "decoder:10x2"}}, r"a multiple of 4\) and layers"),
        ({"budget": {"network": "decoder:16x1", "augmentation": "crop"}}, "traces are not augmented"),
        ({"dataset": {"name": "traced_integers", "program": "max", "width": 12, "count": 40}}, "too long"),
        ({"noise": {"name": "cot_static", "intensity": 1.5}}, r"noise\.intensity"),
        ({"noise": {"name": "cot_dynamic", "contamination": -0.1}}, r"noise\.contamination"),
    ],
)
def test_runs_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    whole = {"task": "chain_of_thought", "dataset": "traced_integers", "budget": {"network": "decoder:16x1"}, **fields}
    with pytest.raises(UserError, match=message):
        prepare(resolve(whole))

"""Chains of thought: programs, formats, noise on traces, and the task that writes them."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data import label_files as label_sets
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat, evaluate_expression
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.data.traces.recorder import NonTerminating, TraceRecorder, TraceReplayer
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.runs.preparation import prepare_run
from noisybench.tasks._tokenizers import IGNORE_INDEX, CharacterTokenizer, TokenBatch
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.batch import BatchPlan
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, toy_labels, toy_spec, toy_traces, train_toy


def traces(**values: Any) -> Dataset:
    made: Dataset = (
        get_entry("datasets", "traced_integers")
        .load_class()(**{"train_problems": 400, "validation_problems": 20, "test_problems": 40, **values})
        .load()
    )
    return made


def noise(name: str, **values: Any) -> Any:
    return get_entry("noise_models", name).load_class()(**values)


def form_of(name: str, width: int = 2, count: int = 5) -> ProgramTraceFormat:
    return ProgramTraceFormat(PROGRAMS[name](width, count))


def form(dataset: Dataset) -> Any:
    assert dataset.trace_format is not None
    return dataset.trace_format


def prompts(dataset: Dataset) -> list[str]:
    found: list[str] = form(dataset).decode(dataset.train.inputs[:][:, 0, 0])
    return found


# Programs

ANSWERS = {
    "add": sum,
    "sub": lambda each: max(each) - min(each),
    "mul": math.prod,
    "gcd": lambda each: math.gcd(*each),
    "max": max,
    "sum": sum,
    "product": math.prod,
    "mod": lambda each: each[0] if len(each) == 1 else sum(each) % 10,
    "sort": sorted,
    "median": lambda each: math.floor(statistics.median(each)),
}


def test_every_program_has_an_answer_to_compare_with() -> None:
    assert set(PROGRAMS) - {"composed"} == set(ANSWERS)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "gcd"])
def test_two_numbers_have_the_answer_of_python(name: str) -> None:
    known = form_of(name)
    for pair in itertools.product(range(0, 100, 3), range(100)):
        operands = known.program.arrange(pair)
        prompt = known.program.prompt(operands)
        response = known.rerun(prompt, "", TraceRecorder())
        judged = known.check(prompt, response)
        assert int(judged.answer or "") == ANSWERS[name](pair)
        assert judged.is_valid
        assert judged.answer_is_correct


@given(
    st.lists(st.integers(0, 99), min_size=2, max_size=9),
    st.sampled_from(["max", "sum", "product", "mod", "sort", "median"]),
)
@settings(max_examples=200, deadline=None)
def test_lists_have_the_answer_of_python(operands: list[int], name: str) -> None:
    known = form_of(name, count=len(operands))
    prompt = known.program.prompt(operands)
    judged = known.check(prompt, known.rerun(prompt, "", TraceRecorder()))
    wanted = ANSWERS[name](operands)
    assert judged.answer == (",".join(map(str, wanted)) if name == "sort" else str(wanted))
    assert judged.is_valid
    assert known.program.parse_prompt(prompt)[1] == operands


def test_composed_functions_by_hand() -> None:
    known = form_of("composed", count=4)
    assert known.rerun("47+05*12-30:", "", TraceRecorder()) == "47;52;24;6#6$"
    assert known.program.prompt([47, 5, 12, 30]) == "47+05*12-30:"


def test_an_addition_as_it_is_written() -> None:
    assert form_of("add").rerun("47+05:", "", TraceRecorder()) == "7+5+0=12;4+0+1=05#052$"
    assert form_of("add").rerun("147+005:", "", TraceRecorder()) == "7+5+0=12;4+0+1=05;1+0+0=01#0152$", (
        "other widths run as well"
    )


@pytest.mark.parametrize(
    ("response", "right", "steps"),
    [
        ("7+5+0=12;4+0+1=05#052$", True, (3, 3)),
        ("7+5+0=12;4+0+1=05#52$", True, (3, 3)),
        ("7+5+0=13;4+0+1=05#052$", True, (3, 1)),
        ("7+5+0=12;4+0+1=05#053$", False, (3, 2)),
        ("7+5+0=12;4+0+1=05# 0 5 2 $", True, (3, 3)),
        ("4+0+1=05#052$", True, (2, 0)),
        ("7+5+0=12;4+0+1=05#$", False, (3, 2)),
        ("7+5+0=12;4+0+1=05", False, (3, 2)),
        ("7+5+0=12;4+0+1=05;1+1+1=03#052$", True, (4, 2)),
        ("", False, (1, 0)),
        (";;##==$", False, (4, 0)),
        ("#+$", False, (1, 0)),
    ],
)
def test_responses_judged_by_hand(response: str, right: bool, steps: tuple[int, int]) -> None:
    found = form_of("add").check("47+05:", response)
    assert (found.answer_is_correct, len(found.steps), found.num_correct_steps) == (right, *steps)
    assert (found.first_error is None) == found.is_valid


@given(st.text(alphabet="0123456789+=;#$,*-%", max_size=40), st.sampled_from(sorted(PROGRAMS)))
@settings(max_examples=300, deadline=None)
def test_no_response_breaks_the_judge(response: str, name: str) -> None:
    known = form_of(name, count=3)
    prompt = known.program.prompt(known.program.arrange([3, 9, 4][: known.program.count]))
    found = known.check(prompt, response)
    assert 0 <= found.num_correct_steps <= len(found.steps)
    assert all(0 <= each.start <= each.stop <= len(response) for each in found.steps)
    known.recompute_answer(prompt, response)


@given(st.lists(st.text(alphabet="0123456789+=;#", max_size=30), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_characters_are_text_again(texts: list[str]) -> None:
    known = form_of("add")
    ended = [text + "$" for text in texts]
    assert known.decode(known.encode(ended, 40)) == ended
    assert known.decode(known.encode(ended, 40, left=True)) == ended
    with pytest.raises(UserError, match="characters, but the limit is 3"):
        known.encode([*ended, "12345"], 3)
    with pytest.raises(UserError, match="trace 1 has the character 'ä', which is not in the vocabulary"):
        known.encode(["1", "ä"], 3)


def test_a_machine_makes_wrong_digits_where_it_is_told_to() -> None:
    machine = TraceRecorder([1, 3, 5], [8, 6, 3], 6)
    assert [machine.integer(each) for each in (47, 0, -5, 12, -9)] == [48, 0, -5, 62, -3]
    assert machine.num_changed == 3
    with pytest.raises(NonTerminating):
        machine.integer(1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_dynamic_noise_is_carried_on(name: str) -> None:
    """The same wrong digits give the same run; without a wrong digit it is the clean one."""
    rng = np.random.default_rng(0)
    known, differing = form_of(name, count=4), 0
    for _ in range(60):
        operands = known.program.arrange(rng.integers(0, 100, known.program.count).tolist())
        prompt = known.program.prompt(operands)
        clean = known.rerun(prompt, "", TraceRecorder())
        places = np.flatnonzero(rng.random(2000) < 0.2).tolist()
        digits = rng.integers(0, 10, len(places)).tolist()
        machine = TraceRecorder(places, digits, 2000)
        text = known.rerun(prompt, "", machine)
        again = known.rerun(prompt, "", TraceRecorder(places, digits, 2000))
        assert text == again, "the same wrong digits give the same trace"
        if not machine.num_changed:
            assert text == clean
        differing += text != clean
    assert differing > 30


def test_dynamic_integers_are_computed_from_stored_ones() -> None:
    class Checked(TraceRecorder):
        """Remembers every integer that was made."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.made: list[tuple[int, int]] = []

        def integer(self, value: int) -> int:
            found = super().integer(value)
            self.made.append((value, found))
            return found

    rng, known = np.random.default_rng(0), form_of("max", 1, 6)
    for _ in range(300):
        operands = rng.integers(0, 10, 6).tolist()
        places = np.flatnonzero(rng.random(200) < 0.3).tolist()
        machine = Checked(places, rng.integers(0, 10, len(places)).tolist(), 200)
        text = known.rerun(known.program.prompt(operands), "", machine)
        stored = [machine.made[0][1]]
        for place in range(5):
            read, combined = machine.made[1 + 2 * place], machine.made[2 + 2 * place]
            assert read[0] == operands[place + 1], "operands of the prompt stay"
            assert combined[0] == max(stored[-1], read[1]), "exact result of the stored operands"
            stored.append(combined[1])
        assert text.partition("#")[0] == ";".join(map(str, stored))


def test_following_goes_on_from_what_is_written() -> None:
    follower = TraceReplayer(["4", "9", "9"])
    assert PROGRAMS["max"](1, 3).run(follower, [4, 7, 2]) == "9"
    assert (follower.line_checks, follower.is_complete) == ([True, False, True], True)


# One's own programs

DOCUMENTED = (Path(__file__).parents[3] / "docs" / "chain-of-thought.md").read_text()

PROGRAMS_OF_ONES_OWN = (
    re.findall(r"```python\n(.*?)```", DOCUMENTED, re.S)[0]
    + """

class Raises(Program):
    def run(self, machine, operands):
        return str(100 // operands[0])

class Loops(Program):
    def run(self, machine, operands):
        while operands[0] >= 0:
            pass

class Wrong(Program):
    def run(self, machine, operands):
        return 5
"""
)


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROGRAMS_OF_ONES_OWN)
    dataset = traces(
        program=f"{tmp_path / 'mine.py'}:Collatz", train_problems=60, validation_problems=10, test_problems=10
    )
    known = form(dataset)
    assert known.rerun("collatz06:", "", TraceRecorder()) == "3;10;5;16;8;4;2;1#8$"
    assert all(
        known.check(*pair).is_valid for pair in zip(prompts(dataset), known.decode(dataset.train.targets), strict=True)
    )
    made = noise("cot_dynamic", intensity=0.3).apply(dataset)
    assert made.manifest["noise"]["traces"]["incorrect_answer"] > 0.3
    for name, message in {
        "Raises": "ZeroDivisionError",
        "Loops": "does not seem to terminate",
        "Wrong": "must return the answer as a string",
        "Nothing": "has no class `Nothing`",
    }.items():
        with pytest.raises(UserError, match=message):
            traces(
                program=f"{tmp_path / 'mine.py'}:{name}",
                count=2,
                train_problems=9900,
                test_problems=60,
                validation_problems=1,
            )
    for name, message in {"sun": "did you mean `sum`", "gone.py:X": "file not found"}.items():
        with pytest.raises(UserError, match=message):
            traces(program=name)


# Data


def test_splits_have_no_prompt_in_common() -> None:
    for values in ({}, {"program": "max", "width": 3, "count": 5}, {"program": "sub"}, {"ood_lengths": [1, 4]}):
        dataset = traces(**values)
        splits = (dataset.train, dataset.validation, dataset.test, *dataset.shifted_tests.values())
        found = [each.tobytes() for split in splits for each in split.inputs]
        assert len(set(found)) == len(found) == 460 + 40 * len(dataset.shifted_tests)
    with pytest.raises(UserError, match="there are only 100 distinct ones"):
        traces(width=1)
    with pytest.raises(UserError, match="there are only 5050 distinct ones"):
        traces(program="sub", train_problems=5050)


def test_longer_problems_are_test_sets_of_their_own() -> None:
    dataset = traces(ood_lengths=[3])
    known = form(dataset)
    longer = dataset.shifted_tests["width_3"]
    assert all(len(each) == len("123+456:") for each in known.decode(longer.inputs[:, 0, 0]))
    assert known.check(
        *(known.decode(each)[0] for each in (longer.inputs[:1, 0, 0], longer.targets[:1]))
    ).answer_is_correct
    with pytest.raises(UserError, match=r"dataset\.ood_lengths: widths"):
        traces(ood_lengths=[2])


def test_own_traces_are_read_as_they_were_written(tmp_path: Path) -> None:
    dataset = traces(train_problems=50)
    made = noise("cot_dynamic", contamination=0.5).apply(dataset)
    label_sets.save(made, dataset, tmp_path / "frozen")
    frozen = label_sets.load(tmp_path / "frozen")
    np.testing.assert_array_equal(frozen.error_spans["train"], made.error_spans["train"])
    same = noise("from_file", path=str(tmp_path / "frozen")).apply(dataset)
    assert same.hash == made.hash
    np.testing.assert_array_equal(same.error_spans["train"], made.error_spans["train"])
    arrays = dict(np.load(tmp_path / "frozen" / "masks.npz"))
    arrays["train_error_spans"][0, 0] ^= 1
    np.savez(tmp_path / "frozen" / "masks.npz", **arrays)
    with pytest.raises(UserError, match="do not match the manifest"):
        label_sets.load(tmp_path / "frozen")
    again = (
        get_entry("datasets", "trace_file")
        .load_class()(path=str(tmp_path / "frozen" / "traces.jsonl"), program="add")
        .load()
    )
    assert (len(again.train), len(again.validation), len(again.test)) == (50, 20, 40)
    known = form(again)
    for part in ("targets", "noisy_targets"):
        wanted = made.train if part == "noisy_targets" else dataset.train.targets
        assert known.decode(getattr(again.train, part)) == form(dataset).decode(wanted)
    native = noise("real_world").apply(again)
    assert known.decode(native.train) == form(dataset).decode(made.train)
    assert (native.label_status(again.train.targets)[(native.train != again.train.targets).any(1)] == 3).all(), (
        "nobody knows where"
    )


@pytest.mark.parametrize(
    ("lines", "program", "message"),
    [
        (['{"prompt": "47+05:", "response": "7+5+0=12;4+0+1=05#052"}', "{"], "add", "line 2 is not JSON"),
        (['{"prompt": "47+05:"}'], "add", "line 1 lacks the text `response`"),
        (['{"prompt": "47+05:", "response": "7+5+0=13;4+0+1=05#052"}'], "add", "trace 1: step 1 of .* does not follow"),
        (['{"prompt": "47-05:", "response": "#1"}'], "add", "'47-05:' is not a prompt of the program"),
        (['{"prompt": "a", "response": "ä#1"}'], "add", "character 'ä'"),
        (['{"prompt": "a", "response": "#### 1", "split": "dev"}'], None, "has the split 'dev'"),
        (
            [
                '{"prompt": "a", "response": "#### 1", "split": "train"}',
                '{"prompt": "a", "response": "#### 1", "split": "test"}',
            ],
            None,
            "occurs in the splits train and test",
        ),
        (
            ['{"prompt": "a", "response": "#### 1", "split": "train"}', '{"prompt": "b", "response": "#### 1"}'],
            None,
            "only some lines have a split",
        ),
        ([], None, "the file has no traces"),
    ],
)
def test_traces_that_do_not_parse_are_named(
    tmp_path: Path, lines: list[str], program: str | None, message: str
) -> None:
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl"), program=program).load()


# Annotated calculations

SOLVED = "He has 48/2 = <<48/2=24>>24 pens in May.\nThat is 48+24 = <<48+24=72>> 72 in all.\n#### 72\x03"


def calculations() -> CalculationTraceFormat:
    return CalculationTraceFormat("".join(sorted(set(SOLVED) | set("0123456789$,.A:-%()x*"))))


def test_calculations_are_executed_again() -> None:
    known = calculations()
    assert known.check("", SOLVED).is_valid
    assert known.check("", SOLVED).answer == "72"
    for wrong, steps in (
        ("48/2=24", [True, True, True]),
        ("48/2=25", [False, True, True]),
        ("48+24=73", [True, False, True]),
    ):
        changed = SOLVED.replace("48/2=24", wrong) if wrong.startswith("48/") else SOLVED.replace("48+24=72", wrong)
        assert [each.is_correct for each in known.check("", changed).steps] == steps
    assert [each.is_correct for each in known.check("", SOLVED.replace("#### 72", "#### 71")).steps] == [
        True,
        True,
        False,
    ]
    assert not known.check("", SOLVED.replace(">> 72", ">> 70")).is_valid, "what is repeated must be the result"
    assert known.answers_match("1000", "1,000")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2*(3+4)", 14), ("10/4", 2.5), ("-3+1", -2), ("50%*8", 4), ("1,000-1", 999), ("3 x 4", 12), ("05+1", 6), ("2**9", None),
     ("1/0", None), ("a+1", None), ("(" * 90 + "1", None), ("9" * 300, None)],
)  # fmt: skip
def test_expressions(expression: str, value: float | None) -> None:
    found = evaluate_expression(expression)
    assert found == value if value is None else float(found or 0) == value


def test_a_wrong_result_is_carried_through_a_word_problem() -> None:
    known = calculations()
    assert known.rerun("", SOLVED, TraceRecorder([], [], 99)) == SOLVED
    found = known.rerun("", SOLVED, TraceRecorder([1], [7], 99))
    assert found == "He has 48/2 = <<48/2=27>>27 pens in May.\nThat is 48+27 = <<48+27=75>> 75 in all.\n#### 75\x03"
    assert [each.is_correct for each in known.check("", found).steps] == [False, True, True]


def test_word_problems_of_models_and_people(tmp_path: Path) -> None:
    cls = get_entry("datasets", "gsm8k").load_class()
    values = cls.example(tmp_path)
    dataset = cls(**values).load()
    made = noise("real_world").apply(dataset)
    told = [json.loads(line) for line in (tmp_path / "example_model_solutions.jsonl").read_text().splitlines()]
    wrong = sum(
        not row[name]["is_correct"] and row[name]["solution"] != row["ground_truth"]
        for row in told
        for name in row
        if name[0] in "17 6"
    )
    assert wrong == int(
        (made.train != dataset.train.targets).any(1).sum()
        + (made.validation != dataset.validation.targets).any(1).sum()
    )
    assert not {*prompts(dataset)} & {*form(dataset).decode(dataset.validation.inputs[:, 0, 0])}, (
        "no question in both parts"
    )
    human = cls(root=str(tmp_path)).load()
    noised = noise("cot_dynamic", intensity=1.0).apply(human)
    assert noised.manifest["noise"]["traces"]["invalid"] > 0.5
    (tmp_path / "test.jsonl").unlink()
    for changed, message in (({}, "file not found"), ({"root": None}, "give the folder")):
        with pytest.raises(UserError, match=message):
            cls(**{**values, **changed}).load()


# Noise


@pytest.mark.parametrize("values", [{"intensity": 0.0}, {"contamination": 0.0}])
@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_no_noise_changes_no_byte(name: str, values: dict[str, float]) -> None:
    dataset = traces()
    made = noise(name, **values).apply(dataset)
    np.testing.assert_array_equal(made.train, dataset.train.targets)
    assert not made.error_spans["train"].any()


def test_static_digits_change_digits_alone_at_their_rate() -> None:
    dataset = traces(train_problems=2000)
    clean = dataset.train.targets
    digits = clean < 10
    for exclude, rate in ((False, 0.27), (True, 0.3)):
        made = noise("cot_static", intensity=0.3, exclude_self=exclude).apply(dataset)
        np.testing.assert_array_equal(made.train[~digits], clean[~digits])
        np.testing.assert_array_equal(made.error_spans["train"] == TOKEN_CORRUPTED, made.train != clean)
        share = (made.train != clean)[digits].mean()
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / digits.sum())
    every = noise("cot_static", intensity=1.0, exclude_self=True).apply(dataset).train
    assert (every != clean)[digits].all()
    new = noise("cot_static", intensity=1.0).apply(dataset).train[digits]
    assert stats.chisquare(np.bincount(new, minlength=10)).pvalue > 1e-4


@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_answers_are_kept_recomputed_or_corrupted(name: str) -> None:
    dataset = traces()
    known, clean = form(dataset), form(dataset).decode(dataset.train.targets)
    wrong = {}
    for answer in ("kept", "recomputed", "corrupted"):
        made = noise(name, intensity=0.4, answer=answer).apply(dataset)
        texts = known.decode(made.train)
        wrong[answer] = made.manifest["noise"]["traces"]["incorrect_answer"]
        for prompt, before, after in zip(prompts(dataset)[:80], clean, texts, strict=False):
            if answer == "kept":
                assert after.partition("#")[2] == before.partition("#")[2]
            if answer == "recomputed" and name == "cot_static":
                assert known.check(prompt, after).steps[-1].is_correct, "it follows from the lines as they are"
    assert wrong["kept"] == 0
    assert 0 < wrong["recomputed"] < 1
    assert wrong["corrupted"] > wrong["recomputed"] * (1 if name == "cot_dynamic" else 0)


@pytest.mark.parametrize("edit", ["line", "duplicate", "both"])
def test_static_lines_are_deleted_or_doubled_and_the_answer_stays(edit: str) -> None:
    dataset = traces(program="max", width=1, train_problems=1500)
    made = noise("cot_static", edit=edit, intensity=0.4, answer="kept").apply(dataset)
    known, left, whole = form(dataset), 0, 0
    pairs = zip(known.decode(dataset.train.targets), known.decode(made.train), made.error_spans["train"], strict=True)
    for old, new, events in pairs:
        assert old.partition("#")[2] == new.partition("#")[2]
        (lines, _), (rest, _) = known.split_response(old), known.split_response(new)
        if edit == "line":
            position = iter(lines)
            assert all(each in position for each in rest), "a subsequence"
        if edit == "duplicate":
            assert [each for each, _ in itertools.groupby(rest)] == [each for each, _ in itertools.groupby(lines)]
        assert (events != TOKEN_CORRECT).any() or len(rest) == len(lines)
        left, whole = left + len(rest), whole + len(lines)
    share = {"line": 0.6, "duplicate": 1.4, "both": 0.6}[edit]
    assert abs(left / whole - share) < 4 * np.sqrt(0.24 / whole)
    only = noise("cot_static", edit="line", intensity=1.0).apply(dataset).train
    assert known.decode(only[:1])[0] == "#" + known.decode(dataset.train.targets[:1])[0].partition("#")[2]


def test_static_characters_and_tokens() -> None:
    dataset = traces(train_problems=800)
    clean, known = dataset.train.targets, form(dataset)
    made = noise("cot_static", edit="character", intensity=0.2, exclude_self=True).apply(dataset)
    shown = (clean != IGNORED) & (clean != known.vocabulary.index("$"))
    assert abs((made.train != clean)[shown].mean() - 0.2) < 4 * np.sqrt(0.16 / shown.sum())
    assert set(np.unique(made.train)) == set(np.unique(clean)), "characters of the data alone"
    made = noise("cot_static", edit="token", intensity=0.3, exclude_self=True).apply(dataset)
    np.testing.assert_array_equal(made.train[clean >= 10], clean[clean >= 10], "all but digits stays")
    first = made.train[:, 0] != clean[:, 0]
    assert abs(first.mean() - 0.3) < 4 * np.sqrt(0.21 / 800)
    sum_width_two = (made.train[:, 6:8] != clean[:, 6:8]).any(1)
    assert abs(sum_width_two.mean() - 0.3) < 4 * np.sqrt(0.21 / 800), "a number of two digits is one token"


def test_dynamic_events_are_what_execution_says() -> None:
    dataset = traces()
    known, made = form(dataset), noise("cot_dynamic", intensity=0.2).apply(dataset)
    carried = 0
    for prompt, before, after, events in zip(
        prompts(dataset),
        known.decode(dataset.train.targets),
        known.decode(made.train),
        made.error_spans["train"],
        strict=True,
    ):
        judged, clean = known.check(prompt, after), known.step_spans(before)
        for step, (start, stop) in zip(judged.steps, clean, strict=True):
            own = set(events[step.start : step.stop].tolist())
            same = after[step.start : step.stop] == before[start:stop]
            assert own == (
                {TOKEN_CORRUPTED} if not step.is_correct else {TOKEN_CORRECT} if same else {TOKEN_PROPAGATED}
            )
            carried += own == {TOKEN_PROPAGATED}
    assert carried > 20


@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_contaminated_documents_are_nested_and_tests_are_never_noised(name: str) -> None:
    dataset = traces(train_problems=1500)
    clean, before = dataset.train.targets, dataset.test.targets.copy()
    changed = [
        (noise(name, contamination=each, intensity=0.9).apply(dataset).train != clean).any(1)
        for each in (0.2, 0.5, 1.0)
    ]
    assert not (changed[0] & ~changed[1]).any()
    assert not (changed[1] & ~changed[2]).any()
    assert abs(changed[1].mean() - 0.5) < 4 * 0.5 / np.sqrt(1500)
    np.testing.assert_array_equal(dataset.test.targets, before)
    comparable_rows = noise(name, contamination=0.5, intensity=0.9).apply(dataset).manifest["noise"]["traces"]
    assert comparable_rows["changed"] == changed[1].mean()
    assert comparable_rows["incorrect_answer"] <= comparable_rows["changed"]


def test_runs_that_do_not_end_are_cut_and_counted(tmp_path: Path) -> None:
    dataset = traces(program="gcd", width=3)
    made = noise("cot_dynamic", intensity=0.9).apply(dataset)
    cut = (made.train == IGNORED).all(1)
    assert made.manifest["noise"]["traces"]["cut"] == cut.mean() > 0
    run = prepared_toy("cross_entropy", dataset, made, task="chain_of_thought", budget={"epochs": 1})
    assert np.isfinite(train_toy(run, tmp_path).rows[-1].train_loss or np.nan), "cut traces have no loss"
    half = noise("cot_dynamic", intensity=0.9, contamination=0.5).apply(dataset)
    assert not (kept_by("random", dataset, half) & (half.train == IGNORED).all(1)).any()


# Filters


def kept_by(by: str, dataset: Dataset, labels: Any) -> np.ndarray[Any, Any]:
    run = prepared_toy({"name": "trace_filter", "by": by}, dataset, labels, budget={"epochs": 1})
    data = training_set(dataset, labels)
    task = ChainOfThought(run.spec.budget, 0, data, run.stack)
    run.stack.mitigations[0].prepare(task, data)
    return np.asarray(run.stack.mitigations[0].sample_weights(task, data)) > 0


def test_filters_keep_what_they_say() -> None:
    dataset = traces(train_problems=200)
    known = form(dataset)
    made = noise("cot_dynamic", contamination=0.5, intensity=0.3).apply(dataset)
    right = [
        bool(known.check(*pair).answer_is_correct)
        for pair in zip(prompts(dataset), known.decode(made.train), strict=True)
    ]
    changed = (made.train != dataset.train.targets).any(1)
    np.testing.assert_array_equal(kept_by("answer", dataset, made), right)
    replayed = kept_by("execution", dataset, made)
    assert replayed[~changed].all(), "clean traces replay"
    assert not replayed[changed].any()
    np.testing.assert_array_equal(kept_by("oracle", dataset, made), ~changed)
    assert kept_by("random", dataset, made).sum() == replayed.sum()


def test_the_answer_of_a_word_problem_is_not_told(tmp_path: Path) -> None:
    cls = get_entry("datasets", "gsm8k").load_class()
    dataset = cls(**cls.example(tmp_path)).load()
    with pytest.raises(UserError, match="by=answer needs a program"):
        kept_by("answer", dataset, noise("real_world").apply(dataset))


# The task


def training_set(dataset: Dataset, labels: Any = None) -> TrainingSet:
    labels = labels or toy_labels(dataset)
    return TrainingSet(
        torch.from_numpy(dataset.train.inputs),
        torch.from_numpy(labels.train),
        dataset.num_classes,
        traces=dataset.trace_format,
    )


def toy_task(dataset: Dataset, labels: Any = None) -> Any:
    task = ChainOfThought(toy_spec(task="chain_of_thought").budget, 0, training_set(dataset, labels), Stack([]))
    task.on_train_epoch_start()
    return task


def test_a_cache_changes_nothing() -> None:
    torch.manual_seed(0)
    network: Any = build_network("decoder:16x2", 12, 1).eval()
    given = torch.randint(0, 12, (3, 9))
    for padded in (False, True):
        if padded:
            given[0, :3] = network.padding_token
        whole, cache = network(given, has_padding=padded), network.new_cache()
        parts = [
            network(given[:, :4], has_padding=padded, cache=cache),
            *(network(given[:, place : place + 1], has_padding=padded, cache=cache) for place in range(4, 9)),
        ]
        torch.testing.assert_close(torch.cat(parts, 1)[:, 3:], whole[:, 3:], rtol=1e-4, atol=1e-5)


def test_padding_before_a_prompt_changes_nothing() -> None:
    torch.manual_seed(0)
    network: Any = build_network("decoder:16x2", 12, 1).eval()
    given = torch.randint(0, 12, (2, 6))
    padding = torch.full((2, 4), network.padding_token)
    plain = network(given, first_position=4)
    torch.testing.assert_close(
        network(torch.cat([padding, given], 1), has_padding=True)[:, 4:], plain, rtol=1e-4, atol=1e-5
    )


def test_written_characters_are_the_most_likely_ones() -> None:
    dataset = toy_traces()
    task = toy_task(dataset)
    network = task.networks[0].eval()
    given = torch.from_numpy(dataset.test.inputs[:, 0, 0]).long()
    tokens = task._generated(torch.from_numpy(dataset.test.inputs), 12, 0.0, (0, 0))
    for row in range(len(given)):
        so_far = given[row]
        for token in tokens[row].tolist():
            if token == IGNORE_INDEX:
                break
            assert int(network(so_far[None])[0, -1].argmax()) == token
            so_far = torch.cat([so_far, torch.tensor([token])])
    drawn = [task.write(dataset.test.inputs, 12, 1.0, draw) for draw in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_page_shows_what_is_wrong(tmp_path: Path) -> None:
    dataset = traces(train_problems=40, ood_lengths=[3])
    made = noise("cot_dynamic", intensity=0.3).apply(dataset)
    run = prepared_toy("self_consistency", dataset, made, task="chain_of_thought", budget={"epochs": 2})
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


def test_the_loss_is_on_the_response_and_its_end_alone() -> None:
    dataset = toy_traces()
    data, task = training_set(dataset), toy_task(dataset)
    (batch,) = task.batches([BatchPlan(torch.arange(6))])
    assert batch.has_label is not None
    assert int(batch.has_label.sum()) == sum(map(len, form(dataset).decode(data.targets[:6].numpy())))
    assert torch.equal(batch.observed[batch.has_label], data.targets.view(-1)[batch.index][batch.has_label].long())
    reading: TokenBatch = batch.inputs
    scores = task.networks[0](reading.tokens)[:, reading.prompt_length - 1 :]
    responses = data.targets[:6, : scores.shape[1]].long()
    wanted = torch.nn.functional.cross_entropy(scores.transpose(1, 2), responses, ignore_index=IGNORED)
    torch.testing.assert_close(task.mean_loss(task.default_loss(batch), batch), wanted)


def test_characters_are_read_as_they_are() -> None:
    known = form_of("add")
    reader = CharacterTokenizer(known)
    coded = torch.from_numpy(known.encode(["7+5:", "12+34:"], 9, left=True))
    reading = reader.batch(coded)
    assert (reading.prompt_length, reading.first_position, reading.has_padding) == (6, 3, True)
    labels, places = reader.encode_responses(torch.from_numpy(known.encode(["#1$", "1;2#3$"], 8)))
    assert labels[0, 3:].eq(IGNORE_INDEX).all()
    assert places[1].tolist() == list(range(8))
    assert reader.decode(labels) == ["#1$", "1;2#3$"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digits"}, "supports the tasks classification"),
        ({"budget": {"network": "small_cnn"}}, "writes no tokens"),
        ({"budget": {"network": "decoder:10x2"}}, "a multiple of 4"),
        (
            {"budget": {"network": "huggingface:no/such-model"}},
            "no causal language model `no/such-model` on this machine",
        ),
        ({"budget": {"network": "decoder:16x1", "augmentation": "crop"}}, "traces are not augmented"),
        (
            {"dataset": {"name": "traced_integers", "program": "max", "width": 12, "count": 40}},
            r"needs a context of \d+ tokens .* has 512; take one such as decoder:64x2x",
        ),
        ({"noise": {"name": "cot_static", "intensity": 1.5}}, r"noise\.intensity"),
        ({"noise": {"name": "cot_dynamic", "contamination": -0.1}}, r"noise\.contamination"),
        ({"mitigations": {"name": "trimmed_loss", "unit": "label", "among": "epoch"}}, "trimmed by examples"),
    ],
)
def test_runs_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    whole = {"task": "chain_of_thought", "dataset": "traced_integers", "budget": {"network": "decoder:16x1"}, **fields}
    with pytest.raises(UserError, match=message):
        prepare_run(resolve(whole))

"""Final answers are read where they stand, compared as what they are, and refused if they cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.traces.answers import AnswerFormat, find_answers
from noisybench.errors import UserError
from tests.data.traces.helpers import build_noise, kept_traces, trace_format_of
from tests.helpers import toy_labels

NUMBERS: list[tuple[str, str, str | None]] = [
    ("hashes", "x\n#### 1,000", "1000"),
    ("hashes", "#### 5", "5"),
    ("hashes", "x\n#### 1e999999999", None),
    ("hashes", "x\n#### 1e9_9_9_9_9", None),
    ("boxed", r"so \boxed{5}.", "5"),
    ("boxed", r"so $\fbox{ -0.50 }$", "-1/2"),
    ("boxed", r"\boxed{1} is not \boxed{\dfrac{3}{4}}", "3/4"),
    ("boxed", r"\boxed{3} then \boxed{4", "3"),
    ("boxed", r"\boxed{x=5}", "5"),
    ("boxed", r"\boxed{\$1{,}250}", "1250"),
    ("boxed", r"\boxed{5x}", None),
    ("answer_is", "The answer is 5.", "5"),
    ("answer_is", "The final answer is: **$1,250.50**.", "2501/2"),
    ("answer_is", "**Answer:** 12 apples, of course.", "12"),
    ("answer_is", "**Final Answer**: 12", "12"),
    ("answer_is", "Therefore, the answer to the question is:\n\n42", "42"),
    ("answer_is", "The answer is 4. No, the answer is 5 + 3 = 8.", "8"),
    ("answer_is", r"the answer is $\boxed{7}$.", "7"),
    ("answer_is", "答案是 72。", "72"),
    ("answer_is", "答案：−3", "-3"),
    ("answer_is", "The answer is 50%", "1/2"),
    ("answer_is", "The answer is 2 hours and 30 minutes", None),
    ("answer_is", "The answer is 5x", None),
    ("answer_is", "The answer is", None),
    ("response", " 42.0 ", "42"),
]

TEXTS: list[tuple[str, str, str | None]] = [
    ("hashes", "x\n#### New  York.", "new york"),
    ("boxed", r"\boxed{\{1,2\}}", r"\{1,2\}"),
    ("boxed", r"\boxed{\text{Paris}}", "paris"),
    ("boxed", r"\boxed{x^{2}}", "x^{2}"),
    ("answer_is", "The answer is (B).", "B"),
    ("answer_is", "The correct answer is b", "B"),
    ("answer_is", "The answer is B) Paris.", "B"),
    ("choice", "(B)", "B"),
    ("choice", "B", "B"),
    ("choice", "B. Paris", "B"),
    ("choice", "Not (A), since x. So (C).", "C"),
    ("choice", "A man walked", None),
    ("response", " Yes. ", "yes"),
    ("response", "  ", None),
]


@pytest.mark.parametrize(("name", "response", "answer"), NUMBERS)
def test_numbers_are_read_where_they_stand(name: str, response: str, answer: str | None) -> None:
    assert AnswerFormat(name, numeric=True).read(response) == answer


@pytest.mark.parametrize(("name", "response", "answer"), TEXTS)
def test_texts_and_choices_are_read_where_they_stand(name: str, response: str, answer: str | None) -> None:
    assert AnswerFormat(name, numeric=False).read(response) == answer


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("{n}+1\n#### {n}", AnswerFormat("hashes", True)),
        ("{n}+1\n#### city {n}", AnswerFormat("hashes", False)),
        ("so \\boxed{{{n}}}", AnswerFormat("boxed", True)),
        ("so \\boxed{{x+{n}}}", AnswerFormat("boxed", False)),
        ("so the answer is {n}.\n#### {n}", AnswerFormat("hashes", True)),
        ("(A) is {n}, so the answer is {n}.", AnswerFormat("answer_is", True)),
        ("it is {n}, so (B)", AnswerFormat("choice", False)),
        ("{n}", AnswerFormat("response", True)),
    ],
)
def test_the_format_is_found_from_the_responses(response: str, expected: AnswerFormat) -> None:
    responses = [response.format(n=n) for n in range(20)]
    locations = [f"line {n}" for n in range(20)]
    assert find_answers(responses, locations)[0] == expected
    assert find_answers([*responses[1:], "I do not know"], locations)[0] == expected, "a few may be unreadable"
    with pytest.raises(
        UserError, match=r"line 0: 9 of 20 reference answers can be read, .*'I do not know'.*answer_format="
    ):
        find_answers(["I do not know"] * 11 + responses[:9], locations)


def test_a_few_thousand_responses_decide_but_all_are_read() -> None:
    responses, locations = [f"#### {n}" for n in range(9000)], [f"line {n}" for n in range(9000)]
    answer_format, answers = find_answers(responses, locations)
    assert answer_format == AnswerFormat("hashes", True)
    assert answers == [str(n) for n in range(9000)]
    # Every fourth response is in the sample, and only those can be read.
    responses = [response if n % 4 == 0 else "nothing" for n, response in enumerate(responses)]
    with pytest.raises(UserError, match="line 1: 2250 of 9000 reference answers can be read"):
        find_answers(responses, locations)


def test_marks_that_disagree_are_refused() -> None:
    responses, locations = ["\\boxed{4}\n#### 5"], ["line 1"]
    with pytest.raises(UserError, match=r"line 1: its answer is '5' after `####` and '4'"):
        find_answers(responses, locations)
    assert find_answers(responses, locations, "boxed") == (AnswerFormat("boxed", True), ["4"])
    assert find_answers(["\\boxed{5}\n#### 5.0"], locations)[0].name == "hashes"


def load(folder: Path, response: Callable[[int], str], count: int = 40, **settings: Any) -> Dataset:
    """Load traces; `fields` gives further fields of each row."""
    fields: Callable[[int], dict[str, Any]] = settings.pop("fields", lambda n: {})
    rows = [{"prompt": f"{n} and 3?", "response": response(n), **fields(n)} for n in range(count)]
    (folder / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source: Any = get_entry("datasets", "trace_file").load_class()
    dataset: Dataset = source(path=str(folder / "traces.jsonl"), **settings).load()
    return dataset


@pytest.mark.parametrize("text", ["So {n}+3 = \\boxed{{{m}}}.", "{n}+3 makes it. The answer is {m}.", "{m}"])
def test_right_traces_of_every_format_pass_the_execution(text: str, tmp_path: Path) -> None:
    dataset = load(tmp_path, lambda n: text.format(n=n, m=n + 3))
    trace_format = trace_format_of(dataset)
    assert kept_traces("execution", dataset, toy_labels(dataset)).all()
    response = text.format(n=4, m=7) + trace_format.end
    assert trace_format.answers_match(trace_format.extract_answer(response), "7")
    assert not trace_format.answers_match(trace_format.extract_answer(response.replace("7", "8")), "7")
    for answer in ("kept", "corrupted", "recomputed"):
        noisy = build_noise("cot_static", intensity=1.0, answer=answer).apply(dataset)
        incorrect = noisy.manifest["noise"]["details"]["traces"]["incorrect_answer"]
        assert (incorrect > 0.5) == (answer == "corrupted")


def test_unreadable_answers_are_refused_or_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: 0 of 40 reference answers can be read"):
        load(tmp_path, lambda n: f"It depends on {n} things")
    whole = load(tmp_path, lambda n: f"It depends on {n} things", answer_format="response")
    assert trace_format_of(whole).extract_answer("It depends  on 3 things\x03") == "it depends on 3 things"
    few = load(tmp_path, lambda n: "Unclear" if n == 7 else f"#### {n}")
    assert [str(note) for note in few.notes] == [
        "Reference answers cannot be read, so that every answer to these problems counts as incorrect (1: line 8)"
    ]
    with pytest.raises(UserError, match="a program computes the answers"):
        load(tmp_path, lambda n: "#1", program="add", answer_field="gold")


def test_responses_that_disagree_about_a_prompt_are_reported(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n // 2}", "response": f"way {n}\n#### {n // 2 + (n == 9)}"} for n in range(40)]
    source = get_entry("datasets", "trace_file").load_class()
    (tmp_path / "traces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    notes = {note.kind: note.names for note in source(path=tmp_path / "traces.jsonl").load().notes}
    assert notes["several_answers"] == ("line 10",)


def test_a_field_with_the_answer_decides(tmp_path: Path) -> None:
    dataset = load(
        tmp_path, lambda n: f"The answer is {n + (n % 4 == 0)}.", fields=lambda n: {"gold": n}, answer_field="gold"
    )
    trace_format = trace_format_of(dataset)
    assert "Responses end in another answer than `gold` (10: line 1, line 5" in str(dataset.notes[-1])
    assert all(fields == {"gold": n} for fields, n in zip(dataset.train.fields, dataset.train.index, strict=True))
    assert trace_format.reference_answer("4 and 3?", "The answer is 5.\x03") == "4"
    np.testing.assert_array_equal(
        kept_traces("answer", dataset, toy_labels(dataset)), [n % 4 > 0 for n in dataset.train.index]
    )
    other = load(
        tmp_path, lambda n: f"The answer is {n + (n % 4 == 0)}.", fields=lambda n: {"gold": n + 1}, answer_field="gold"
    )
    assert other.hash != dataset.hash, "answers decide scores"


@pytest.mark.parametrize(
    ("gold", "reference"),
    [("72", "72"), (72.0, "72"), ("Long.\n#### 72", "72"), (r"so \boxed{72}", "72"), ("$72", "72")],
)
def test_answers_in_a_field_may_have_marks(gold: Any, reference: str, tmp_path: Path) -> None:
    dataset = load(tmp_path, lambda n: "The answer is 72.", fields=lambda n: {"gold": gold}, answer_field="gold")
    assert trace_format_of(dataset).reference_answer("3 and 3?", "") == reference


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (lambda n: {}, "0 of 40 answers in dataset.answer_field=gold can be read"),
        (lambda n: {"gold": [1]}, "line 1: `gold` must be a text or a number, but is [1]"),
    ],
)
def test_answers_in_a_field_that_cannot_be_read_are_refused(
    fields: Callable[[int], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path, lambda n: f"#### {n}", fields=fields, answer_field="gold")


def test_two_answers_to_one_prompt_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response": "#### 1", "gold": gold} for gold in ("1", "1.0", "2")]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl"), answer_field="gold")
    with pytest.raises(UserError, match=r"line 3: `gold` is '2', but '1' in line 1 with the same prompt"):
        source.load()

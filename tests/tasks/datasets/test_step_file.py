"""Files of labeled steps: formats, places, and labels that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.labeled_texts import write_labeled_texts
from noisybench.data.labels.verification import without
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.data.texts import text_inputs, texts_of
from noisybench.data.traces.rows import Row
from noisybench.data.traces.step_formats import read_solutions
from noisybench.data.traces.steps import StepPlaces
from noisybench.errors import UserError
from noisybench.noise_models.from_file import FromFile
from noisybench.tasks.datasets.step_file import StepFile
from noisybench.tasks.datasets.traced_steps import TracedSteps

PROCESS_BENCH = {
    "id": "gsm8k-0", "generator": "a-model", "problem": "Ann has 3 pens\nand buys 4.",
    "steps": ["3+4=8", "So 8.", "Answer 8"], "final_answer_correct": False, "label": 0,
}  # fmt: skip
PRM_BENCH = {
    "idx": "circular_0", "modified_question": "1+1?", "modified_process": ["1. One.", "2. So 3.", "3. Done."],
    "error_steps": [3, 2], "classification": "circular",
}  # fmt: skip


def rated(text: str, rating: int | None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": False}


def prm800k(steps: list[dict[str, Any]], reason: str = "solution") -> dict[str, Any]:
    return {
        "labeler": "a", "question": {"problem": "1+1?", "ground_truth_answer": "2"},
        "label": {"steps": steps, "finish_reason": reason},
    }  # fmt: skip


def chosen(*completions: dict[str, Any], position: int | None = 0, human: Any = None) -> dict[str, Any]:
    return {"completions": list(completions), "chosen_completion": position, "human_completion": human}


def solutions_of(*rows: dict[str, Any]) -> Any:
    return read_solutions([Row(f"f: line {number}", f"line {number}", row) for number, row in enumerate(rows, 1)])


@pytest.mark.fast
def test_process_bench_counts_from_zero_and_keeps_fields() -> None:
    (wrong,) = solutions_of(PROCESS_BENCH)
    assert (list(wrong.classes), wrong.answer_is_correct) == ([0, 0, 0], False)
    assert wrong.fields == {"id": "gsm8k-0", "generator": "a-model"}
    assert wrong.texts[1] == "Ann has 3 pens and buys 4.\n3+4=8\nSo 8.\n"
    (late, right) = solutions_of({**PROCESS_BENCH, "label": 2}, {**PROCESS_BENCH, "label": -1})
    assert (list(late.classes), list(right.classes)) == ([1, 1, 0], [1, 1, 1])


@pytest.mark.fast
def test_prm_bench_takes_the_first_error_and_counts_from_one() -> None:
    wrong, right = solutions_of(PRM_BENCH, {**PRM_BENCH, "error_steps": []})
    assert (list(wrong.classes), list(right.classes)) == ([1, 0, 0], [1, 1, 1])


@pytest.mark.fast
def test_prm800k_follows_the_chosen_completions_to_the_first_error() -> None:
    steps = [
        chosen(rated("bad", -1), rated("good", 0), position=1),
        chosen(rated("no", -1), position=None, human={"text": "by hand"}),
        chosen(rated("wrong", -1), rated("other", 1), position=None),
        chosen(rated("never read", 1)),
    ]
    (solution,) = solutions_of(prm800k(steps, "found_error"))
    assert (solution.steps, list(solution.classes)) == (["good", "by hand", "wrong"], [1, 1, 0])
    assert solution.answer_is_correct is False
    (correct,) = solutions_of(prm800k([chosen(rated("so 2", 1))]))
    assert correct.answer_is_correct is True
    assert solutions_of(prm800k([chosen(rated("unclear", None))])) == []
    (unfinished,) = solutions_of(prm800k([chosen(rated("so", 1)), chosen(rated("unclear", None))]))
    assert (unfinished.steps, unfinished.answer_is_correct) == (["so"], None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PROCESS_BENCH, "label": 3}, "from 0 to 2 for 3 steps, or -1 if all are correct, but is 3"),
        ({**PROCESS_BENCH, "label": None}, "position of the first incorrect step"),
        ({**PROCESS_BENCH, "steps": []}, "`steps` must be a list of one or more texts"),
        ({**PROCESS_BENCH, "steps": ["a", 1, "b"]}, "`steps` must be a list of one or more texts"),
        ({**PRM_BENCH, "error_steps": [True]}, "`error_steps` must be a list of numbers of steps"),
        ({**PRM_BENCH, "error_steps": [4]}, "names step 4, but `modified_process` has the steps 1 to 3"),
        (prm800k([chosen(rated("a", 1), position=5)]), "step 1: `chosen_completion` is 5, but there are 1 completions"),
        (prm800k([chosen(rated("a", 1), position=True)]), "step 1: `chosen_completion` is True"),
        (prm800k([chosen(position=None, human={"rating": 1})]), "`human_completion` must be a text or have a `text`"),
        (prm800k([chosen(rated("a", 7))]), "`rating` of -1, 0, 1 or null"),
        ({"text": "a"}, "fit no format of labeled steps: processbench"),
    ],
)
@pytest.mark.fast
def test_labels_that_do_not_fit_are_refused_with_their_place(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as refused:
        solutions_of(PRM_BENCH, row)
    assert "f: line 2" in str(refused.value)
    assert reason in str(refused.value)


def load(folder: Path, rows: list[dict[str, Any]], **parameters: Any) -> Dataset:
    path = folder / "steps.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return StepFile(path=path, **parameters).load()


@pytest.mark.fast
def test_problems_are_in_one_split_and_places_follow_the_solutions(tmp_path: Path) -> None:
    rows = [{**PROCESS_BENCH, "problem": f"Problem {number // 4}", "label": number % 4 - 1} for number in range(80)]
    dataset = load(tmp_path, rows)
    problems = [
        {text.split("\n")[0] for text in texts_of(split.inputs)}
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sum(map(len, problems)) == len(set.union(*problems)) == 20
    places = StepPlaces.of(dataset.test)
    for solution in places.by_solution():
        assert places.step[solution].tolist() == [1, 2, 3]
        assert (np.diff(dataset.test.targets[solution]) <= 0).all()
    assert dataset.test.fields[0]["id"] == "gsm8k-0"
    with pytest.raises(UserError, match=r"no solution is short enough; increase dataset\.max_characters"):
        load(tmp_path, rows, max_characters=16)


@pytest.mark.fast
def test_outcomes_label_all_steps_and_the_answer_is_known(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Problem {number}", "ground_truth": "x",
            "model_a": {"solution": "1+1 = 2\nA: 2", "is_correct": True},
            "model_b": {"solution": "1+1 = 3\nSo.\nA: 3", "is_correct": False},
        }
        for number in range(40)
    ]  # fmt: skip
    dataset = load(tmp_path, rows)
    train, test = dataset.train, dataset.test
    assert train.noisy_targets is not None
    solution = [row for row in range(len(train)) if train.fields[row]["model"] == "model_b"][:3]
    assert train.targets[solution].tolist() == [UNKNOWN_TARGET, UNKNOWN_TARGET, 0]
    assert train.noisy_targets[solution].tolist() == [0, 0, 0]
    assert len(test) == 20
    assert StepPlaces.of(test).answer_is_correct.tolist() == test.targets.tolist()


@pytest.mark.parametrize("value", ["first", None, 10**30])
@pytest.mark.fast
def test_other_values_in_fields_of_places_are_refused(value: Any) -> None:
    fields = {"problem": value, "solution": 0, "step": 1, "answer_is_correct": None}
    split = Split(text_inputs(["a"]), np.array([1]), np.arange(1), fields=(fields,))
    with pytest.raises(UserError, match="not steps of solutions"):
        StepPlaces.of(split)


def test_traced_steps_are_labeled_by_re_execution() -> None:
    dataset = TracedSteps(train_problems=60, test_problems=20, error_fraction=0.5).load()
    places = StepPlaces.of(dataset.test)
    assert np.bincount(places.problem).tolist() == [4 * 3] * 20
    correct = [rows for rows in places.by_solution() if dataset.test.targets[rows].all()]
    assert 0.4 < len(correct) / 80 < 0.8
    assert all(places.answer_is_correct[rows[0]] == 1 for rows in correct)
    for row in correct:
        prompt, *steps = texts_of(dataset.test.inputs[row[-1:]])[0].splitlines()
        left, right = prompt.rstrip(":").split("+")
        assert int(steps[-1].removeprefix("#")) == int(left) + int(right)


def test_exported_labels_have_the_texts_and_the_fields_of_the_file(tmp_path: Path, noisybench: Any) -> None:
    rows = [
        {"id": f"sum-{number}", "step": "mine", "problem": f"{number}+1?", "steps": ["é", "So."], "label": number % 2}
        for number in range(10)
    ]
    path = tmp_path / "steps.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    folder, written = str(tmp_path / "labels"), tmp_path / "written.jsonl"
    data = ["step_verifier", "dataset=step_file", f"dataset.path={path}", "noise.rate=0.5"]
    assert noisybench("labels", "create", *data, "--output", folder)[0] == 0
    assert noisybench("labels", "export", folder, str(written), *data)[0] == 0
    lines = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 20
    assert {line["split"] for line in lines} == {"train", "validation", "test"}
    for line in lines:
        row = rows[int(line["id"].removeprefix("sum-"))]
        steps = "".join(f"{step}\n" for step in row["steps"][: line["step"]])  # type: ignore[index]
        assert line["text"] == f"{row['problem']}\n{steps}"
        assert line["original_step"] == "mine", "a field of the file never replaces one of noisybench"
        is_correct = line["step"] <= int(row["label"])  # type: ignore[call-overload]
        assert line["clean"] == ("correct" if is_correct else "incorrect")
        assert ("observed" in line) == (line["split"] != "test")
    assert any(line["clean"] != line.get("observed", line["clean"]) for line in lines)
    for arguments, message in (((), "so name its recipe"), ((*data[:1],), "belongs to another dataset")):
        status, text = noisybench("labels", "export", folder, str(tmp_path / "other.jsonl"), *arguments)
        assert status == 2
        assert message in text
    digits = str(tmp_path / "digits")
    assert noisybench("labels", "create", "digits", "--output", digits)[0] == 0
    status, text = noisybench("labels", "export", digits, str(tmp_path / "other.jsonl"), "digits")
    assert status == 2
    assert "the dataset digits has no texts" in text


def test_exported_texts_have_no_label_where_none_is_given_and_verified_labels_as_clean(tmp_path: Path) -> None:
    dataset = load(tmp_path, [{**PROCESS_BENCH, "problem": f"{number}?", "label": 1} for number in range(30)])
    index, names = dataset.train.index.tolist(), [dataset.class_names[target] for target in dataset.train.targets]
    other = dataset.class_names[1 - dataset.train.targets[1]]
    decisions = pandas.DataFrame({"index": index, "split": "train", "decision": "keep", "new_label": ""})
    decisions.loc[0, "decision"] = "exclude"
    decisions.loc[1, ["decision", "new_label"]] = "relabel", other
    decisions.to_csv(tmp_path / "decisions.csv", index=False)
    labels = FromFile(path=str(tmp_path / "decisions.csv")).apply(dataset)
    assert labels.unlabeled["train"].tolist() == [0], "it is not trained on"
    write_labeled_texts(labels, dataset, tmp_path / "written.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "written.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [(line["index"], line["clean"], line["observed"]) for line in lines if line["split"] == "train"]
    expected = [None, other, *names[2:]]
    assert found == list(zip(index, expected, expected, strict=True))


def test_fields_are_left_out_with_their_examples(tmp_path: Path) -> None:
    test = load(tmp_path, [{**PROCESS_BENCH, "problem": f"{number}?", "label": 1} for number in range(30)]).test
    kept = without(test, np.array([0, 2]))
    assert list(kept.fields) == [test.fields[1], *test.fields[3:]]

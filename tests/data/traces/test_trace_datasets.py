"""Datasets of traces: drawn problems, trace files and GSM8K."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from noisybench.cli.label_text import describe_transitions
from noisybench.config.registry import get_entry
from noisybench.data.label_sets import label_files as label_sets
from noisybench.errors import UserError
from tests.data.traces.helpers import (
    build_noise,
    decode_prompts,
    load_traces,
    trace_format_of,
)


def test_splits_have_no_prompt_in_common() -> None:
    for values in ({}, {"program": "max", "width": 3, "count": 5}, {"program": "sub"}, {"ood_lengths": [1, 4]}):
        dataset = load_traces(**values)
        splits = (dataset.train, dataset.validation, dataset.test, *dataset.shifted_tests.values())
        found = [each.tobytes() for split in splits for each in split.inputs]
        assert len(set(found)) == len(found) == 460 + 40 * len(dataset.shifted_tests)
    with pytest.raises(UserError, match="there are only 100 distinct ones"):
        load_traces(width=1)
    with pytest.raises(UserError, match="there are only 5050 distinct ones"):
        load_traces(program="sub", train_problems=5050)


def test_other_widths_are_separate_test_sets() -> None:
    dataset = load_traces(ood_lengths=[3])
    trace_format = trace_format_of(dataset)
    longer = dataset.shifted_tests["width_3"]
    assert all(len(each) == len("123+456:") for each in trace_format.decode(longer.inputs[:, 0, 0]))
    assert trace_format.check(
        *(trace_format.decode(each)[0] for each in (longer.inputs[:1, 0, 0], longer.targets[:1]))
    ).answer_is_correct
    with pytest.raises(UserError, match=r"dataset\.ood_lengths: widths"):
        load_traces(ood_lengths=[2])


def test_saved_traces_load_unchanged(tmp_path: Path) -> None:
    dataset = load_traces(train_problems=50)
    noisy = build_noise("cot_dynamic", contamination=0.5).apply(dataset)
    label_sets.save(noisy, dataset, tmp_path / "frozen")
    frozen = label_sets.load(tmp_path / "frozen")
    np.testing.assert_array_equal(frozen.error_spans["train"], noisy.error_spans["train"])
    same = build_noise("from_file", path=str(tmp_path / "frozen")).apply(dataset)
    assert same.hash == noisy.hash
    np.testing.assert_array_equal(same.error_spans["train"], noisy.error_spans["train"])
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
    trace_format = trace_format_of(again)
    for part in ("targets", "noisy_targets"):
        expected = noisy.train if part == "noisy_targets" else dataset.train.targets
        assert trace_format.decode(getattr(again.train, part)) == trace_format_of(dataset).decode(expected)
    native = build_noise("real_world").apply(again)
    assert trace_format.decode(native.train) == trace_format_of(dataset).decode(noisy.train)
    assert (native.label_status(again.train.targets)[(native.train != again.train.targets).any(1)] == 3).all(), (
        "the positions of the errors are unknown"
    )


@pytest.mark.parametrize(
    ("lines", "program", "message"),
    [
        (['{"prompt": "47+05:", "response": "7+5+0=12;4+0+1=05#052"}', "{"], "add", "line 2 is not JSON"),
        (['{"prompt": "47+05:"}'], "add", "line 1 fits no known schema; it has the fields `prompt`"),
        (['{"prompt": "47+05:", "response": "7+5+0=13;4+0+1=05#052"}'], "add", "line 1: step 1 of .* does not follow"),
        (['{"prompt": "47-05:", "response": "#1"}'], "add", "'47-05:' is not a prompt of the program"),
        (['{"prompt": "a", "response": "ä#1"}'], "add", "character 'ä'"),
        (['{"prompt": "a", "response": "#### 1", "split": "other"}'], None, "has the split 'other'"),
        (
            [
                '{"prompt": "a", "response": "#### 1", "split": "train"}',
                '{"prompt": "a", "response": "#### 1", "split": "test"}',
            ],
            None,
            r"occurs in the splits train \(line 1\) and test",
        ),
        (
            ['{"prompt": "a", "response": "#### 1", "split": "train"}', '{"prompt": "b", "response": "#### 1"}'],
            None,
            "only some rows have a split",
        ),
        ([], None, "has no traces; add some"),
    ],
)
def test_invalid_trace_files_are_refused(tmp_path: Path, lines: list[str], program: str | None, message: str) -> None:
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl"), program=program).load()


def test_fields_of_the_user_come_out_as_they_went_in(tmp_path: Path) -> None:
    fields = {"id": "a-1", "meta": {"source": ["x", None, 0.5]}, "prompt": "unused"}
    rows = [
        {
            "messages": [{"role": "user", "content": f"{n}+1"}, {"role": "assistant", "content": f"#### {n + 1}"}],
            **fields,
            "number": n,
        }
        for n in range(20)
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    dataset = get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl")).load()
    assert [str(note) for note in dataset.notes] == [
        "Fields kept beside the traces, which are not trained on (4: id, meta, number, prompt)"
    ]
    label_sets.save(build_noise("cot_static").apply(dataset), dataset, tmp_path / "labels")
    written = [json.loads(line) for line in (tmp_path / "labels" / "traces.jsonl").read_text().splitlines()]
    assert sorted(row["number"] for row in written) == list(range(20))
    for row in written:
        assert row["prompt"] == f"{row['number']}+1", "the fields of an example stay beside it"
        assert (row["id"], row["meta"], row["original_prompt"]) == (fields["id"], fields["meta"], "unused")


def test_prompts_that_differ_in_spacing_and_composition_are_one(tmp_path: Path) -> None:
    rows = [
        {"prompt": "caf\u00e9 1", "response": "#### 1", "split": "Train"},
        {"prompt": "cafe\u0301\n1 ", "response": "#### 1", "split": "test"},
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl"))
    with pytest.raises(UserError, match=r"line 2: its prompt occurs in the splits train \(line 1\) and test"):
        source.load()
    for row in rows:
        del row["split"]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, {**rows[0], "prompt": "b"}]))
    train, _, _ = source.read()
    assert train.groups is not None
    assert train.groups[0] == train.groups[1] != train.groups[2]


def test_all_solutions_of_a_prompt_are_in_one_drawn_split(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n // 4}?{' ' * (n % 2)}", "response": f"{n}\n#### {n // 4}"} for n in range(120)]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    dataset = get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl")).load()
    splits = [
        {prompt.strip() for prompt in trace_format_of(dataset).decode(split.inputs[:][:, 0, 0])}
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits)) == 30
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 120


def test_files_of_a_folder_are_its_splits(tmp_path: Path) -> None:
    def write(name: str, numbers: range) -> None:
        rows = [{"prompt": f"{n}?", "response": f"#### {n}"} for n in numbers]
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))

    source = get_entry("datasets", "trace_file").load_class()
    with pytest.raises(UserError, match="has no file of traces"):
        source(path=str(tmp_path)).load()
    write("a.jsonl", range(30))
    assert len(source(path=str(tmp_path), test_fraction=0.5).load().test) == 15
    write("Training.jsonl", range(100, 110))
    write("test.jsonl", range(200, 205))
    write("val.json", range(300, 303))
    dataset = source(path=str(tmp_path)).load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (10, 3, 5)
    assert [str(note) for note in dataset.notes] == ["Files were not read (1: a.jsonl)"]
    write("test.jsonl", range(109, 115))
    with pytest.raises(UserError, match=r"its prompt occurs in the splits train \(Training.jsonl: line 10\) and test"):
        source(path=str(tmp_path)).load()
    write("test.parquet", range(1))
    with pytest.raises(UserError, match="there are several files `test`"):
        source(path=str(tmp_path)).load()


def test_a_trace_too_long_for_the_memory_of_all_is_refused_by_its_line(tmp_path: Path) -> None:
    rows = [{"prompt": "a" * (2_000_000 if n == 700 else 1) + str(n), "response": "#### 1"} for n in range(1000)]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(
        UserError, match=r"line 701 has 2,000,009 characters, and 1,000 traces of this length do not fit"
    ):
        get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl")).load()


def test_no_table_of_characters_is_printed(tmp_path: Path) -> None:
    dataset = load_traces(train_problems=20)
    labels = build_noise("cot_static").apply(dataset)
    assert describe_transitions(labels) == ""
    label_sets.save(labels, dataset, tmp_path / "labels")
    assert "transition_counts" in (tmp_path / "labels" / "manifest.json").read_text()
    assert label_sets.load(tmp_path / "labels").manifest["transition_counts"] is None


def test_gsm8k_reads_human_and_model_solutions(tmp_path: Path) -> None:
    cls = get_entry("datasets", "gsm8k").load_class()
    values = cls.example(tmp_path)
    dataset = cls(**values).load()
    noisy = build_noise("real_world").apply(dataset)
    problems = [json.loads(line) for line in (tmp_path / "example_model_solutions.jsonl").read_text().splitlines()]
    wrong = sum(
        not row[name]["is_correct"] and row[name]["solution"] != row["ground_truth"]
        for row in problems
        for name in row
        if name[0] in "17 6"
    )
    assert wrong == int(
        (noisy.train != dataset.train.targets).any(1).sum()
        + (noisy.validation != dataset.validation.targets).any(1).sum()
    )
    assert not {*decode_prompts(dataset)} & {*trace_format_of(dataset).decode(dataset.validation.inputs[:, 0, 0])}, (
        "no question in both parts"
    )
    human = cls(root=str(tmp_path)).load()
    noised = build_noise("cot_dynamic", intensity=1.0).apply(human)
    assert noised.manifest["noise"]["details"]["traces"]["invalid"] > 0.5
    (tmp_path / "test.jsonl").unlink()
    for changed, message in (({}, "file not found"), ({"root": None}, "give the folder")):
        with pytest.raises(UserError, match=message):
            cls(**{**values, **changed}).load()

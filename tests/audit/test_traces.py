"""Audits of traces: steps, agreement, surprise, planted errors, bad input, and cleaned files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import noisybench as nb
from noisybench.api.trace_audit import TraceAudit
from noisybench.audit.traces.cleaning import clean_by_run
from noisybench.audit.traces.duplicates import find_duplicates
from noisybench.audit.traces.inputs import in_memory_trace_input, load_trace_audit_input
from noisybench.audit.traces.reliability import plant_errors
from noisybench.audit.traces.report import audit_traces
from noisybench.audit.traces.scores import disagreement_of, score_traces
from noisybench.audit.traces.steps import find_steps
from noisybench.cli.app import main
from noisybench.errors import UserError

TINY = ["budget.network=decoder:8x1", "budget.epochs=1", "execution.num_threads=1"]


def solved(count: int = 12) -> list[dict[str, Any]]:
    """Return correct solutions of word problems, with a field of the user."""
    return [
        {
            "prompt": f"Ann has {n} clips and buys 3.",
            "response": f"{n}+3 = <<{n}+3={n + 3}>>{n + 3} clips.\n#### {n + 3}",
            "source": {"page": n},
        }
        for n in range(count)
    ]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def noisybench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisybench", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return int(exit_info.value.code or 0)


def test_lines_are_steps_and_fail_where_a_calculation_does() -> None:
    records = solved(3)
    records[0]["response"] = "First.\n\n1+1 = <<1+1=3>>3 and 2*2 = <<2*2=4>>4\nSo 4.\n#### 4"
    records[1]["response"] = "1+1 = <<1+1=2>>2\n#### 9"
    data = in_memory_trace_input(records)
    steps = find_steps(data.trace_format, data.prompts, data.responses)
    first = steps.trace == 0
    texts = [data.responses[0][a:b] for a, b in zip(steps.start[first], steps.stop[first], strict=True)]
    assert texts == ["First.", "1+1 = <<1+1=3>>3 and 2*2 = <<2*2=4>>4", "So 4.", "\n#### 4\x03"]
    np.testing.assert_array_equal(steps.failed[first], [np.nan, 1, np.nan, 0])
    # 9 is no number of the lines above it.
    np.testing.assert_array_equal(steps.failed[steps.trace == 1], [0, 1])
    assert steps.num_failed.tolist() == [1, 1, 0]
    assert steps.number[first].tolist() == [1, 2, 3, 4]


def test_a_negative_answer_follows_from_its_calculation() -> None:
    data = in_memory_trace_input([{"prompt": f"{n}", "response": "3-5 = <<3-5=-2>>-2\n#### -2"} for n in range(3)])
    assert find_steps(data.trace_format, data.prompts, data.responses).num_failed.tolist() == [0, 0, 0]


def test_steps_of_a_program_are_executed_and_its_answers_known() -> None:
    data = load_trace_audit_input("traced_addition", ["dataset.train_problems=60", "noise.contamination=0.5"])
    steps = find_steps(data.trace_format, data.prompts, data.responses)
    assert data.is_incorrect is not None
    assert 0 < data.is_incorrect.sum() < 60
    # Every changed digit is found, and nothing else.
    np.testing.assert_array_equal((steps.num_failed > 0) | (steps.answer_is_incorrect == 1), data.is_incorrect)


def test_disagreement_counts_the_other_responses_to_a_prompt() -> None:
    answers, groups = ("4", "4", "5", None, "7"), np.array([0, 0, 0, 0, 4])
    np.testing.assert_allclose(disagreement_of(answers, groups), [2 / 3, 2 / 3, 1, 1, np.nan])


def test_the_smallest_number_of_incorrect_traces_is_exact() -> None:
    answers = ["4", "4", "5", "6"]
    records = [{"prompt": "2+2?", "response": f"Hm.\n#### {answer}"} for answer in answers]
    # Its calculation fails, so that it cannot be one of the two with the answer 4.
    records.append({"prompt": "2+2?", "response": "<<2+2=5>>4\n#### 4"})
    data = in_memory_trace_input(records)
    steps = find_steps(data.trace_format, data.prompts, data.responses)
    scores = score_traces(steps, data.prompt_groups, None)
    assert scores.num_incorrect == 3
    assert scores.ranking[0] == 4
    assert set(scores.ranking[1:3].tolist()) == {2, 3}
    assert scores.suspects.tolist() == scores.ranking[:3].tolist()


def test_near_duplicates_have_the_same_numbers() -> None:
    story = "has 3 red pens in a box and buys 4 more at the shop. How many pens?"
    prompts = [f"Ann {story}", f"Bob {story}", f"Ann {story}", f"Ann {story}".replace("4", "5"), "Something else, 3 4"]
    copies = find_duplicates(prompts, ["7", "8", "7", "8", "1"], np.array([0, 1, 0, 3, 4]))
    assert copies.near.tolist() == [0, 0, 0, 3, 4]
    assert copies.is_near.tolist() == [False, True, False, False, False]
    assert copies.is_copy.tolist() == [False, False, True, False, False]


def test_planted_errors_change_one_digit_before_the_answer() -> None:
    data = in_memory_trace_input(solved(40))
    planted, rows, places = plant_errors(data, seed=1)
    changed = np.argwhere(planted != data.observed)
    assert len(rows) == 20
    assert sorted(map(tuple, changed.tolist())) == sorted(zip(rows.tolist(), places.tolist(), strict=True))
    assert all(place < data.responses[row].index("####") for row, place in changed.tolist())


def test_decoders_find_planted_and_real_errors_that_cannot_be_executed(workspace: Path) -> None:
    records = [{"prompt": f"case {n}", "response": "Take 12 and 5 of 30.\nThat is 13.\n#### 13"} for n in range(120)]
    records[7]["response"] = records[7]["response"].replace("12 and 5", "12 and 6")
    # Many steps, after which the decoder is sure of a text that is always the same.
    overrides = [
        "budget.network=decoder:32x1",
        "budget.learning_rate=0.01",
        "budget.batch_size=8",
        "execution.num_threads=1",
    ]
    data = in_memory_trace_input(records, overrides)
    report = audit_traces(data, folds=2)
    assert report.reliability.problem is None
    assert report.reliability.num_planted == 50
    assert report.reliability.auroc > 0.95
    assert report.reliability.executed == 0
    assert report.scores.ranking[0] == 7
    assert not report.scores.contradicted.any()
    assert report.reasons[7][0].startswith("step 1 is surprising")
    # The same call reads the weights that are kept.
    epochs: list[int] = []
    again = audit_traces(data, 2, on_epoch=lambda fold, epoch, loss: epochs.append(epoch))
    assert not epochs
    assert np.array_equal(again.scores.suspicion, report.scores.suspicion)


def test_decoders_at_chance_have_no_part_in_the_ranking(workspace: Path) -> None:
    records = solved(120)
    records[7]["response"] = records[7]["response"].replace("=10>>", "=11>>")
    audit = nb.audit(records, overrides=TINY, progress=False)
    assert isinstance(audit, TraceAudit)
    assert audit.surprise_problem is not None
    assert audit.scores["surprise"].isna().all()
    assert any(line.startswith("no estimate of surprise") for line in audit.summary)
    assert audit.suspects.index[0] == 7
    assert audit.scores["suspicion"].drop(7).eq(0.25).all()
    assert audit.least_incorrect == 1


def test_frames_records_and_files_give_the_same_audit(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{**record, "source": f"page {n}"} for n, record in enumerate(solved())]
    records[3]["response"] = records[3]["response"].replace("=6>>", "=7>>")
    of_records = nb.audit(records, overrides=TINY, progress=False)
    of_frame = nb.audit(pd.DataFrame(records), overrides=TINY, progress=False)
    assert of_frame.scores.equals(of_records.scores)
    write(workspace / "traces.jsonl", records)
    assert noisybench(monkeypatch, "audit", "traces.jsonl", *TINY) == 0
    table = pd.read_parquet("audit/scores.parquet")
    assert table["suspicion"].tolist() == sorted(of_records.scores["suspicion"], reverse=True)
    assert table.set_index("index")["source"].sort_index().tolist() == [record["source"] for record in records]
    with Path("audit/steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert [step["step"] for step in steps if step["failed"] == "True"] == ["1"]
    assert json.loads(Path("audit/findings.json").read_text())["contradicted"] == [3]
    pd.DataFrame(records).to_parquet("traces.parquet")
    assert noisybench(monkeypatch, "audit", "traces.parquet", *TINY, "-o", "second") == 0
    assert pd.read_parquet("second/scores.parquet")["suspicion"].equals(table["suspicion"])


def test_responses_of_a_program_may_be_incorrect(workspace: Path) -> None:
    traces = [{"prompt": f"{n}+2:", "response": f"{n}+2+0=0{n + 2}#0{n + 2}"} for n in range(6)]
    traces[2]["response"] = "2+2+0=05#05"
    audit = nb.audit(traces, overrides=[*TINY, "dataset.program=add"], progress=False)
    assert audit.suspects.index.tolist() == [2]
    assert "step 1 does not follow" in audit.suspects["reasons"].iloc[0]
    with pytest.raises(UserError, match=r"step 1 of .* does not follow"):
        nb.noise("cot_static").apply(traces, program="add")


def test_a_known_answer_contradicts_a_trace(workspace: Path) -> None:
    records = [{**record, "gold": str(n + 3)} for n, record in enumerate(solved())]
    records[5]["gold"] = "9"
    audit = nb.audit(records, overrides=[*TINY, "dataset.answer_field=gold"], progress=False)
    assert audit.suspects["reasons"].tolist() == ["the answer 8 is not the correct one"]


def test_cleaned_files_keep_the_fields_and_are_never_overwritten(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**record, "audit": "mine"} for record in solved()]
    records[3]["response"] = records[3]["response"].replace("=6>>", "=7>>")
    write(workspace / "traces.jsonl", records)
    command = ["traces", "clean", "traces.jsonl", *TINY, "-o", "cleaned.jsonl", "--dropped", "dropped.jsonl"]
    assert noisybench(monkeypatch, *command) == 0
    kept, dropped = (
        [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()] for name in ("cleaned", "dropped")
    )
    assert [record["source"]["page"] for record in kept] == [0, 1, 2, *range(4, 12)]
    assert [record["source"]["page"] for record in dropped] == [3]
    assert dropped[0]["original_audit"] == "mine"
    assert dropped[0]["response"] == records[3]["response"]
    assert dropped[0]["audit"]["reasons"] == ["step 1 does not follow when it is executed again"]
    assert [step["failed"] for step in dropped[0]["audit"]["steps"]] == [True, False]
    before = Path("cleaned.jsonl").read_bytes()
    capsys.readouterr()
    assert noisybench(monkeypatch, *command) == 2
    assert "cleaned.jsonl: exists, and is not overwritten" in capsys.readouterr().err
    assert Path("cleaned.jsonl").read_bytes() == before
    # What is written is a file of traces again.
    assert len(load_trace_audit_input("cleaned.jsonl")) == 11
    assert (
        noisybench(monkeypatch, "traces", "clean", "traces.jsonl", *TINY, "--fraction", "0.5", "-o", "half.jsonl") == 0
    )
    assert len(Path("half.jsonl").read_text().splitlines()) == 6


def test_traces_are_cleaned_by_the_detectors_of_a_run(workspace: Path) -> None:
    write(workspace / "traces.jsonl", solved(30))
    recipe = {
        "task": "chain_of_thought",
        "dataset": {"name": "trace_file", "path": "traces.jsonl"},
        "noise": {"name": "cot_static", "contamination": 0.5},
        "budget": {"network": "decoder:8x1x300", "epochs": 1, "batch_size": 16, "augmentation": "none"},
        "execution": {"num_threads": 1},
    }
    result = nb.run(recipe, progress=False)
    executed = clean_by_run(result.run_id[:8], "trace_execution")
    assert executed.dropped
    for record in (*executed.kept, *executed.dropped):
        failed = any(step["failed"] for step in record["audit"]["steps"])
        assert failed == record["audit"]["flagged"] == (record in executed.dropped)
        assert isinstance(record["source"]["page"], int)
    half = clean_by_run(result.run_id, "trace_loss", 0.5)
    losses = [[record["audit"]["trace_loss"] for record in part] for part in (half.kept, half.dropped)]
    assert max(losses[0]) <= min(losses[1])
    with pytest.raises(UserError, match="unknown detector `trace_lost`; did you mean `trace_loss`"):
        clean_by_run(result.run_id, "trace_lost")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no traces"),
        (b'{"prompt": "1"}\n', "line 1 fits no known schema"),
        (b'{"prompt": "1", "response": "#### 1"}\n{"prompt": "2", "response": null}\n', "line 2: `response` is null"),
        (b'{"prompt": "1", "response": "#### 1"}\n{"question": "2", "answer": "#### 1"}\n', "line 2 has the schema"),
        (b'{"prompt": "1", "response": "#### 1"}\nnot JSON\n', "line 2 is not JSON"),
        (b'{"prompt": "1", "response": "#### 1"}\n{"prompt": "\xff", "response": "#### 1"}\n', "UTF-8"),
        (b'{"prompt": "1", "response": "#### 1"}\n', "needs traces of at least 3 prompts"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_line(
    content: bytes, message: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "traces.jsonl").write_bytes(content)
    for command in (["audit"], ["traces", "clean"]):
        assert noisybench(monkeypatch, *command, "traces.jsonl") == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("error:") == 1
    assert not (workspace / "cleaned.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["traces", "clean", "traces.jsonl", "--fraction", "1.5"], "--fraction: must be above 0 and below 1"),
        (["traces", "clean", "traces.jsonl", "-o", "c.csv"], "must end in .jsonl"),
        (["traces", "clean", "traces.jsonl", "--dropped", "cleaned.jsonl"], "is the same file as --output"),
        (["traces", "clean", "traces.jsonl", "--detector", "trace_loss"], "only finished runs have detectors"),
        (["traces", "clean", "0123abcd", "dataset.program=add"], "a finished run takes no overrides"),
        (["audit", "traces.jsonl", "--backbone", "minilm"], "--backbone: traces are audited by decoders"),
        (["audit", "traces.jsonl", "budget.network=mlp:4"], "traces are audited by decoders such as decoder:64x2"),
        (["audit", "traces.jsonl", "budget.network=decoder:8x1x9"], "need a context of"),
        (["audit", "traces.jsonl", "--folds", "13"], "needs traces of at least 13 prompts"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(
    arguments: list[str],
    message: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(workspace / "traces.jsonl", solved())
    assert noisybench(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_audits_of_classes_are_not_cleaned_as_traces(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert noisybench(monkeypatch, "traces", "clean", "digits") == 2
    assert "has no traces" in capsys.readouterr().err

"""Noise models for traces."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED
from noisybench.noise_models.cot_static import CotStatic
from tests.data.traces.helpers import (
    build_noise,
    decode_prompts,
    kept_traces,
    load_traces,
    trace_format_of,
)
from tests.helpers import prepared_toy, train_toy


@pytest.mark.parametrize("values", [{"intensity": 0.0}, {"contamination": 0.0}])
@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_zero_noise_changes_nothing(name: str, values: dict[str, float]) -> None:
    dataset = load_traces()
    noisy = build_noise(name, **values).apply(dataset)
    np.testing.assert_array_equal(noisy.train, dataset.train.targets)
    assert not noisy.error_spans["train"].any()


def test_digit_noise_changes_only_digits_at_its_rate() -> None:
    dataset = load_traces(train_problems=2000)
    clean = dataset.train.targets
    digits = clean < 10
    for exclude, rate in ((False, 0.27), (True, 0.3)):
        noisy = build_noise("cot_static", intensity=0.3, exclude_self=exclude).apply(dataset)
        np.testing.assert_array_equal(noisy.train[~digits], clean[~digits])
        np.testing.assert_array_equal(noisy.error_spans["train"] == TOKEN_CORRUPTED, noisy.train != clean)
        share = (noisy.train != clean)[digits].mean()
        assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / digits.sum())
    every = build_noise("cot_static", intensity=1.0, exclude_self=True).apply(dataset).train
    assert (every != clean)[digits].all()
    new = build_noise("cot_static", intensity=1.0).apply(dataset).train[digits]
    assert stats.chisquare(np.bincount(new, minlength=10)).pvalue > 1e-4


@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_answers_are_kept_recomputed_or_corrupted(name: str) -> None:
    dataset = load_traces()
    trace_format, clean = trace_format_of(dataset), trace_format_of(dataset).decode(dataset.train.targets)
    wrong = {}
    for answer in ("kept", "recomputed", "corrupted"):
        noisy = build_noise(name, intensity=0.4, answer=answer).apply(dataset)
        texts = trace_format.decode(noisy.train)
        wrong[answer] = noisy.manifest["noise"]["details"]["traces"]["incorrect_answer"]
        for prompt, before, after in zip(decode_prompts(dataset)[:80], clean, texts, strict=False):
            if answer == "kept":
                assert after.partition("#")[2] == before.partition("#")[2]
            if answer == "recomputed" and name == "cot_static":
                assert trace_format.check(prompt, after).steps[-1].is_correct, "it follows from the lines as they are"
    assert wrong["kept"] == 0
    assert 0 < wrong["recomputed"] < 1
    assert wrong["corrupted"] > wrong["recomputed"] * (1 if name == "cot_dynamic" else 0)


@pytest.mark.parametrize("edit", ["line", "duplicate", "both"])
def test_lines_are_deleted_or_repeated_and_the_answer_is_kept(edit: str) -> None:
    dataset = load_traces(program="max", width=1, train_problems=1500)
    noisy = build_noise("cot_static", edit=edit, intensity=0.4, answer="kept").apply(dataset)
    trace_format, left, full = trace_format_of(dataset), 0, 0
    pairs = zip(
        trace_format.decode(dataset.train.targets),
        trace_format.decode(noisy.train),
        noisy.error_spans["train"],
        strict=True,
    )
    for old, new, status in pairs:
        assert old.partition("#")[2] == new.partition("#")[2]
        (lines, _), (rest, _) = trace_format.split_response(old), trace_format.split_response(new)
        if edit == "line":
            position = iter(lines)
            assert all(each in position for each in rest), "a subsequence"
        if edit == "duplicate":
            assert [each for each, _ in itertools.groupby(rest)] == [each for each, _ in itertools.groupby(lines)]
        assert (status != TOKEN_CORRECT).any() or len(rest) == len(lines)
        left, full = left + len(rest), full + len(lines)
    share = {"line": 0.6, "duplicate": 1.4, "both": 0.6}[edit]
    assert abs(left / full - share) < 4 * np.sqrt(0.24 / full)
    only = build_noise("cot_static", edit="line", intensity=1.0).apply(dataset).train
    assert trace_format.decode(only[:1])[0] == "#" + trace_format.decode(dataset.train.targets[:1])[0].partition("#")[2]


def test_characters_and_tokens_change_at_their_rate() -> None:
    dataset = load_traces(train_problems=800)
    clean, trace_format = dataset.train.targets, trace_format_of(dataset)
    noisy = build_noise("cot_static", edit="character", intensity=0.2, exclude_self=True).apply(dataset)
    shown = (clean != IGNORED) & (clean != trace_format.vocabulary.index("$"))
    assert abs((noisy.train != clean)[shown].mean() - 0.2) < 4 * np.sqrt(0.16 / shown.sum())
    assert set(np.unique(noisy.train)) == set(np.unique(clean)), "characters of the data alone"
    noisy = build_noise("cot_static", edit="token", intensity=0.3, exclude_self=True).apply(dataset)
    np.testing.assert_array_equal(noisy.train[clean >= 10], clean[clean >= 10], "all but digits stays")
    first = noisy.train[:, 0] != clean[:, 0]
    assert abs(first.mean() - 0.3) < 4 * np.sqrt(0.21 / 800)
    sum_width_two = (noisy.train[:, 6:8] != clean[:, 6:8]).any(1)
    assert abs(sum_width_two.mean() - 0.3) < 4 * np.sqrt(0.21 / 800), "a number of two digits is one token"


def test_token_status_agrees_with_re_execution() -> None:
    dataset = load_traces()
    trace_format, noisy = trace_format_of(dataset), build_noise("cot_dynamic", intensity=0.2).apply(dataset)
    carried = 0
    for prompt, before, after, status in zip(
        decode_prompts(dataset),
        trace_format.decode(dataset.train.targets),
        trace_format.decode(noisy.train),
        noisy.error_spans["train"],
        strict=True,
    ):
        check, clean = trace_format.check(prompt, after), trace_format.step_spans(before)
        for step, (start, stop) in zip(check.steps, clean, strict=True):
            own = set(status[step.start : step.stop].tolist())
            same = after[step.start : step.stop] == before[start:stop]
            assert own == (
                {TOKEN_CORRUPTED} if not step.is_correct else {TOKEN_CORRECT} if same else {TOKEN_PROPAGATED}
            )
            carried += own == {TOKEN_PROPAGATED}
    assert carried > 20


@pytest.mark.parametrize("name", ["cot_static", "cot_dynamic"])
def test_greater_contamination_corrupts_a_superset_and_never_the_test_split(name: str) -> None:
    dataset = load_traces(train_problems=1500)
    clean, before = dataset.train.targets, dataset.test.targets.copy()
    changed = [
        (build_noise(name, contamination=each, intensity=0.9).apply(dataset).train != clean).any(1)
        for each in (0.2, 0.5, 1.0)
    ]
    assert not (changed[0] & ~changed[1]).any()
    assert not (changed[1] & ~changed[2]).any()
    assert abs(changed[1].mean() - 0.5) < 4 * 0.5 / np.sqrt(1500)
    np.testing.assert_array_equal(dataset.test.targets, before)
    comparable_rows = (
        build_noise(name, contamination=0.5, intensity=0.9).apply(dataset).manifest["noise"]["details"]["traces"]
    )
    assert comparable_rows["changed"] == changed[1].mean()
    assert comparable_rows["incorrect_answer"] <= comparable_rows["changed"]


def test_non_terminating_runs_are_cut_and_counted(tmp_path: Path) -> None:
    dataset = load_traces(program="gcd", width=3)
    noisy = build_noise("cot_dynamic", intensity=0.9).apply(dataset)
    cut = (noisy.train == IGNORED).all(1)
    assert noisy.manifest["noise"]["details"]["traces"]["cut"] == cut.mean() > 0
    run = prepared_toy("cross_entropy", dataset, noisy, task="chain_of_thought", budget={"epochs": 1})
    assert np.isfinite(train_toy(run, tmp_path).rows[-1].train_loss or np.nan), "cut traces have no loss"
    half = build_noise("cot_dynamic", intensity=0.9, contamination=0.5).apply(dataset)
    assert not (kept_traces("random", dataset, half) & (half.train == IGNORED).all(1)).any()


@pytest.mark.parametrize("exclude_self", [False, True])
def test_a_replaced_number_is_corrupted_where_it_differs(exclude_self: bool) -> None:
    dataset = load_traces()
    noisy = build_noise("cot_static", edit="token", intensity=1.0, exclude_self=exclude_self).apply(dataset)
    decode = trace_format_of(dataset).decode
    repeated = 0
    for before, after, status in zip(
        decode(dataset.train.targets), decode(noisy.train), noisy.error_spans["train"], strict=True
    ):
        expected = np.full(len(status), TOKEN_CORRECT)
        for number in re.finditer(r"\d+", before):
            differs = after[number.start() : number.end()] != number.group()
            expected[number.start() : number.end()] = TOKEN_CORRUPTED if differs else TOKEN_CORRECT
            repeated += not differs
        np.testing.assert_array_equal(status, expected)
    assert (repeated == 0) == exclude_self


def test_the_status_of_a_character_moves_along_with_its_line() -> None:
    dataset = load_traces(program="max", width=1)
    trace_format = trace_format_of(dataset)
    text = trace_format.decode(dataset.train.targets[:1])[0]
    lines, tail = trace_format.split_response(text)
    assert len(lines) > 3
    corrupted, correct = bytes([TOKEN_CORRUPTED]), bytes([TOKEN_CORRECT])
    # Patterns that differ from line to line; separators are not marked.
    marked = [
        b"".join(corrupted if (position + number) % (number + 2) == 0 else correct for position in range(len(line)))
        for number, line in enumerate(lines)
    ]
    separator = correct * len(trace_format.separator)
    status = separator.join(marked).ljust(len(text) - len(tail), correct) + corrupted * len(tail)

    def statuses(edit: str, selected: list[int]) -> list[bytes]:
        model = CotStatic(edit=edit, answer="kept")
        chosen = [number in selected for number in range(len(text))]
        return [part for _, part in model._edit_lines(trace_format, text, chosen, status)]

    end = corrupted * len(tail)
    assert b"".join(statuses("line", [])) == separator.join(marked) + end
    expected = separator.join([marked[0], corrupted + marked[2][1:], *marked[3:]]) + end
    assert b"".join(statuses("line", [1])) == expected
    repeated = separator.join([marked[0], marked[1], corrupted * len(lines[1]), *marked[2:]]) + end
    assert b"".join(statuses("duplicate", [1])) == repeated


@pytest.mark.parametrize("kind", ["irrelevant", "inaccurate"])
def test_thoughts_are_inserted_sums_and_all_else_stays(kind: str) -> None:
    dataset = load_traces(program="add", width=2, train_problems=800)
    noisy = build_noise("cot_thoughts", kind=kind, intensity=0.4).apply(dataset)
    trace_format, num_lines, num_thoughts = trace_format_of(dataset), 0, 0
    rows = zip(
        trace_format.decode(dataset.train.targets),
        trace_format.decode(noisy.train),
        noisy.error_spans["train"],
        strict=True,
    )
    for old, new, status in rows:
        marked = "".join(character for character, each in zip(new, status, strict=False) if each == TOKEN_CORRUPTED)
        lines, written = (trace_format.split_response(text)[0] for text in (old, new))
        assert old.partition("#")[2] == new.partition("#")[2]
        kept = iter(lines)
        expected = next(kept, None)
        thoughts = []
        for line in written:
            if line == expected:
                expected = next(kept, None)
            else:
                thoughts.append(line)
        assert expected is None
        assert marked == "".join(thoughts)
        for thought in thoughts:
            total, result = thought.split("=")
            assert (sum(map(int, total.split("+"))) == int(result)) == (kind == "irrelevant")
        num_lines, num_thoughts = num_lines + len(lines), num_thoughts + len(thoughts)
    assert abs(num_thoughts / num_lines - 0.4) < 4 * np.sqrt(0.24 / num_lines)

"""Tables of runs that were trained by different code: rows, equivalences, and the notes about them."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from typing import Any

import pydantic
import pytest

from noisybench.leaderboard.figures import _separate_codes
from noisybench.leaderboard.installed_code import InstalledCode
from noisybench.leaderboard.measurement_tables import builtin_measurements, from_csv
from noisybench.leaderboard.measurement_tables import to_csv as measurements_to_csv
from noisybench.leaderboard.measurements import measure, measure_valid
from noisybench.leaderboard.reproduction import reproduce
from noisybench.leaderboard.similar import similar_settings
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.text_tables import to_csv, to_latex, to_markdown
from noisybench.records.equivalence import (
    Equivalence,
    builtin_equivalences,
    compare_runs,
    equivalences_from_json,
    equivalences_to_json,
    largest_difference,
)
from noisybench.records.schema import RunRecord
from tests.leaderboard.test_leaderboard import board_of, cifar, record, settings_of

SHARED = ("task", "dataset", "noise", "network")


def code(engine: str, mitigation: str = "gce", digest: str = "m") -> dict[str, str]:
    """Code of a run of one mitigation."""
    return {"engine": engine * 16, **dict.fromkeys(SHARED, "0" * 16), f"mitigations.{mitigation}": digest * 16}


def coded(engine: str, stack: str = "gce", seed: int = 0, level: float = 0.8, **fields: Any) -> RunRecord:
    """A run of an engine; a letter later in the alphabet was trained later."""
    made = record(stack, seed, level, code=code(engine, stack), settings=f"{stack}{seed}")
    rows = [dataclasses.replace(row, time=row.time + 1000 * ord(engine)) for row in made.rows]
    return dataclasses.replace(made, rows=rows, **fields)


def equivalence(*pairs: tuple[RunRecord, RunRecord], **fields: Any) -> Equivalence:
    """A recorded equivalence of runs."""
    runs = tuple(compare_runs(old, new) for old, new in pairs)
    return Equivalence(**{"format": 1, "date": "2026-01-01", "sample": 1, "tolerance": 0.01, "runs": runs, **fields})


def joined_settings(runs: list[RunRecord], *equivalences: Equivalence) -> list[Setting]:
    return build_settings(map(measure, runs), equivalences=equivalences)


def test_a_row_never_mixes_code_and_the_others_are_counted() -> None:
    old = [coded("a", seed=seed, level=0.2) for seed in range(4)]
    new = [coded("b", seed=seed, level=0.9) for seed in range(2)]
    (setting,) = settings_of([*new, *old])
    (row,) = setting.rows
    assert len(row.measurements) == 2
    assert row.scores["last"] is not None
    assert row.scores["last"].mean > 0.8
    assert dict(row.code)["engine"] == "b" * 16
    assert setting.other_code == (
        "same settings, other code: 4 runs of gce, version 0 (engine aaaaaaaa -> bbbbbbbb); this table has version 0; "
        "`noisybench runs equivalent aaaaaaaa` compares them",
    )


def test_a_changed_mitigation_changes_its_row_alone() -> None:
    elr = [coded("a", "elr", seed) for seed in range(2)]
    old = [coded("a", seed=seed) for seed in range(2)]
    later = [dataclasses.replace(row, time=10**9) for row in old[0].rows]
    mended = dataclasses.replace(old[0], code=code("a", digest="n"), rows=later, identity="mended")
    (setting,) = settings_of([*elr, mended, *old])
    assert {row.stack: len(row.measurements) for row in setting.rows} == {"elr": 2, "gce": 1}
    assert "2 runs of gce, version 0 (mitigations.gce mmmmmmmm -> nnnnnnnn)" in setting.other_code[0]


def test_one_table_has_one_engine_even_for_different_stacks() -> None:
    (setting,) = settings_of(
        [*(coded("a", "elr", seed) for seed in range(3)), *(coded("b", seed=seed) for seed in range(3))]
    )
    assert [row.stack for row in setting.rows] == ["gce"]
    assert not setting.ranking.ranks
    assert "3 runs of elr" in setting.other_code[0]


def test_the_installed_code_comes_before_the_latest_run() -> None:
    plain = coded("a")
    installed = dataclasses.replace(plain, code=dict(InstalledCode().of(plain)))
    (setting,) = build_settings(measure_valid([installed, coded("b"), coded("b", seed=1)])[0])
    assert setting.rows[0].code == measure(installed).code
    assert "2 runs of gce" in setting.other_code[0]
    assert not any("other code than the installed one" in warning for warning in setting.warnings)
    (outdated,) = build_settings(measure_valid([coded("b")])[0])
    assert any("other code than the installed one: gce (" in warning for warning in outdated.warnings)


def test_unrecorded_code_never_joins_known_code() -> None:
    old = [dataclasses.replace(measure(coded("a", seed=seed)), code=(), entry="entry") for seed in range(3)]
    (setting,) = build_settings([*old, measure(coded("b"))])
    assert len(setting.rows[0].measurements) == 1
    assert "3 runs of gce, version 0 (code not recorded)" in setting.other_code[0]
    (alone,) = build_settings(old)
    assert (alone.code, alone.other_code) == ((), ())


def test_an_equivalence_joins_two_codes_in_one_row() -> None:
    old = [coded("a", seed=seed) for seed in range(4)]
    new = coded("b")
    (setting,) = joined_settings([*old, new], equivalence((old[0], new)))
    (row,) = setting.rows
    assert [measurement.seed for measurement in row.measurements] == [0, 1, 2, 3]
    assert row.measurements[0].code == measure(new).code, "the later run of a seed counts"
    assert dict(row.code)["engine"] == "b" * 16
    assert setting.other_code == ()
    assert setting.joined == ("joined by equivalence engine aaaaaaaa = bbbbbbbb (1 run compared, bit-identical)",)


def test_equivalences_join_in_chains() -> None:
    old, middle, new = (coded(engine, seed=seed) for seed, engine in enumerate("abc"))
    compared = [coded(engine, seed=9) for engine in "abc"]
    chain = [equivalence(pair) for pair in itertools.pairwise(compared)]
    (setting,) = joined_settings([old, middle, new], *chain)
    assert len(setting.rows[0].measurements) == 3
    assert len(setting.joined) == 2


def test_a_stack_or_setting_that_was_not_compared_is_not_joined() -> None:
    old = [coded("a", stack, seed) for stack in ("gce", "elr") for seed in range(2)]
    new = [coded("b", stack) for stack in ("gce", "elr")]
    elsewhere = [dataclasses.replace(run, label_set="c" * 64) for run in (*old[:2], new[0])]
    first, second = joined_settings([*old, *new, *elsewhere], equivalence((old[0], new[0])))
    assert {row.stack: len(row.measurements) for row in first.rows} == {"gce": 2, "elr": 1}
    assert "2 runs of elr" in first.other_code[0]
    assert [len(row.measurements) for row in second.rows] == [1]


def test_equivalences_can_be_shipped_as_a_list() -> None:
    recorded = equivalence((coded("a"), coded("b")))
    assert equivalences_from_json(equivalences_to_json([recorded, recorded])) == (recorded, recorded)
    with pytest.raises(ValueError, match="the weights differ"):
        equivalences_from_json(equivalences_to_json([recorded]).replace("f" * 64, "0" * 64, 1))
    assert all(recorded.describe() for recorded in builtin_equivalences())
    # A shipped measurement with a code joins a row as any other run does.
    shipped = dataclasses.replace(measure(coded("a", seed=3)), entry="entry", record=None)
    (setting,) = build_settings([shipped, measure(coded("b"))], equivalences=[recorded])
    assert [measurement.entry for measurement in setting.rows[0].measurements] == ["", "entry"]


def test_an_equivalence_that_a_run_contradicts_is_ignored() -> None:
    old, new = coded("a"), coded("b")
    recorded = equivalence((old, new))
    (setting,) = joined_settings([dataclasses.replace(old, weights_sha256="0" * 64), new], recorded)
    assert setting.joined == ()
    assert any("is ignored: title has other weights" in warning for warning in setting.warnings)


def test_runs_that_differ_are_no_equivalence() -> None:
    old, new = coded("a"), coded("b")
    with pytest.raises(pydantic.ValidationError, match="the weights differ"):
        equivalence((old, dataclasses.replace(new, weights_sha256="0" * 64)))
    with pytest.raises(pydantic.ValidationError, match="the weights are the same, but measured numbers differ"):
        equivalence((old, dataclasses.replace(new, calibration_error=0.06)))
    with pytest.raises(pydantic.ValidationError, match="same code"):
        equivalence((old, dataclasses.replace(old, identity="other")))
    gpu = {"environment": {"device": "NVIDIA H100", "torch": "2", "noisybench": "0"}, "weights_sha256": "1" * 64}
    close, far = (dataclasses.replace(coded("b", level=level), **gpu) for level in (0.805, 0.83))
    on_gpu = dataclasses.replace(old, environment=gpu["environment"])
    assert equivalence((on_gpu, close)).runs[0].difference == pytest.approx(0.005)
    with pytest.raises(pydantic.ValidationError, match=r"scores differ by 3\.00 points, more than 1"):
        equivalence((on_gpu, far))


def test_new_numbers_of_new_code_are_no_difference() -> None:
    old, new = coded("a"), coded("b")
    grown = [dataclasses.replace(row, diagnostics={"new": 1.0}) for row in new.rows]
    assert largest_difference(old, dataclasses.replace(new, rows=grown)) == 0
    lost = [dataclasses.replace(row, noise_auroc=None) for row in new.rows]
    assert largest_difference(old, dataclasses.replace(new, rows=lost)) == 1


def test_a_repeated_run_replaces_the_earlier_one() -> None:
    first, again = coded("a", level=0.2), coded("a", level=0.9)
    later = [dataclasses.replace(row, time=10**9) for row in again.rows]
    (setting,) = settings_of([dataclasses.replace(again, rows=later), first])  # a store lists the latest run first
    assert setting.rows[0].measurements[0].last == again.rows[-1].test_score


def test_every_format_names_the_code_and_the_runs_that_are_left_out() -> None:
    settings = settings_of([coded("a", seed=5), coded("b"), coded("b", seed=1)])
    (cells,) = csv.DictReader(io.StringIO(to_csv(settings)))
    assert len(cells["code"]) == 16
    assert "same settings, other code: 1 run of gce" in cells["other_code"]
    assert "other code: 1 run of gce" in to_markdown(settings)
    assert "other code: 1 run of gce" in to_latex(settings)
    board = board_of([coded("a", seed=5), coded("b"), coded("b", seed=1)])
    (detail,) = (json.loads(text) for text in board.details.values())
    assert "other code: 1 run of gce" in detail["notes"][0]
    assert any("other code: 1 run of gce" in each["why"] for each in board.excluded)


def test_no_comparison_across_settings_mixes_code() -> None:
    stacks = ("gce", "elr", "cross_entropy")
    first = [coded("a", stack, seed, 0.9 - number / 9) for number, stack in enumerate(stacks) for seed in range(3)]
    second = [dataclasses.replace(run, label_set="c" * 64) for run in first]
    changed = [dataclasses.replace(run, code={**run.code, "engine": "b" * 16}) for run in second]
    elr = [dataclasses.replace(run, code=code("a", "elr", "n")) if run.stack == "elr" else run for run in second]
    assert len(board_of([*first, *second]).sections["across"]) == 1
    assert board_of([*first, *changed]).sections["across"] == []
    assert board_of([*first, *elr]).sections["across"] == []
    families = [summary["family"] for summary in board_of([*first, *changed]).settings]
    assert len(set(families)) == 2


def test_draws_of_the_noise_are_averaged_for_one_code_only() -> None:
    def draw(seed: int, engine: str, digest: str = "m") -> list[RunRecord]:
        return [
            coded(engine, stack, run, level + seed / 50, label_set=str(seed) * 64, code=code(engine, stack, digest))
            for stack, level in (("gce", 0.9), ("cross_entropy", 0.7))
            for run in range(3)
        ]

    def draws(runs: list[RunRecord]) -> int:
        return len(board_of(runs).sections["draws"])

    assert draws([*draw(0, "a"), *draw(1, "a"), *draw(2, "a")]) == 1
    assert draws([*draw(0, "a"), *draw(1, "b")]) == 0
    assert draws([*draw(0, "a"), *draw(1, "a", "n")]) == 0


def test_a_reproduction_is_of_one_code() -> None:
    def runs(engine: str, level: float, seeds: int, label_set: str) -> list[RunRecord]:
        plain = cifar({"name": "human", "labels": "worse_label"})
        budget = {**plain.spec["budget"], "network": "resnet34_cifar_stem"}
        return [
            dataclasses.replace(
                coded(engine, "elr", seed, level), spec={**plain.spec, "budget": budget}, manifest=plain.manifest,
                label_set=label_set,
            )
            for seed in range(seeds)
        ]  # fmt: skip

    old, new = runs("a", 0.2, 5, "a" * 64), runs("b", 0.8, 2, "c" * 64)
    measured = [entry for entry in reproduce(map(measure, [*new, *old])) if entry.status != "not run"]
    assert measured
    assert {entry.seeds for entry in measured} == {2}
    assert all(entry.ours is not None and entry.ours > 70 for entry in measured)


def test_no_line_of_a_figure_mixes_code() -> None:
    old = [coded("a", seed=seed) for seed in range(2)]
    new = [coded("b", seed=seed) for seed in range(2)]
    other = [coded("b", "elr")]

    def names(*equivalences: Equivalence) -> list[str]:
        return sorted({run.stack for run in _separate_codes([*old, *new, *other], "mitigations.gce.q", equivalences)})

    apart = names()
    assert len(apart) == 3
    assert apart[0] == "elr"
    assert all(name.startswith("gce (code ") for name in apart[1:])
    assert names(equivalence((old[0], new[0]))) == ["elr", "gce"]


def test_advice_is_of_one_code() -> None:
    old = [coded("a", stack, seed, 0.2) for stack in ("gce", "elr") for seed in range(3)]
    new = [coded("b", stack, seed, 0.9) for stack in ("gce", "elr") for seed in range(2)]
    ((_, lines),) = similar_settings(map(measure, [*old, *new]), 0.39, 90, 10)
    assert len(lines) == 2
    assert all(("2 seeds" in line and "90." in line) or "89." in line for line in lines)


def test_the_table_of_measurements_keeps_code_and_warnings() -> None:
    made = coded("a")
    noted = dataclasses.replace(made.rows[0], warnings=["gce: schedule did not reach its target"])
    measurement = measure(dataclasses.replace(made, rows=[noted, *made.rows[1:]]), "re-run", "entry")
    (restored,) = from_csv(measurements_to_csv([measurement]))
    assert restored.code == measurement.code
    assert restored.finished == measurement.finished
    assert restored.warnings == ("gce: schedule did not reach its target",)
    recorded = {(measurement.version, bool(measurement.code)) for measurement in builtin_measurements()}
    assert recorded == {("0.2.0", True)}


def test_warnings_are_shown_with_their_text() -> None:
    noted = [
        dataclasses.replace(
            run, rows=[dataclasses.replace(run.rows[0], warnings=["elr: ramp incomplete"]), *run.rows[1:]]
        )
        for run in (coded("a", "elr", seed) for seed in range(2))
    ]
    settings = settings_of([*noted, coded("a")])
    assert any(warning == "elr: ramp incomplete (2 runs)" for warning in settings[0].warnings)
    assert "ramp incomplete (2 runs)" in to_markdown(settings)
    (detail,) = (json.loads(text) for text in board_of([*noted, coded("a")]).details.values())
    assert {row["stack"]: row["warnings"] for row in detail["rows"]} == {
        "elr": ["elr: ramp incomplete (2 runs)"],
        "gce": [],
    }


def test_different_major_versions_of_torch_are_warned_about() -> None:
    runs = [coded("a", stack, seed) for stack in ("gce", "elr") for seed in range(2)]
    runs[0] = dataclasses.replace(runs[0], environment={**runs[0].environment, "torch": "3.0.1"})
    (setting,) = settings_of(runs)
    assert (
        "runs of different major versions of PyTorch are compared, whose results may differ: 2 (elr, gce); 3 (gce)"
        in setting.warnings
    )

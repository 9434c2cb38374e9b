"""Columns of tables: one definition for all formats, the best values, and those that a user chooses."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from noisybench.errors import UserError
from noisybench.leaderboard.citations import bibtex, citations, software_citation
from noisybench.leaderboard.columns import TABLE, best_columns, measured_columns, parse_columns
from noisybench.leaderboard.payload import setting_payload
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.text_tables import csv_names, latex_text, text_rows, to_csv, to_latex, to_markdown
from noisybench.records.schema import RunRecord
from tests.leaderboard.frozen import frozen_measurements
from tests.leaderboard.test_leaderboard import example_records, record, settings_of

Command = Callable[..., tuple[int, str]]


def pair_flip() -> Setting:
    return next(each for each in build_settings(frozen_measurements()) if "pair_flip" in each.title)


def test_every_format_has_the_columns_of_one_definition() -> None:
    setting = pair_flip()
    rows = text_rows(setting)
    titles = [TABLE[index].title for index in measured_columns(rows)]
    header, _, *lines = re.findall(r"^\|.*\|$", to_markdown([setting]), re.MULTILINE)[: 2 + len(rows)]
    assert header == f"| {' | '.join(titles)} |"
    assert "label_wave" not in titles, "these runs have no score by this rule"
    for line, cells in zip(lines, rows, strict=True):
        shown = [cell.strip().replace("**", "").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert shown == [cells[index] for index in measured_columns(rows)]
    names = next(csv.reader(io.StringIO(to_csv([setting]))))
    assert [name for name in names if name in {each for column in TABLE for each in csv_names(column)}] == [
        name for column in TABLE for name in csv_names(column)
    ]
    assert [column.title for column in TABLE if len(column.meaning) < 10] == []


def test_the_best_value_of_a_column_is_bold() -> None:
    setting = pair_flip()
    first = setting.rows[0]
    assert first.stack == "elr"
    assert "last" in best_columns(setting)["elr"]
    assert [stack for stack, names in best_columns(setting).items() if "wall_seconds" in names] == [
        min(setting.rows, key=lambda row: row.wall_seconds.mean if row.wall_seconds else 9e9).stack
    ]
    (line,) = [line for line in to_latex([setting]).splitlines() if " & elr & " in line]
    assert r"\textbf{86.7 $\pm$ 0.3}" in line
    assert "**86.7 ± 0.3**" in to_markdown([setting])


def test_neither_privileged_stacks_nor_the_oracle_nor_a_single_value_is_best() -> None:
    def informed(made: RunRecord) -> RunRecord:
        return dataclasses.replace(made, stack="co_teaching", privileged=["noise_rate"])

    runs = [*example_records(), *(informed(record("co_teaching", seed, 0.99)) for seed in range(3))]
    (setting,) = settings_of(runs)
    best = best_columns(setting)
    assert setting.rows[0].stack == "co_teaching"
    assert best["co_teaching"] == []
    assert not any("oracle" in names or "rank" in names for names in best.values())
    assert sum("last" in names for names in best.values()) >= 1
    (alone,) = settings_of([record()])
    assert best_columns(alone) == {"gce": []}


def test_columns_are_chosen() -> None:
    setting = pair_flip()
    chosen = parse_columns("stack, noisy_val,wall_seconds")
    assert r"stack & noisy\_val & time (s) \\" in to_latex([setting], columns=chosen)
    assert r"\begin{tabular}{lrr}" in to_latex([setting], columns=chosen)
    assert "| stack | noisy_val | time (s) |" in to_markdown([setting], columns=chosen)
    assert parse_columns("") == []
    with pytest.raises(UserError, match="columns: expected each column once, but got `last` twice"):
        parse_columns("last,last")


def test_columns_are_checked_before_the_store_is_read(noisybench: Command) -> None:
    status, output = noisybench("leaderboard", "--format", "latex", "--columns", "stack,lats")
    assert status == 2
    assert "columns: unknown column `lats`; did you mean `last`" in output
    status, output = noisybench("leaderboard", "--format", "csv", "--columns", "stack")
    assert status == 2
    assert "--columns: applies to --format markdown and latex, but got --format csv; add --format markdown" in output
    for format, name, other in (("html", "a.csv", "html"), ("csv", "a.MD", "csv"), ("markdown", "a.tex", "md")):
        status, output = noisybench("leaderboard", "--suite", "shipped", "--format", format, "-o", name)
        assert status == 2
        assert f"{name} would be {format}, but its name ends in {name[1:].lower()}; choose a name in .{other}" in output
        assert not Path(name).exists()
    status, output = noisybench("leaderboard", "--suite", "shipped", "--label-set", "zzzz")
    assert status == 2
    assert "label_set: no finished run has a label set whose hash begins with `zzzz`; known: " in output


def test_the_citation_of_the_page_is_that_of_the_repository() -> None:
    stated = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    (author,) = stated["authors"]
    expected = {
        "author": f"{{{author['name']}}}",
        "title": f"{{{stated['title']}}}",
        "version": stated["version"],
        "license": stated["license"],
    }
    assert software_citation() == bibtex("software", "noisybench", expected)


def test_citations_of_a_board_are_those_of_its_methods_and_entries() -> None:
    payloads = [
        setting_payload(setting) for setting in build_settings(frozen_measurements()) if "pair_flip" in setting.title
    ]
    works = citations([payload.summary for payload in payloads])
    names = [name for name, _, _ in works]
    assert names[:2] == ["noisybench", "entry quickstart"]
    assert "elr: Liu et al. 2020" in names
    assert not any("el2n" in name for name in names), "the board has no such stack"
    assert {"co_teaching, pair_flip: Han et al. 2018", "digits: Alpaydin and Kaynak 1998"} <= {*names}
    settings = next(positions for name, _, positions in works if name == "entry quickstart")
    assert [payloads[position].summary["dataset"] for position in settings] == ["digits"]


def test_no_text_of_a_record_is_a_formula_in_a_csv_file() -> None:
    runs = [
        dataclasses.replace(run, environment={**run.environment, "noisybench": "=1+1"}) for run in example_records()
    ]
    cells = [cell for line in csv.reader(io.StringIO(to_csv(settings_of(runs)))) for cell in line]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]


def test_latex_knows_the_characters_of_exported_tables() -> None:
    assert latex_text("71.2 ▾ 3.0 × −1.5 σ ≤ 2 > 1") == (
        r"71.2 $\downarrow$ 3.0 $\times$ $-$1.5 $\sigma$ $\leq$ 2 $>$ 1"
    )

"""Generated inputs for all commands: none may end in an internal error, a traceback or a wait without end.

    NOISYBENCH_SLOW=1 python -m pytest tests/fuzz/test_fuzz.py -n 0

tries thousands of inputs. A failure names the command with which it is replayed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fuzz import report
from tests.fuzz.campaign import WEIGHTS, Case, describe, run_case
from tests.fuzz.commands import all_commands, settable_parameters
from tests.fuzz.execution import Call, Outcome, execute
from tests.fuzz.isolation import GUARD
from tests.fuzz.template import Template

INPUTS = 150 if os.environ.get("NOISYBENCH_SLOW") else 3
"""Number of inputs for each command, times its weight."""

SELDOM_ACCEPTED = {"runs equivalent", "leaderboard verify"}
"""Commands that may accept no generated input: an equivalence needs runs of two versions of the source code, and the
verification takes no overrides but places."""


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_no_generated_input_ends_in_an_internal_error(words: tuple[str, ...], template: Template) -> None:
    problems = []
    for seed in range(max(2, int(INPUTS * WEIGHTS.get(" ".join(words), 1)))):
        case = Case(words, seed)
        call, outcome = run_case(case, template)
        if outcome.problem:
            problems.append(describe(case, call, outcome))
    assert not problems, "\n\n".join(problems)


def test_a_case_is_the_same_each_time(template: Template) -> None:
    case = Case(("validate",), 3)
    first, _ = run_case(case, template)
    second, _ = run_case(case, template)
    assert [word.partition("/datasets/")[2] or word for word in first.arguments] == [
        word.partition("/datasets/")[2] or word for word in second.arguments
    ]


def test_all_commands_are_found() -> None:
    commands = all_commands()
    assert {("run",), ("labels", "create"), ("leaderboard",), ("leaderboard", "verify")} <= set(commands)
    # A new kind of parameter needs a generator: without a name of its own it is filled by its annotation.
    kinds = {parameter.type_descriptor.annotation for c in commands.values() for parameter in settable_parameters(c)}
    assert kinds <= {str, int, float, bool, Path, list[str], list[Path]}


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (Outcome(0, "done"), None),
        (Outcome(2, "error: seed: must be at least 0"), None),
        (Outcome(1, "internal error: KeyError: 'noise'"), "internal error"),
        (Outcome(2, "error: x\nTraceback (most recent call last):"), "traceback"),
        (Outcome(3, "x"), "exit status 3"),
        (Outcome(2, ""), "no message"),
        (Outcome(0, "", 61.0, hung=True), "hangs (stopped after 61 s)"),
    ],
)
def test_outcomes_are_classified(outcome: Outcome, problem: str | None) -> None:
    assert outcome.problem == problem


def test_an_exception_that_no_handler_catches_is_a_problem(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisybench.cli.catalog.nearest", lambda *_: 1 / 0)
    assert execute(Call(["describe", "nosuch"]), workspace).problem == "internal error"


def test_commands_under_test_cannot_write_outside_of_temporary_folders() -> None:
    place = Path("/written-by-a-command-under-test")
    with GUARD.active(), pytest.raises(PermissionError):
        place.write_text("x")
    assert not place.exists()


def test_the_page_shows_the_counts_of_the_campaign_and_no_internal_error() -> None:
    counts, text = json.loads(report.COUNTS.read_text()), report.PAGE.read_text(encoding="utf-8")
    assert text == report.page(text, counts), "run `python -m tests.fuzz.report`"
    # Every command has been tried, and each has accepted some of its inputs.
    assert {" ".join(words) for words in all_commands()} == set(counts["now"])
    assert {command for command, outcomes in counts["now"].items() if not outcomes.get("accepted")} <= SELDOM_ACCEPTED
    assert not any(outcomes.get("internal errors") for outcomes in counts["now"].values())

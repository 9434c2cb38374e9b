"""Leaderboard tables in terminals of several widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from noisybench.cli.preset_text import describe_published_recipe
from noisybench.config.published_recipes import published_recipes
from noisybench.leaderboard.measurements import builtin_measurements
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.terminal_tables import render_settings


def quickstart() -> list[Setting]:
    return [setting for setting in build_settings(builtin_measurements()) if setting.description.dataset == "digits"]


def printed(settings: list[Setting], width: int) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=width)
    for each in render_settings(settings, width):
        console.print(each)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_stack_has_one_line_with_its_name_and_its_score(width: int) -> None:
    for setting in quickstart():
        lines = printed([setting], width)
        for row in setting.rows:
            summary = row.scores["last"]
            assert summary is not None
            found = [line for line in lines if f" {row.stack} " in line and f"{100 * summary.mean:.1f} ±" in line]
            assert len(found) == 1, row.stack
            assert len(found[0]) <= width


def test_the_rule_that_ranks_is_shown_however_narrow_the_terminal() -> None:
    settings = [setting.ranked_by("last10") for setting in quickstart()]
    assert any("last10" in line.split() for line in printed(settings, 60))
    assert not any("last10" in line.split() for line in printed(quickstart(), 60))


def test_runs_without_a_score_by_a_rule_are_said_to_have_none() -> None:
    # These runs were measured before the rule existed.
    lines = printed([setting.ranked_by("label_wave") for setting in quickstart()], 200)
    found = {line for line in lines if line.startswith("No ranks")}
    assert found == {
        "No ranks: no run has a score by `label_wave`; it needs 4 epochs and the predictions for all training examples in each."
    }


def test_a_recipe_of_a_published_result_says_what_was_changed() -> None:
    recipe = published_recipes()["paper:elr-cifar10-sym40"]
    assert "differs: nothing" in describe_published_recipe(recipe)
    text = describe_published_recipe(recipe, ["budget.epochs=1"])
    assert "differs: budget.epochs=1, set on the command line" in text
    assert "nothing" not in text

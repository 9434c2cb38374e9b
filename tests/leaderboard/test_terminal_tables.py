"""Leaderboard tables in terminals of several widths."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from noisybench.api.leaderboard import Leaderboard
from noisybench.cli.preset_text import describe_published_recipe
from noisybench.config.published_recipes import published_recipes
from noisybench.errors import UserError
from noisybench.leaderboard.filters import select_settings
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.published import all_published
from noisybench.leaderboard.setting_description import short_titles
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.terminal_tables import LEAST_IMPORTANT, render_settings
from noisybench.leaderboard.text_tables import COLUMNS, published_line
from tests.leaderboard.frozen import frozen_measurements

SNAPSHOTS = Path(__file__).parent / "terminal"
WIDTHS = (60, 80, 100, 120)
PUBLISHED = tuple(result for result in all_published() if result.method == "ELR")


def quickstart() -> list[Setting]:
    return [setting for setting in build_settings(frozen_measurements()) if setting.description.dataset == "digits"]


def board() -> Leaderboard:
    """Return the frozen results of two suites: one of short names, and one of long ones."""
    chosen = [each for each in frozen_measurements() if each.setting.dataset == "digits" or "web" in each.setting.noise]
    return Leaderboard(chosen)


def printed(settings: list[Setting], width: int, wide: bool = False) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=width)
    for each in render_settings(settings, width, wide=wide):
        console.print(each, crop=False)
    return output.getvalue().splitlines()


def snapshot(width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(board())
    return "".join(f"{line.rstrip()}\n" for line in output.getvalue().splitlines())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_board_looks_as_before(width: int) -> None:
    """After an intended change: `python -m tests.leaderboard.test_terminal_tables`, and look at the difference."""
    text = snapshot(width)
    assert max(map(len, text.splitlines())) <= width
    assert text == (SNAPSHOTS / f"board-{width}.txt").read_text(encoding="utf-8")


def test_every_column_is_kept_or_has_a_place_in_the_order_of_hiding() -> None:
    assert {*COLUMNS} == {*LEAST_IMPORTANT, "stack", "published"}
    assert len({*LEAST_IMPORTANT}) == len(LEAST_IMPORTANT)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_a_name_is_broken(width: int) -> None:
    words = {word for line in snapshot(width).splitlines() for word in line.split()}
    for name in ("forward_correction", "cross_entropy", "bootstrapping", "three_block_cnn,", "privileged", "info"):
        assert name in words, width


def test_hidden_columns_are_named_and_wide_shows_them() -> None:
    settings = quickstart()[:1]
    (hidden,) = [line for line in printed(settings, 80) if line.startswith("Hidden")]
    assert hidden.startswith("Hidden for lack of width: last10, oracle, ")
    wide = printed(settings, 80, wide=True)
    assert not any(line.startswith("Hidden") for line in wide)
    header = next(line for line in wide if line.startswith("rank"))
    assert re.split("  +", header.rstrip()) == [
        "rank", "stack", "last", "last10", "noisy_val", "oracle", "oracle gap", "noise AUROC", "memorized", "ECE", "time (s)",
        "seeds", "privileged info", "verified",
    ]  # fmt: skip


def test_the_overview_shows_the_verdict_and_the_scores_of_each_setting_first() -> None:
    lines = printed(quickstart(), 80)
    first_table = lines.index("[1] digits · instance_dependent 40 %")
    overview = lines[:first_table]
    assert overview[0].rstrip() == "Verdict by `last`: digits · small_cnn, 30 epochs"
    assert any(line.split() == ["elr", "93.5", "96.6*", "86.7*", "97.2*"] for line in overview)
    assert any(line.split() == ["co_teaching", "†", "91.4", "92.4", "86.3*", "95.4*"] for line in overview)
    # Over a single setting there is nothing to look over.
    assert printed(quickstart()[:1], 80)[0].rstrip() == "digits · instance_dependent 40 %"


def test_filters_keep_the_ranks_among_all_stacks() -> None:
    settings = quickstart()
    ranks = {row.stack: settings[1].ranking.ranks[row.stack] for row in settings[1].rows}
    (setting,) = select_settings(settings, "PAIR_flip digits", ["gce", "sce"])
    assert [row.stack for row in setting.shown_rows] == ["gce", "sce"]
    assert {stack: setting.ranking.ranks[stack] for stack in ranks} == ranks
    text = "\n".join(printed([setting], 100))
    assert "2 of 8 stacks, ranked among all." in text
    assert "co_teaching" not in text


def test_filters_find_mitigations_in_stacks_and_short_names() -> None:
    settings = build_settings(builtin_measurements())
    found = {row.stack for each in select_settings(settings, stacks=["lsa"]) for row in each.shown_rows}
    assert found
    assert all("+lsa(" in stack for stack in found)
    name = "spectral_truncation (ridge, rank 512, penalty 1)"
    (setting,) = select_settings(settings, "pair_flip 40 % 18.6", [name, "elr"])
    whole = "spectral_truncation(mode=ridge, rank=512, penalty=1)"
    assert {row.stack for row in setting.shown_rows} == {whole, "elr"}


def test_the_title_of_a_setting_means_no_other_with_its_words() -> None:
    first, *_ = settings = quickstart()
    longer = dataclasses.replace(first, description=dataclasses.replace(first.description, epochs=90, budget="other"))
    titles = short_titles([each.description for each in (*settings, longer)])
    assert titles[0] == "digits · instance_dependent 40 % · epochs=30"
    for text in (titles[0], titles[0].upper(), "instance_dependent 40 … epochs=30"):
        assert select_settings([*settings, longer], text) == [first]
    assert select_settings([*settings, longer], "instance_dependent") == [first, longer]


def renamed(setting: Setting, names: dict[str, str]) -> Setting:
    """A setting whose stacks have other names."""
    rows = [dataclasses.replace(row, stack=names.get(row.stack, row.stack)) for row in setting.rows]
    return dataclasses.replace(setting, rows=tuple(rows))


@pytest.mark.parametrize(
    "name",
    ["simclr + lsa", "simclr (60 epochs) + lsa", "simclr + lsa †", "simclr + lsa*", "simclr … lsa", "…clr + lsa"],
)
def test_a_stack_is_found_by_each_name_that_is_shown(name: str) -> None:
    stacks = {"elr": "simclr(epochs=60)+lsa", "gce": "simclr(epochs=60)+lsa(detector_cycle=['loss'])"}
    settings = [renamed(each, stacks) for each in quickstart()]
    selected = select_settings(settings, stacks=[name])
    assert len(selected) == len(settings)
    assert {row.stack for each in selected for row in each.shown_rows} == {stacks["elr"]}


def test_a_short_name_of_several_stacks_is_refused_with_their_whole_names() -> None:
    stacks = {"elr": "full(cut=[1, 2, 3, 4])", "gce": "full(cut=[1, 2, 3, 5])"}
    settings = [renamed(each, stacks) for each in quickstart()]
    with pytest.raises(UserError) as raised:
        select_settings(settings, stacks=["full (4 cut)"])
    assert str(raised.value) == (
        "stack: `full (4 cut)` is the name of 2 stacks; give one of their whole names: full(cut=[1, 2, 3, 4]), "
        "full(cut=[1, 2, 3, 5])"
    )
    assert len(select_settings(settings, stacks=["full"])[0].shown_rows) == 2
    (row,) = select_settings(settings, stacks=[stacks["gce"]])[0].shown_rows
    assert row.stack == stacks["gce"]


@pytest.mark.parametrize(
    ("setting", "stacks", "message"),
    [
        ("pair_flop", [], "setting: no setting matches `pair_flop`; did you mean `pair_flip`?"),
        ("", ["erl"], "stack: no stack or mitigation is named `erl`; did you mean `elr`?"),
    ],
)
def test_a_filter_without_a_match_names_the_nearest(setting: str, stacks: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        select_settings(quickstart(), setting, stacks)


def test_published_values_stand_below_the_table() -> None:
    setting = quickstart()[0]
    rows = [dataclasses.replace(row, published=PUBLISHED if row.stack == "elr" else ()) for row in setting.rows]
    lines = printed([dataclasses.replace(setting, rows=tuple(rows))], 80)
    assert len([line for line in lines if line.split()[1:2] == ["elr"]]) == 1
    values = [result.value for result in PUBLISHED]
    assert len(values) > 5
    assert f"Published, in any protocol and network: elr {min(values):g} to {max(values):g}" in " ".join(lines)
    assert published_line(setting, {}) == ""


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


if __name__ == "__main__":
    for each in WIDTHS:
        (SNAPSHOTS / f"board-{each}.txt").write_text(snapshot(each), encoding="utf-8")


def test_a_name_with_many_cuts_is_compared_in_little_time() -> None:
    stacks = {"elr": "simclr(epochs=60)+lsa"}
    settings = [renamed(each, stacks) for each in quickstart()]
    (row,) = select_settings(settings, stacks=["…" * 40 + "…".join("clr+lsa") + "…"])[0].shown_rows
    assert row.stack == stacks["elr"]
    for text in ("…" * 40 + "#", "simclr…simclr…lsa", "sim…lsa…lsa"):
        with pytest.raises(UserError, match="no stack or mitigation is named"):
            select_settings(settings, stacks=[text])

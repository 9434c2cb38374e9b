"""The answer to "which method should I use?": leader, ties, gain, cost, overall answers, and the names and facets of the page."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from noisybench.leaderboard.answer import Answer, answer_of, headline
from noisybench.leaderboard.display_names import distinct_names, distinguishing_titles, short_name, stack_names
from noisybench.leaderboard.group_titles import group_titles
from noisybench.leaderboard.payload import setting_payload
from noisybench.leaderboard.verdict import find_in_setting
from noisybench.records.schema import RunRecord
from tests.leaderboard.test_leaderboard import board_of, record, settings_of

LEVELS = {"elr": 0.9, "gce": 0.85, "cross_entropy": 0.7, "co_teaching": 0.95}


def suite(levels: dict[str, float] = LEVELS, seeds: int = 3, names: str = "xyz", **fields: Any) -> list[RunRecord]:
    """Runs of several label sets; elr takes three times as long as the others, and co_teaching uses the noise rate."""
    found = []
    for name in names:
        for stack, level in levels.items():
            for seed in range(seeds):
                made = record(stack, seed, level, label_set=name * 64, **fields)
                cost = dataclasses.replace(made.cost, wall_seconds=9.0 if stack == "elr" else 3.0)
                privileged = ["noise_rate"] if stack == "co_teaching" else []
                found.append(dataclasses.replace(made, cost=cost, privileged=privileged))
    return found


def answers(runs: list[RunRecord]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = board_of(runs).sections["answer"]
    return groups


def test_the_answer_names_leader_gain_cost_and_privileged_information() -> None:
    (group,) = answers(suite())
    answer = group["rules"]["last"]["answer"]
    assert (answer["leader"], answer["is_best"], answer["ties"]) == ("elr", True, ())
    assert (answer["num_stacks"], answer["num_first"], answer["num_settings"]) == (3, 3, 3)
    assert answer["time"] == pytest.approx(3.0)
    assert answer["gain"]["difference"] == pytest.approx(0.2, abs=0.01)
    assert answer["gain"]["low"] < answer["gain"]["difference"] < answer["gain"]["high"]
    assert answer["runner_up"]["stack"] == "gce"
    assert answer["privileged"]["difference"] == pytest.approx(-0.05, abs=0.01)
    assert answer["privileged"]["needs"] == ("noise_rate",)
    assert group["rules"]["last"]["headline"] == "elr is best"


def test_ties_are_named() -> None:
    (group,) = answers(suite({"elr": 0.9, "gce": 0.9001, "cross_entropy": 0.7}))
    found = group["rules"]["last"]
    assert not found["answer"]["is_best"]
    assert {found["answer"]["leader"], *found["answer"]["ties"]} == {"elr", "gce"}
    assert found["headline"] == "gce leads, not separated from elr"
    assert found["claim"] == ("gce", "leads without privileged information")


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_stack_leads_where_scores_are_equal(seeds: int) -> None:
    (group,) = answers(suite({"elr": 0.9, "gce": 0.9, "cross_entropy": 0.7}, seeds))
    found = group["rules"]["last"]
    sentence = "no stack leads without privileged information: elr, gce have equal scores"
    assert " ".join(found["claim"]) == sentence
    assert found["headline"] == "no stack leads: elr, gce have equal scores"
    # The sentences of the verdict say the same.
    assert all(each.startswith(sentence) for each in found["sentences"][:1])
    assert bool(found["sentences"]) == (seeds > 1)


def test_a_single_setting_has_the_ties_of_its_ranks() -> None:
    runs = suite({"elr": 0.9, "gce": 0.9, "cross_entropy": 0.7}, names="x")
    board = board_of(runs)
    (group,) = board.sections["answer"]
    answer, ranks = group["rules"]["last"]["answer"], board.settings[0]["ranks"]
    assert {answer["leader"], *answer["ties"]} == {stack for stack, by_rule in ranks.items() if by_rule[0] == 1}
    assert answer["gain"]["low"] is not None


def test_one_seed_gives_one_answer_per_budget_without_intervals() -> None:
    (group,) = answers(suite(seeds=1))
    answer = group["rules"]["last"]["answer"]
    assert len(group["settings"]) == 3
    assert (answer["leader"], answer["probability"], answer["is_best"]) == ("elr", None, False)
    assert answer["gain"]["low"] is None
    assert answer["privileged"]["stack"] == "co_teaching"


def test_a_setting_with_one_method_has_no_answer() -> None:
    assert answers(suite({"elr": 0.9})) == []
    assert answers([]) == []


def test_an_overall_answer_joins_budgets_that_share_their_methods() -> None:
    longer = [
        dataclasses.replace(run, spec={**run.spec, "budget": {**run.spec["budget"], "epochs": 30}})
        for run in suite(names="uvw", budget="c" * 12)
    ]
    groups = answers([*suite(), *longer])
    assert [group["overall"] for group in groups] == [True, False, False]
    overall = groups[0]["rules"]["last"]["answer"]
    assert (overall["leader"], overall["num_settings"]) == ("elr", 6)
    assert len(set(groups[0]["labels"])) == 6, "columns of a matrix have different heads"
    assert any("12 epochs" in label for label in groups[0]["labels"])
    other_engine = [dataclasses.replace(run, code={"engine": "d" * 16}) for run in longer]
    assert not any(group["overall"] for group in answers([*suite(), *other_engine])), "engines are never mixed"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("el2n(num_networks=5, epochs=2)", "el2n (5 networks, 2 epochs)"),
        ("random_pruning(keep_fraction=0.4)", "random_pruning (keep 40 %)"),
        ("a(flag=True)+b(flag=False)", "a (flag) + b (no flag)"),
        ("lsa(detector_cycle=['linear', 'loss'])", "lsa (linear loss detector cycle)"),
        ("spectral(probe_epochs=[0, 1, 2, 5])", "spectral (4 probe epochs)"),
        ("transfer(pretraining=sym(rate=0.05), spectrum=raw)", "transfer (pretraining sym 5 %, raw spectrum)"),
        ("web(rate=0.2, source=pixel_permuted)", "web 20 % (pixel permuted)"),
        ("digits(subset_range=[0.5, 1.0])", "digits (subset range 0.5–1.0)"),
        ("cross_entropy", "cross_entropy"),
        ("elr(beta=0.9) (tuned on clean labels, 5 trials)", "elr (beta 0.9) (tuned on clean labels, 5 trials)"),
        ("mix(parts=[{'name': 'gce', 'q': 0.5}, {'name': 'elr'}], cut=None)", "mix (gce (q 0.5) elr parts, no cut)"),
        ("mix(noise={'name': 'pair_flip', 'flag': True}, parts=[])", "mix (noise pair_flip (flag), no parts)"),
        ("it's (a, b", "it's (a, b"),
        ("f(a, b)", "f(a, b)"),
        ("", ""),
    ],
)
def test_short_names_are_words(name: str, short: str) -> None:
    assert short_name(name) == short


def test_short_names_never_join_two_names() -> None:
    names = ["f(steps=[1, 2, 3, 4])", "f(steps=[1, 2, 3, 5])", "gce(q=0.7)"]
    assert list(distinct_names(names).values()) == [*names[:2], "gce (q 0.7)"]


def test_stacks_are_shown_without_the_parameters_that_all_share() -> None:
    names = ["s(epochs=60)+lsa", "s(epochs=60)+lsa(cycle=['loss'])", "s(epochs=60)+mixup(alpha=2)", "gce(q=0.7)", "gce"]
    assert list(stack_names(names).values()) == [
        "s + lsa",
        "s + lsa (loss cycle)",
        "s + mixup (alpha 2)",
        "gce (q 0.7)",
        "gce",
    ]


def test_columns_show_what_distinguishes_them() -> None:
    titles = [
        ("digits(n=5)", "web(ood=0.4, id=0.2)", ""),
        ("digits(n=5)", "clean", ""),
        ("digits(n=5)", "web(ood=0.6, id=0.2)", ""),
    ]
    assert distinguishing_titles(titles) == ["web (ood 0.4)", "clean", "web (ood 0.6)"]
    assert distinguishing_titles(titles[:1]) == ["digits (n 5) · web (ood 0.4, id 0.2)"]
    assert distinguishing_titles([("digits", "sym(rate=0.2)")] * 2) == ["digits · sym 20 %"] * 2


def test_one_label_set_under_two_budgets_has_two_labels() -> None:
    def other_budget(runs: list[RunRecord], **budget: Any) -> list[RunRecord]:
        return [
            dataclasses.replace(run, spec={**run.spec, "budget": {**run.spec["budget"], **budget}}, budget="c" * 12)
            for run in runs
        ]

    runs = suite(names="x")
    assert answers([*runs, *other_budget(runs, epochs=30)])[0]["labels"] == ["12 epochs", "30 epochs"]
    rates = answers([*runs, *other_budget(runs, learning_rate=0.3)])[0]["labels"]
    assert rates == ["budget bbbbbbbb", "budget cccccccc"]


def test_no_stack_is_separated_whose_interval_includes_zero() -> None:
    (setting,) = settings_of(suite({"elr": 0.9, "gce": 0.8, "cross_entropy": 0.7}, names="x"))
    payload = setting_payload(setting)
    found = find_in_setting(payload.seed_scores, "last")
    assert found is not None
    assert answer_of(found, [payload], "last").is_best
    # As of a leader with few seeds, which a stack between the two is separated from both.
    noisy = dataclasses.replace(found, margins=tuple(dataclasses.replace(each, low=-0.01) for each in found.margins))
    assert answer_of(noisy, [payload], "last").ties == ("gce", "cross_entropy")


def test_headlines_never_give_two_stacks_one_name() -> None:
    stacks = ("f(steps=[1, 2, 3, 4])", "f(steps=[1, 2, 3, 5])")
    answer = Answer(stacks[0], False, stacks[1:], (), 0.6, 2, 1, 1, None, None, None, None)
    assert headline(answer, stack_names(stacks)) == f"{stacks[0]} leads, not separated from {stacks[1]}"


def test_groups_of_one_title_say_what_differs() -> None:
    def group(dataset: str, task: str, budget: str) -> list[dict[str, Any]]:
        return [{"dataset": dataset, "task": task, "budget": budget, "facets": {"network": "mlp, 3 epochs"}}]

    groups = [
        group("digits(n=5)", "t(rate=0.1)", "a"),
        group("digits(n=5)", "t(rate=0.2)", "b"),
        group("digits(n=5)", "t(rate=0.2)", "c"),
        group("digits(n=5)", "", "d"),
    ]
    assert group_titles(groups) == [
        "digits · t 10 % · mlp, 3 epochs",
        "digits · t 20 % · mlp, 3 epochs · budget b",
        "digits · t 20 % · mlp, 3 epochs · budget c",
        "digits · mlp, 3 epochs",
    ]

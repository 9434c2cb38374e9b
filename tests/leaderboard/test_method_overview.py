"""The overview of all methods: what it computes from code, registry and measurements."""

from __future__ import annotations

import dataclasses

import pytest

from noisybench.config.registry import get_entry, list_entries
from noisybench.config.suite import read_suite
from noisybench.leaderboard.measurements import Measurement, measure
from noisybench.leaderboard.method_overview import BoardPlace, board_places, count_lines, method_overviews
from tests.leaderboard.test_leaderboard import record

pytestmark = pytest.mark.fast


def measured(levels: dict[str, float], seconds: dict[str, float], board: str, seeds: int = 3) -> list[Measurement]:
    cost = record().cost
    return [
        measure(record(stack, seed, level, cost=dataclasses.replace(cost, wall_seconds=seconds[stack])), entry=board)
        for stack, level in levels.items()
        for seed in range(seeds)
    ]


LEVELS = {"elr(beta=0.5)": 0.95, "gce": 0.9, "elr(beta=0.9)": 0.85, "simclr(epochs=60)+lsa": 0.8, "cross_entropy": 0.5}
SECONDS = {"elr(beta=0.5)": 3.0, "gce": 2.0, "elr(beta=0.9)": 5.0, "simclr(epochs=60)+lsa": 20.0, "cross_entropy": 2.0}


def test_places_and_costs_are_those_of_the_measured_board() -> None:
    places = {place.stack: place for place in board_places(measured(LEVELS, SECONDS, "board"))}
    assert {stack: place.place for stack, place in places.items()} == {stack: n for n, stack in enumerate(LEVELS, 1)}
    assert {stack: place.cost for stack, place in places.items()} == {each: SECONDS[each] / 2 for each in LEVELS}
    assert places["elr(beta=0.5)"] == BoardPlace("board", "elr(beta=0.5)", 1, 5, 1, 1, 1.5)
    assert places["cross_entropy"].best == 0


def test_runs_of_no_entry_and_boards_of_one_stack_have_no_places() -> None:
    assert not board_places(measured(LEVELS, SECONDS, ""))
    assert not board_places(measured({"gce": 0.9}, SECONDS, "board"))


def test_stacks_are_placed_by_the_settings_that_all_of_them_have() -> None:
    easy = [
        measure(record(stack, seed, level, label_set="c" * 64), entry="board")
        for stack, level in {"gce": 0.99, "cross_entropy": 0.98}.items()
        for seed in range(3)
    ]
    hard = measured(
        {"elr": 0.7, "gce": 0.6, "cross_entropy": 0.5}, dict.fromkeys(("elr", "gce", "cross_entropy"), 2.0), "board"
    )
    places = {place.stack: (place.place, place.ranked) for place in board_places([*easy, *hard])}
    assert places == {"elr": (1, 1), "gce": (2, 2), "cross_entropy": (3, 2)}


def test_one_seed_gives_a_place_but_no_rank() -> None:
    (elr, *_) = board_places(measured(LEVELS, SECONDS, "board", seeds=1))
    assert (elr.place, elr.best, elr.ranked) == (1, 0, 0)


def test_a_method_has_its_own_stacks_or_those_that_contain_it() -> None:
    overviews = {each.card.name: each for each in method_overviews(measured(LEVELS, SECONDS, "board"))}
    found = {name: [place.stack for place in overviews[name].places] for name in ("elr", "lsa", "mixup")}
    assert found == {"elr": ["elr(beta=0.5)", "elr(beta=0.9)"], "lsa": ["simclr(epochs=60)+lsa"], "mixup": []}
    assert overviews["trimmed_loss"].needs == ("noise rate",)
    assert overviews["pes"].needs == ("4 phases",)
    assert overviews["dividemix"].needs == ("2 networks", "2 views", "state per example")
    assert overviews["aum"].needs == ("auxiliary run",)
    assert overviews["gce"].shared_lines == 0 < overviews["co_teaching"].shared_lines


def test_lines_of_code_are_counted_by_hand_alike() -> None:
    source = get_entry("mitigations", "mixup").source.read_text(encoding="utf-8")
    card, rest = source.partition("    fidelity = Fidelity(")[1:]
    without_card = source.replace(card + rest.partition("\n    )\n")[0] + "\n    )\n", "")
    assert count_lines(source) == count_lines(without_card)
    assert count_lines('"""Text."""\n\n\nX = """a\n\nb"""  # comment\n\n\ndef f() -> None:\n    """Text."""\n') == 4


def test_the_suite_of_all_methods_has_every_mitigation_for_classes() -> None:
    classes = {each.card.name for each in method_overviews([]) if each.card.tasks[0] == "classification"}
    specs = read_suite("all-methods")
    missing = classes - {member.name for spec in specs for member in spec.mitigations}
    assert not missing, f"add {', '.join(sorted(missing))} to configs/suites/all-methods.yaml"
    assert classes < set(list_entries("mitigations"))
    assert {(spec.noise.name, spec.seed) for spec in specs} == {
        (noise, seed) for noise in ("symmetric_exclusive", "pair_flip") for seed in range(3)
    }

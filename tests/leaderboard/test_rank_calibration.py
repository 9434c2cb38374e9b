"""Error rates and power of the default ranking test, by simulation.

    NOISYBENCH_SLOW=1 python -m pytest tests/leaderboard/test_rank_calibration.py -n 0 -s

prints the whole table. Ordinary runs check a few of its cells with fewer tables.
"""

from __future__ import annotations

import os

import pytest

from noisybench.leaderboard.pair_model import Test
from tests.leaderboard.simulated_ranks import CASES, family_wise_error, relative_power

SLOW = bool(os.environ.get("NOISYBENCH_SLOW"))
STACKS = (3, 5, 8, 10)
SEEDS = (3, 4, 5, 10)
TABLES = 5000
NAMED = {case.name: case for case in CASES}

CEILING = 0.08
"""Largest family-wise error in any case but the last: .07 was measured, where anova has .15."""
HARDEST = "accuracies of .97 and .999"
HARDEST_CEILING = 0.11
"""Largest family-wise error where half of the stacks have 30 times the variance of the others: .095 was measured."""


@pytest.mark.parametrize(
    ("name", "stacks", "seeds"),
    [
        ("normal, 0 unstable", 8, 5),
        ("normal, 1 unstable", 8, 3),
        ("normal, 2 unstable", 10, 4),
        ("ragged, 1 unstable", 5, 5),
        ("skewed", 5, 3),
        ("accuracies of 0.999", 8, 3),
        ("accuracies of 0.97", 3, 10),
    ],
)
def test_family_wise_error_is_held(name: str, stacks: int, seeds: int) -> None:
    assert family_wise_error(NAMED[name], "moderated_t", stacks, seeds, 2000) < CEILING


@pytest.mark.parametrize(("name", "stacks"), [("normal, 1 unstable", 8), ("normal, 2 unstable", 10)])
def test_one_variance_for_all_stacks_separates_an_unstable_one_twice_as_often(name: str, stacks: int) -> None:
    pooled, moderated = (family_wise_error(NAMED[name], test, stacks, 5, 2000) for test in ("anova", "moderated_t"))
    assert pooled > 0.11
    assert moderated < pooled / 2


def test_moderation_costs_little_power_where_spreads_are_equal() -> None:
    assert relative_power("moderated_t", 3, 3, 1500) > 0.95
    assert relative_power("moderated_t", 8, 5, 1500) > 0.9
    assert relative_power("paired_t", 8, 5, 1500) < 0.5, "which the paired t-test pays"


@pytest.mark.skipif(not SLOW, reason="NOISYBENCH_SLOW is not set")
def test_the_whole_table() -> None:
    tests: tuple[Test, ...] = ("moderated_t", "anova", "paired_t")
    print(f"\nfamily-wise error; stacks {STACKS}, for each seeds {SEEDS}")
    for case in CASES:
        for test in tests:
            cells = [
                [family_wise_error(case, test, stacks, seeds, TABLES) for seeds in SEEDS]
                for stacks in STACKS
                if stacks > 3 or "2 unstable" not in case.name
            ]
            print(f"{case.name:28s} {test:12s}", " | ".join(" ".join(f"{cell:.3f}" for cell in row) for row in cells))
            if test == "moderated_t":
                limit = HARDEST_CEILING if case.name == HARDEST else CEILING
                assert max(max(row) for row in cells) < limit, case.name
    for reference in (0.8, 0.5):
        for test in ("moderated_t", "paired_t"):
            powers = [[relative_power(test, k, n, TABLES // 2, reference) for n in SEEDS] for k in STACKS]
            print(
                f"power over that of anova, {reference} {test:12s}",
                " | ".join(" ".join(f"{cell:.3f}" for cell in row) for row in powers),
            )
            if test == "moderated_t" and reference == 0.8:
                # Three seeds of many stacks cannot show that spreads are equal; from four on the cost is small.
                assert min(min(row[1:]) for row in powers) > 0.87
                assert min(row[0] for row in powers) > 0.75

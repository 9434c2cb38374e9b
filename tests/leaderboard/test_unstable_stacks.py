"""Stacks that vary far more over seeds than the others: they are named, and lift no other stack."""

from __future__ import annotations

import numpy as np
import pytest

from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.standings import best_group
from noisybench.leaderboard.statistics import rank, unstable_stacks
from noisybench.leaderboard.table import Setting, build_settings


def shipped(entry: str, noise: str) -> Setting:
    runs = [each for each in builtin_measurements() if each.entry == entry and each.setting.noise.startswith(noise)]
    (setting,) = build_settings(runs)
    return setting


def table_with_an_unstable_stack() -> dict[str, dict[int, float]]:
    """Return elr 86.7 ± 0.3, gce 73.6 ± 0.4 and forward_correction 78 ± 12.8 among steady stacks."""
    means = {
        "elr": (86.7, 0.3),
        "co_teaching": (86.2, 0.5),
        "forward_correction": (78.0, 12.8),
        "gce": (73.6, 0.4),
        "sce": (70.0, 0.4),
    }
    # Three values with mean 0 and deviation 1, turned for each stack so that no two go in parallel.
    shape = np.array([-1.0, 0.0, 1.0])
    return {
        stack: dict(enumerate((mean + deviation * np.roll(shape, number)) / 100))
        for number, (stack, (mean, deviation)) in enumerate(means.items())
    }


def test_an_unstable_stack_lifts_no_other() -> None:
    values = table_with_an_unstable_stack()
    pooled, ranks = rank(values, "anova", 1 / 360).ranks, rank(values, resolution=1 / 360).ranks
    assert pooled["gce"] == 1, "one variance for all stacks puts gce on rank 1 beside elr"
    assert (ranks["elr"], ranks["co_teaching"]) == (1, 1)
    assert ranks["gce"] > 1
    assert ranks["forward_correction"] == 1, "nothing is established about it"


def test_a_stack_that_varies_too_much_to_be_separated_is_not_among_the_best() -> None:
    """Scores and ranks of 50 stacks with three seeds: nothing separates 32.7, 50.8 and 40.5 from 98.2, 98.2 and 98.2."""
    scores = {
        "oracle_pruning": 98.2,
        "promix": 97.1,
        "elr_plus": 88.9,
        "elr": 87.0,
        "trimmed_loss": 85.8,
        "backward": 41.4,
    }
    ranks = {"oracle_pruning": 1, "promix": 1, "elr_plus": 1, "elr": 4, "trimmed_loss": 1, "backward": 1}
    assert best_group(ranks, scores, {"oracle_pruning", "trimmed_loss"}) == {"oracle_pruning", "promix", "elr_plus"}
    # The leader counts as best, whatever the ranks of those below it are.
    assert best_group({"gce": 2, "sce": 1, "elr": 1}, {"gce": 0.8, "sce": 0.7, "elr": 0.9}, {"elr"}) == {
        "gce",
        "sce",
        "elr",
    }
    tied = {"elr": 0.9, "gce": 0.8, "sce": 0.8}
    assert best_group({"elr": 1, "gce": 1, "sce": 2}, tied, {"elr"}) == {"elr", "gce"}
    assert best_group({"elr": 1, "gce": 2, "sce": None}, {"elr": 0.9, "gce": 0.8}, {"elr", "gce"}) == {"elr"}


def test_only_the_unstable_stack_is_named() -> None:
    (found,) = unstable_stacks(table_with_an_unstable_stack(), 1 / 360)
    assert (found.stack, round(100 * found.deviation, 1), round(100 * found.median, 1)) == (
        "forward_correction",
        12.8,
        0.4,
    )


def test_the_table_names_an_unstable_stack() -> None:
    setting = shipped("quickstart", "pair_flip")
    (warning,) = [each for each in setting.warnings if "unstable" in each]
    assert warning.startswith("forward_correction is unstable: sd ")


@pytest.mark.parametrize(("stacks", "seeds"), [(3, 3), (8, 3), (8, 5)])
def test_equal_spreads_are_seldom_called_unstable(stacks: int, seeds: int) -> None:
    rng = np.random.default_rng(stacks)
    tables = rng.normal(size=(600, stacks, seeds))
    named = sum(
        bool(unstable_stacks({str(i): dict(enumerate(row)) for i, row in enumerate(table)})) for table in tables
    )
    assert named <= 600 * 0.02

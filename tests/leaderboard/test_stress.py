"""Stress cards: their values on scores with known curves, their uncertainty, and every way to read them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from noisybench.cli.app import app
from noisybench.config.suite import read_suite
from noisybench.errors import UserError
from noisybench.leaderboard import stress_text
from noisybench.leaderboard.breakdown import find_breakdown
from noisybench.leaderboard.page import to_html
from noisybench.leaderboard.stress import StressCard, StressTable, area_summary, stress_point, stress_tables
from noisybench.records.schema import RunRecord
from noisybench.runs import runner
from noisybench.tracking.store import Store
from tests.leaderboard.test_leaderboard import board_of, record, settings_of

RATES = (0.0, 0.2, 0.4, 0.6)
CURVES: dict[str, Callable[[float], float]] = {
    "cross_entropy": lambda rate: 0.9 - rate,
    # Meets cross-entropy at half the rate, 0.9 - rate / 2, at a rate of 0.45.
    "gce": lambda rate: 0.9 - rate / 2 + 0.2 * (0.45 - rate),
    "elr": lambda rate: 0.88 - 0.1 * rate,
    "mixup": lambda rate: 0.85 - rate,
}


def run(stack: str, seed: int, rate: float, level: float, noise: str = "pair_flip", draw: int = 0) -> RunRecord:
    """A finished run without noise in its scores but a common effect of the seed."""
    name = "clean" if rate == 0 else f"{noise}(rate={rate}{f', seed={draw}' if draw else ''})"
    made = record(stack, seed, label_set=f"{name:*<64}", noise=name)
    rows = [dataclasses.replace(row, test_score=level) for row in made.rows]
    # The manifest has the measured rate, which differs from that of the noise model.
    manifest = {**made.manifest, "actual_noise_rate": rate}
    return dataclasses.replace(made, rows=rows, manifest=manifest, test_recall=[level] * 9 + [level / 2])


def suite(seeds: int = 5, rates: Sequence[float] = RATES, spread: float = 0.0) -> list[RunRecord]:
    """Runs of all curves at all rates."""
    rng = np.random.default_rng(0)
    return [
        run(stack, seed, rate, curve(rate) + 0.001 * seed + spread * rng.normal())
        for rate in rates
        for stack, curve in CURVES.items()
        for seed in range(seeds)
    ]


def tables_of(runs: Sequence[RunRecord], rule: str = "last") -> list[StressTable]:
    points = [point for setting in settings_of(runs) if (point := stress_point(setting)) is not None]
    return stress_tables(points, rule)


def cards_of(runs: Sequence[RunRecord]) -> Mapping[str, StressCard]:
    (table,) = tables_of(runs)
    return {card.stack: card for card in table.cards}


def test_curve_area_breakdown_and_cost_of_known_curves() -> None:
    cards = cards_of(suite())
    assert list(cards) == ["elr", "gce", "cross_entropy", "mixup"], "by area"
    gce = cards["gce"]
    assert [round(score.mean, 4) for score in gce.curve if score] == [0.992, 0.852, 0.712, 0.572]
    # The mean of the line over rates from 0 to 0.6, plus the mean effect of the seeds.
    assert gce.area is not None
    assert gce.area.mean == pytest.approx(CURVES["gce"](0.3) + 0.002)
    assert gce.breakdown is not None
    assert gce.breakdown.state == "inside"
    assert gce.breakdown.rate == pytest.approx(0.45, abs=1e-6)
    assert gce.clean_cost is not None
    assert gce.clean_cost.difference == pytest.approx(-0.09)
    assert gce.worst_class[-1] is not None
    assert gce.worst_class[-1].mean == pytest.approx(CURVES["gce"](0.6) / 2 + 0.001)
    assert (gce.seeds, cards["cross_entropy"].breakdown, cards["cross_entropy"].clean_cost) == (5, None, None)


def test_breakdown_points_beyond_the_measured_rates_are_censored() -> None:
    cards = cards_of(suite())
    elr, mixup = cards["elr"].breakdown, cards["mixup"].breakdown
    assert elr is not None
    assert (elr.state, elr.rate, elr.high) == ("above", 0.6, 0.6)
    assert stress_text.breakdown_text(elr) == ">60"
    assert mixup is not None
    assert (mixup.state, mixup.low) == ("below", None)
    assert stress_text.breakdown_text(mixup).startswith("none [none, ")


def test_a_cost_on_clean_data_does_not_hide_that_a_stack_withstands_noise() -> None:
    # At rate 0 cross-entropy is 2 points above elr, which is above it from a rate of 0.05 on.
    card = cards_of(suite())["elr"]
    assert card.clean_cost is not None
    assert card.clean_cost.difference == pytest.approx(0.02)
    assert card.breakdown is not None
    assert card.breakdown.state == "above"


def test_the_cost_on_clean_data_is_that_of_all_clean_settings() -> None:
    runs = [run(stack, seed, 0.4, 0.5) for stack in ("cross_entropy", "gce") for seed in range(3)]
    for number, cost in enumerate((0.02, 0.06)):
        for seed in range(3):
            for stack, level in (("cross_entropy", 0.9), ("gce", 0.9 - cost + 0.001 * seed)):
                made = run(stack, seed, 0.0, level)
                runs.append(dataclasses.replace(made, label_set=f"{number}" * 64))
    found = cards_of(runs)["gce"].clean_cost
    assert found is not None
    assert found.difference == pytest.approx(0.04 - 0.001)
    assert found.low is not None
    assert found.high is not None
    # The standard deviation over seeds is 0.001 in both, with 3 seeds each.
    assert found.high - found.difference == pytest.approx(2.776 * 0.001 / 6**0.5, rel=0.2)


def test_without_clean_labels_the_breakdown_point_starts_at_twice_the_smallest_rate() -> None:
    cards = cards_of(suite(rates=(0.2, 0.6)))
    assert cards["gce"].breakdown is not None
    assert cards["gce"].breakdown.rate == pytest.approx(0.45, abs=1e-6)
    assert cards["mixup"].breakdown is not None
    assert cards["mixup"].breakdown.rate == pytest.approx(0.4)
    assert cards["gce"].clean_cost is None
    assert cards_of(suite(rates=(0.4, 0.6)))["gce"].breakdown is None, "half of no rate lies between measured ones"


def test_intervals_cover_the_truth() -> None:
    rng, covered, areas = np.random.default_rng(0), [], []
    for _ in range(400):
        own, baseline = (
            [{seed: CURVES[stack](rate) + 0.01 * rng.normal() for seed in range(3)} for rate in RATES]
            for stack in ("gce", "cross_entropy")
        )
        found = find_breakdown(RATES, own, baseline, 0.001)
        assert found is not None
        assert found.high is not None
        low = found.low or 0.0
        assert low <= found.rate <= found.high
        covered.append(low <= 0.45 <= found.high)
        area = area_summary(RATES, own)
        assert area is not None
        assert area.low is not None
        assert area.high is not None
        areas.append(area.low <= CURVES["gce"](0.3) <= area.high)
    # The standard error of a coverage of 95 % is 1.1 % with 400 draws.
    assert 0.92 <= np.mean(covered) <= 0.98
    assert 0.92 <= np.mean(areas) <= 0.98


def test_one_seed_has_no_interval() -> None:
    single = cards_of(suite(seeds=1))["gce"]
    assert single.breakdown is not None
    assert single.area is not None
    assert single.clean_cost is not None
    assert (single.breakdown.high, single.area.low, single.clean_cost.low, single.seeds) == (None, None, None, 1)
    assert stress_text.breakdown_text(single.breakdown) == "45"


def test_draws_of_one_noise_are_one_rate_and_other_noise_models_have_their_own_table() -> None:
    levels = {"gce": 0.8, "cross_entropy": 0.6}
    runs = [run(stack, seed, 0.0, 0.9) for stack in levels for seed in range(2)]
    for stack, level in levels.items():
        for seed in range(2):
            runs += [run(stack, seed, 0.4, level - 0.1 * draw, draw=draw) for draw in range(2)]
            runs.append(run(stack, seed, 0.3, level, noise="symmetric_exclusive"))
    tables = tables_of(runs)
    assert [(table.noise, table.rates) for table in tables] == [
        ("pair_flip", (0.0, 0.4)),
        ("symmetric_exclusive", (0.0, 0.3)),
    ]
    score = tables[0].cards[0].curve[1]
    assert score is not None
    assert score.mean == pytest.approx(0.75)


def test_unrelated_files_and_stacks_with_other_code_have_no_card() -> None:
    runs = [run("gce", seed, rate, 0.8, noise="from_file") for rate in (0.2, 0.4) for seed in range(2)]
    assert tables_of(runs) == []
    runs = suite(seeds=2, rates=(0.0, 0.4))
    mended = [
        dataclasses.replace(each, code={**each.code, "mitigations.gce": "f" * 16})
        if each.stack == "gce" and each.noise == "clean"
        else each
        for each in runs
    ]
    (table,) = tables_of(mended)
    assert table.left_out == ("gce: its code differs between rates",)
    assert "gce" not in [card.stack for card in table.cards]


def test_every_format_has_the_same_values() -> None:
    tables = tables_of(suite(spread=0.01))
    rows = list(csv.DictReader(io.StringIO(stress_text.to_csv(tables))))
    (gce,) = [row for row in rows if row["stack"] == "gce" and row["measure"] == "breakdown"]
    payload = json.loads(json.dumps(stress_text.payload(tables[0]), allow_nan=False))
    (card,) = [each for each in payload["cards"] if each["stack"] == "gce"]
    assert float(gce["value"]) == card["breakdown"]["rate"]
    assert float(gce["low"]) == card["breakdown"]["low"]
    assert len([row for row in rows if row["stack"] == "gce" and row["measure"] == "score"]) == len(RATES)
    markdown = stress_text.to_markdown(tables)
    assert all(f"| {card.stack} |" in markdown for card in tables[0].cards)
    board = board_of(suite())
    assert [group["rules"]["last"]["noise"] for group in board.sections["stress"]] == ["pair_flip"]
    assert 'id="section-stress"' in to_html(board)


def test_the_command_shows_a_tiny_suite(store: Store) -> None:
    Path("tiny.yaml").write_text(
        "base: {dataset: {name: digits, train_size: 60, test_size: 40}, budget: {network: small_cnn, epochs: 1}}\n"
        "noise: [clean, {name: pair_flip, rate: 0.4}]\nstacks: [cross_entropy, gce]\nseeds: [0]\n"
    )
    for spec in read_suite("tiny.yaml"):
        runner.execute(spec, store, lambda kind, data: None, lambda: False)
    result = CliRunner().invoke(
        app,
        ["leaderboard", "stress", "--suite", "tiny.yaml", "-f", "json", "-o", "stress.json"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    (table,) = json.loads(Path("stress.json").read_text())
    assert table["noise"] == "pair_flip"
    assert sorted(card["stack"] for card in table["cards"]) == [
        "cross_entropy",
        "gce",
    ]
    assert all(0 <= card["worst_class"][-1][0] <= 1 for card in table["cards"])
    text = CliRunner().invoke(app, ["leaderboard", "stress"], catch_exceptions=False).output
    assert "breakdown" in text
    assert "pair_flip" in text
    with pytest.raises(UserError, match="unknown rule `oracle`"):
        CliRunner().invoke(app, ["leaderboard", "stress", "--rule", "oracle"], catch_exceptions=False)
    Path("tiny.yaml").write_text(Path("tiny.yaml").read_text().replace("[clean, ", "["))
    with pytest.raises(UserError, match="no stress cards: they need runs of two settings"):
        CliRunner().invoke(app, ["leaderboard", "stress", "--suite", "tiny.yaml"], catch_exceptions=False)

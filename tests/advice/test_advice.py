"""Advice: which candidates it takes from measurements, what it chooses, its regret, and the command from labels to recipe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from noisybench.advice import candidates as candidates_room
from noisybench.advice import evaluation as evaluation_room
from noisybench.advice.candidates import Candidate, rank_candidates, shortlist, usable_settings
from noisybench.advice.choice import choose
from noisybench.advice.evaluation import ADVICE, Evaluation, evaluate_advice, regret_table
from noisybench.advice.regime import Regime, regime_of, structure_of
from noisybench.advice.training import fit_budget, load_advice_task, problem_of, replicates
from noisybench.cli.advice_text import describe_choice
from noisybench.config.resolve import read_recipe
from noisybench.errors import UserError
from noisybench.leaderboard import measurement_tables
from noisybench.leaderboard.measurement_tables import builtin_measurements, from_csv, to_csv
from noisybench.leaderboard.measurements import measure_valid, without_record
from noisybench.leaderboard.table import build_settings
from noisybench.records.schema import RunRecord
from noisybench.tracking.store import Store
from tests.leaderboard.test_leaderboard import record, settings_of

Command = Callable[..., tuple[int, str]]

NOISY = ["digits", "noise=pair_flip", "noise.rate=0.3", "dataset.train_size=120", "dataset.test_size=40"]
"""A recipe with little data."""


def measured(
    noise: str, rate: float, levels: dict[str, float], validation: dict[str, float] | None = None
) -> list[RunRecord]:
    """Runs of one setting, whose noisy validation scores are their test scores unless given."""
    runs = []
    for stack, level in levels.items():
        for seed in range(3):
            made = record(stack, seed, label_set=f"{noise}{rate}".ljust(64, "*"), noise=f"{noise}(rate={rate})")
            noisy = (validation or levels)[stack]
            rows = [
                dataclasses.replace(row, test_score=level + 0.001 * seed, noisy_val_score=noisy + 0.001 * seed)
                for row in made.rows
            ]
            manifest = {**made.manifest, "actual_noise_rate": rate}
            privileged = ["noise_rate"] if stack == "co_teaching" else []
            runs.append(dataclasses.replace(made, rows=rows, manifest=manifest, privileged=privileged))
    return runs


def suite() -> list[RunRecord]:
    """Settings in which ELR is best at high rates, mixup at low ones, and privileged information would be best of all."""
    runs = []
    for noise in ("pair_flip", "symmetric_exclusive", "instance_dependent"):
        for rate in (0.1, 0.4):
            elr, mixup = (0.9, 0.7) if rate > 0.2 else (0.85, 0.92)
            levels = {"cross_entropy": 0.6 if rate > 0.2 else 0.88, "elr": elr, "mixup": mixup, "gce": 0.65}
            runs += measured(noise, rate, {**levels, "co_teaching": 0.99})
    return runs


def regrets(evaluation: Evaluation) -> dict[str, float]:
    return {each.name: each.summary.mean for each in evaluation.strategies if each.summary is not None}


def test_candidates_are_those_of_the_regime_and_need_no_privileged_information() -> None:
    settings = usable_settings(settings_of(suite()))
    for rate, best in ((0.4, "elr"), (0.1, "mixup")):
        ranked = rank_candidates(settings, Regime(rate, "spread", 90, 10, on_features=False))
        assert ranked[0].stack == best
        assert "co_teaching" not in [candidate.stack for candidate in ranked]
        assert [candidate.gain for candidate in ranked] == sorted((each.gain for each in ranked), reverse=True)


def test_without_an_estimate_there_are_more_candidates() -> None:
    ranked = [Candidate(f"stack {number}", 0.1, 1, 1.0) for number in range(9)]
    known = Regime(0.4, "spread", 90, 10, on_features=False)
    chosen, left_out = shortlist(ranked, known, lambda stack: "does not fit" if stack == "stack 0" else None)
    assert [each.stack for each in chosen] == ["stack 1", "stack 2", "stack 3"]
    assert left_out == ["stack 0: does not fit"]
    assert (
        len(shortlist(ranked, dataclasses.replace(known, noise_rate=None))[0]) == candidates_room.NUM_WITHOUT_ESTIMATE
    )


def test_the_structure_of_errors_is_read_from_a_transition_matrix() -> None:
    assert structure_of(0.6 * np.eye(5) + 0.4 * np.roll(np.eye(5), 1, 1)) == "concentrated"
    assert structure_of(0.6 * np.eye(5) + 0.08) == "spread"
    assert structure_of(np.eye(5)) is None
    assert structure_of(np.full((2, 2), 0.5)) is None, "with two classes there is only one other class"
    assert structure_of(None) is None
    noisy = {measurement.setting.noise: measurement.setting for measurement in builtin_measurements()}
    assert regime_of(noisy["pair_flip(rate=0.4)"], with_noise=False).noise_rate is None


@pytest.mark.parametrize(
    ("gap", "chosen", "tied"),
    [(0.005, "cross_entropy", ("elr", "cross_entropy")), (0.05, "elr", ("elr",))],
    ids=["a tie goes to the cheaper one", "a difference beyond the margin does not"],
)
def test_the_choice_says_ties_and_its_certainty(gap: float, chosen: str, tied: tuple[str, ...]) -> None:
    noise = [0.01, -0.01, 0.0, 0.0]
    scores = {
        "cross_entropy": {seed: 0.6 + value for seed, value in enumerate(noise)},
        "elr": {seed: 0.6 + gap - value for seed, value in enumerate(noise)},
    }
    choice = choose(scores, {"cross_entropy": 1.0, "elr": 2.0})
    assert (choice.stack, choice.leader, choice.tied) == (chosen, "elr", tied)
    assert choice.probability is not None
    if chosen == "elr":
        assert choice.difference == pytest.approx(gap)
        assert choice.low is not None
        assert choice.high is not None
        assert choice.low < gap < choice.high
        assert choice.probability > 0.9
    else:
        assert choice.probability < 0.5


def test_a_tie_goes_to_the_stack_that_gained_most_elsewhere() -> None:
    scores = {"cross_entropy": {0: 0.60, 1: 0.61}, "gce": {0: 0.612, 1: 0.602}, "elr": {0: 0.606, 1: 0.606}}
    costs = {"cross_entropy": 1.0, "gce": 2.0, "elr": 3.0}
    assert choose(scores, costs).stack == "cross_entropy"
    assert choose(scores, costs, {"elr": 0.1, "gce": 0.05}).stack == "elr"
    assert choose(scores, costs, {"elr": 0.1, "gce": 0.05}, margin=0.0).stack == "gce"


def test_a_single_run_has_no_interval() -> None:
    choice = choose({"cross_entropy": {0: 0.5}, "elr": {0: 0.9}}, {})
    assert (choice.stack, choice.low, choice.probability, choice.replicates) == ("elr", None, None, 1)


def test_advice_has_no_regret_where_the_regime_decides_and_validation_agrees() -> None:
    settings = settings_of(suite())
    evaluation = evaluate_advice(settings)
    found = regrets(evaluation)
    assert len(evaluation.settings) == 6
    assert found[ADVICE] == pytest.approx(0, abs=1e-9)
    assert found["always cross-entropy"] == pytest.approx((0.3 + 0.04) / 2)
    assert found["always ELR"] == pytest.approx(0.07 / 2)
    assert found["best on average"] > 0.03, "it does not know the noise rate"
    assert evaluation.against_average is not None
    assert evaluation.against_average.mean > 0.03


def test_the_setting_itself_takes_no_part_in_advice_on_it() -> None:
    # Only this setting says that gce is good, and its other budget says the same.
    runs = [*suite(), *measured("asymmetric", 0.4, {"cross_entropy": 0.6, "elr": 0.7, "gce": 0.95, "mixup": 0.6})]
    runs += [dataclasses.replace(each, budget="c" * 12) for each in runs[-12:]]
    evaluation = evaluate_advice(settings_of(runs))
    first = next(each for each in evaluation.strategies if each.name == "first candidate, not trained")
    own = [regret for key, regret in first.regrets.items() if "asymmetric" in key]
    assert len(own) == 2
    assert own == pytest.approx([0.25, 0.25])


def test_other_rates_of_the_same_noise_can_be_left_out_as_well() -> None:
    # Only the other rates of this noise model say that gce is good.
    levels = {"cross_entropy": 0.6, "elr": 0.7, "gce": 0.95, "mixup": 0.6}
    own = [run for rate in (0.35, 0.4, 0.45) for run in measured("asymmetric", rate, levels)]
    other = measured("pair_flip", 0.4, {"cross_entropy": 0.6, "elr": 0.9, "gce": 0.65, "mixup": 0.7})
    evaluation = evaluate_advice(settings_of([*own, *other]), settings_of(own))
    first = next(each for each in evaluation.strategies if each.name == "first candidate, not trained")
    assert first.summary is not None
    assert first.without_rates is not None
    assert first.without_rates.mean == pytest.approx(0.25)
    assert first.summary.mean == pytest.approx(0)


def test_a_fixed_strategy_takes_the_defaults_of_its_method() -> None:
    levels = {"cross_entropy": 0.6, "elr(reg_weight=9)": 0.5, "elr": 0.9, "gce": 0.7}
    evaluation = evaluate_advice(settings_of(measured("asymmetric", 0.4, levels)))
    assert regrets(evaluation)["always ELR"] == pytest.approx(0)
    variants = {"cross_entropy": 0.6, "elr(reg_weight=9)": 0.5, "elr(reg_weight=3)": 0.9, "gce": 0.7}
    evaluation = evaluate_advice(settings_of(measured("asymmetric", 0.4, variants)))
    assert regrets(evaluation)["always ELR"] == pytest.approx(0.2), "the mean of both"


def test_scores_of_advice_are_compared_at_the_resolution_of_the_validation_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = []
    original = evaluation_room.choose

    def choose_and_note(scores: Any, costs: Any, gains: Any, resolution: float, margin: float) -> Any:
        steps.append(resolution)
        return original(scores, costs, gains, resolution, margin)

    monkeypatch.setattr(evaluation_room, "choose", choose_and_note)
    evaluate_advice(settings_of(suite()))
    assert set(steps) == {0.1}, "there are 10 validation examples"


def test_two_runs_have_no_interval_and_say_how_many_it_needs() -> None:
    choice = choose({"cross_entropy": {0: 0.5, 1: 0.51}, "elr": {0: 0.9, 1: 0.92}}, {})
    assert (choice.low, choice.high) == (None, None)
    assert choice.difference == pytest.approx(0.405)
    assert "no interval: 2 of 3 runs of each stack that it needs" in " ".join(describe_choice(choice, True))


def test_misleading_validation_labels_show_as_regret() -> None:
    runs = suite()
    misleading = {"cross_entropy": 0.9, "elr": 0.5, "mixup": 0.5, "gce": 0.5}
    target = measured("asymmetric", 0.4, {"cross_entropy": 0.6, "elr": 0.9, "mixup": 0.7, "gce": 0.65}, misleading)
    evaluation = evaluate_advice(settings_of([*runs, *target]), settings_of(target))
    assert regrets(evaluation)[ADVICE] == pytest.approx(0.3)
    assert regrets(evaluation)["best of the candidates (bound)"] == pytest.approx(0, abs=1e-9)


def test_tables_say_as_much_about_advice_as_records() -> None:
    runs = [without_record(each) for each in measure_valid(suite())[0]]
    evaluation = evaluate_advice(build_settings(from_csv(to_csv(runs))))
    assert evaluation == evaluate_advice(settings_of(suite()))
    without = [dataclasses.replace(run, validation=None) for run in runs]
    by_name = {each.name: each for each in evaluate_advice(build_settings(without)).strategies}
    assert by_name[ADVICE].summary is None
    assert by_name["always cross-entropy"].summary is not None
    assert ["advice", "–", "", "", "needs noisy validation labels", ""] in regret_table(
        evaluate_advice(build_settings(without))
    )


def test_a_budget_takes_replicates_and_then_candidates() -> None:
    ranked = [Candidate("elr", 0.2, 3, 2.0), Candidate("gce", 0.1, 3, 1.0)]
    assert fit_budget(ranked, 3, 10, 1, None).num_runs == 9
    assert fit_budget(ranked, 3, 10, 2, None).seconds == 60
    assert (fit_budget(ranked, 3, 10, 1, 100).replicates, fit_budget(ranked, 3, 10, 1, 100).num_runs) == (2, 6)
    with pytest.raises(UserError, match=r"0\.5 minutes are too few: cross-entropy and one candidate take about 1\.0"):
        fit_budget(ranked, 3, 10, 1, 30)


def test_privileged_stacks_and_stacks_for_images_are_no_candidates() -> None:
    task = load_advice_task(NOISY[0], NOISY[1:])
    assert problem_of(task, "elr") is None
    assert "privileged information (noise_rate)" in str(problem_of(task, "small_loss_pruning(noise_rate=oracle)"))
    assert "unknown" in str(problem_of(task, "no_such_method"))
    assert not task.redraws_splits, "new splits of a recipe would train on its test examples"
    assert len({spec.dataset.parameters["split_seed"] for spec in replicates(task, "elr", 3)}) == 1


def features(path: Path, classes: int = 3) -> None:
    """Points around the centers of their classes, with a fifth of the labels of the next class."""
    rng = np.random.default_rng(0)
    truth = np.arange(300) % classes
    points = rng.normal(size=(300, 8)) + 4 * np.eye(8)[truth]
    labels = np.where(rng.random(300) < 0.2, (truth + 1) % classes, truth)
    np.savez(path, train_x=points.astype(np.float32), train_y=labels, class_names=np.array(list("abc")[:classes]))


def test_own_features_end_in_a_recipe_that_runs(
    store: Store, noisybench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NUM_CANDIDATES", "NUM_WITHOUT_ESTIMATE"):
        monkeypatch.setattr(candidates_room, name, 1)
    features(Path("own.npz"))
    status, text = noisybench("advise", "own.npz", "budget.epochs=2", "--seeds", "2", "-o", "recipe.yaml")
    assert status == 0, text
    for wanted in ("noise rate", r"candidate: \w.*: expected \+", "Training 4 runs", "Advice: ", "Probability"):
        assert re.search(wanted, text), wanted
    (spec,) = read_recipe("recipe.yaml", [])
    assert spec.stack in text
    assert (spec.dataset.name, spec.task.name, spec.budget.epochs) == ("features", "transfer", 2)
    assert "# Advice: " in Path("recipe.yaml").read_text()
    assert sorted(yaml.safe_load(Path("recipe.yaml").read_text())) == [
        "budget", "dataset", "mitigations", "noise", "seed", "task",
    ]  # fmt: skip
    trained = store.runs.records()
    assert len(trained) == 4
    assert len({each.spec["dataset"]["split_seed"] for each in trained}) == 2, "each replicate draws its own splits"
    assert all(not each.privileged for each in trained)


def test_bad_input_is_one_message(store: Store, noisybench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    features(Path("one.npz"), classes=1)
    for arguments, message in (
        (["digits", "noise=clean"], "noise model is `clean`, so that there is nothing to advise on"),
        (["nowhere"], "nowhere: not a folder of images"),
        ([], "labels: name a folder, a file or a recipe"),
        (["digits", "--evaluate", "quickstart"], "--evaluate: measures advice over finished runs"),
        (["one.npz"], "has the one class `a`, but at least two are needed"),
        (["digits", "noise=pair_flip", "--backbone", "no_such"], "--backbone: unknown"),
        (["digits", "noise=pair_flip", "dataset.validation_fraction=0"], "advice needs a validation split"),
        (["digits", "noise=pair_flip", "-o", "recipe.txt"], "recipe.txt"),
    ):
        status, text = noisybench("advise", *arguments)
        assert (status, message in text) == (2, True), text
    monkeypatch.setattr(measurement_tables, "with_builtin", lambda records: [])
    status, text = noisybench("advise", "digits", "noise=pair_flip")
    assert (status, "no measured setting to take candidates from" in text) == (2, True), text

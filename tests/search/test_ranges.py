"""Search ranges are held against the allowed values, and settings have types, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from noisybench.config.registry import list_entries
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.search.config import read_searches
from noisybench.search.configurations import UNSAMPLED, enqueue, sample, trial_values
from noisybench.search.definition import SAMPLERS, make_search
from noisybench.search.study import open_study
from tests.helpers import toy_spec


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("space.elr.beta=[0.5,7]", r"space\.elr\.beta: input should be less than 1, but got 7 \(allowed: \[0, 1\)\)"),
        ("space.elr.beta=[-1,0.5]", r"space\.elr\.beta: input should be greater than or equal to 0"),
        ("space.elr.beta=[.nan,0.5]", "finite number"),
        ("space.elr.beta=[nan,0.5]", "the ends must be numbers, but are 'nan' and 0.5"),
        ("space.elr.beta={low: 0.5, high: .inf}", "finite number"),
        ("space.elr.beta=[0.9,0.5]", "the lower end must be below the upper end"),
        ("space.elr.beta=[0.5,0.5]", "the lower end must be below the upper end"),
        ("space.elr.beta=[true,0.5]", "the ends must be numbers"),
        ("space.elr.beta=[0.1,0.2,0.3]", r"expected \[low, high\]"),
        ("space.elr.beta=[]", r"expected \[low, high\]"),
        ("space.elr.beta=0.1,0.2", "give one range in brackets"),
        ("space.elr.beta={low: 0.1, high: 0.2, log: 3}", r"space\.elr\.beta\.log: expected true or false"),
        ("space.elr.beta={low: 0.0, high: 0.2, log: true}", "must start above 0"),
        ("space.elr.beta={low: 0.1}", r"expected \[low, high\]"),
        ("space.elr.beta={low: 0.1, high: 0.2, hihg: 1}", r"expected \[low, high\]"),
        ("space.elr.beta={choices: []}", "expected a list of choices"),
        ("space.elr.beta={choices: 5}", "expected a list of choices, but got 5"),
        ("space.elr.beta={choices: [0.5, 3]}", "input should be less than 1, but got 3"),
        ("space.elr.beta={choices: [0.5, 0.50]}", "appears twice"),
        ("space.elr.beta={choices: [a]}", "expected a number, but got 'a'"),
        ("space=[a]", "space: expected space.MITIGATION.PARAMETER"),
        ("space.1=[0,1]", "unknown parameter of the stack elr"),
        ("trials=true", "trials: expected an integer, but got true"),
        ("trials=1e1", "trials: expected an integer, but got 1e1"),
        ("trials=1,2", "trials: expected an integer"),
        ("sampler=[tpe]", r"sampler: expected text, but got \['tpe'\]"),
        ("objective={a: 1}", "objective.0: expected text"),
        ("objective=[]", "objective: must be one of"),
        ("seeds=a", "seeds.0: expected an integer, but got 'a'"),
        ("seeds=[5,5]", "seeds: each seed may be given once"),
        ("evaluation_seeds=[]", "evaluation_seeds: "),
        ("heartbeat_interval=0", "heartbeat_interval: input should be greater"),
        ("trails=3", "unknown field `trails`; did you mean `trials`"),
        ("trials.x=3", "trials.x: expected trials"),
    ],
)  # fmt: skip
def test_refused(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_searches("digits-elr", [argument])


def test_integers_are_searched_over_integers() -> None:
    stack = "mitigations=el2n"
    (search,) = read_searches("digits", [stack, "space.el2n.epochs=[2,6]"])
    assert search.space["el2n.epochs"].integer
    with pytest.raises(UserError, match=r"space\.el2n\.epochs: expected an integer, but got 2\.5"):
        read_searches("digits", [stack, "space.el2n.epochs=[2.5,6]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: 3", "unknown suite `3`"), ("suite: [a]", "suite: expected the name of a suite"),
        ("base: 3", "base: expected a mapping"),
        ("base: {recipe: [a]}", "base.recipe: expected the name"),
        ("{base: {recipe: digits}, space: [a]}", "space: expected ranges"),
        ("{base: {recipe: digits, mitigations: elr}, space: {1: a}}", "unknown parameter of the stack elr"),
        ("{base: {recipe: digits, mitigations: elr}, sampler: [tpe]}", "sampler: expected text"),
        ("{base: {recipe: digits, budget: {epochs: true}}}", "budget.epochs: expected an integer, but got true"),
        ("1: 2", "unknown field `1`"), ("{}", "a search needs either `base`"),
    ],
)  # fmt: skip
def test_search_files_of_other_types_are_refused(text: str, message: str) -> None:
    Path("search.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_searches("search.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset.validation_fraction=0"], "objective: noisy_val is unavailable: the dataset has no validation split"),
        (["budget.network=unet:8"], "budget.network: `unet:8` is not a network for the task classification"),
    ],
)
def test_a_search_is_validated_with_its_data_and_objective(arguments: list[str], message: str) -> None:
    (search,) = read_searches("digits-elr", arguments)
    with pytest.raises(UserError, match=message):
        prepare_run(search.first_spec())


@pytest.mark.parametrize("name", list_entries("mitigations"))
def test_the_defaults_of_every_mitigation_are_a_trial(name: str) -> None:
    search = make_search(name, toy_spec(name).as_dict(), {}, {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    enqueue(study, search.defaults, {UNSAMPLED: search.unsampled_defaults})
    first = study.ask()
    assert sample(first, search.space) == search.defaults
    values = sample(study.ask(), search.space)
    assert all(search.space[parameter].has_type_of(value) for parameter, value in values.items())
    study.tell(first, 1.0)
    assert trial_values(study.best_trial) == search.defaults


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_values_of_the_ranges(
    sampler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    search = make_search("elr", toy_spec("elr").as_dict(), {}, {"sampler": sampler})
    with open_study(search, search.name, None) as study:
        for score in range(12):  # samplers draw the first ones at random
            trial = study.ask()
            values = sample(trial, search.space)
            study.tell(trial, score / 12)
            assert all(search.space[name].low <= value <= search.space[name].high for name, value in values.items())
    assert len({*map(str, map(trial_values, study.trials))}) == 12

"""Searches: what is searched, that the test split decides nothing, and that a killed search goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from noisybench.config.resolve import resolve
from noisybench.data.privileged import PRIVILEGED
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.search.config import read_searches
from noisybench.search.definition import Search
from noisybench.search.figures import plot_study
from noisybench.search.study import DIRECTIONS, finished_trials, load_searches, open_study
from noisybench.tracking.store import Store
from tests import postgres
from tests.conftest import copy_database

Command = Callable[..., tuple[int, str]]
SMALL = ["budget.epochs=3", "dataset.train_size=200", "dataset.test_size=100", "execution.system_metrics=false"]


@pytest.fixture(autouse=True)
def database(tmp_path: Path, empty_database: Path) -> None:
    copy_database(empty_database, tmp_path / "mlflow.db")


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "noisybench", "search", *arguments, *SMALL, "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def study_of(name: str, url: str = "sqlite:///.noisybench/searches.db") -> optuna.Study:
    """A copy in memory, so that no connection to its database stays open."""
    storage, memory = optuna.storages.RDBStorage(url), optuna.storages.InMemoryStorage()
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=memory)
    storage.remove_session()
    storage.engine.dispose()
    return optuna.load_study(study_name=name, storage=memory)


def test_the_space_is_what_parameters_declare() -> None:
    (found,) = read_searches("digits", ["mitigations=mixup+elr"])
    assert set(found.space) == {"mixup.alpha", "elr.beta", "elr.reg_weight"}
    assert (found.space["elr.beta"].low, found.space["elr.beta"].high) == (0.5, 0.99)
    (own,) = read_searches("digits", ["mitigations=bootstrapping", "space.bootstrapping.mode={choices: [soft, hard]}"])
    assert own.space["bootstrapping.mode"].choices == ("soft", "hard")
    assert own.defaults == {"bootstrapping.mode": "hard"}
    spec = own.spec({"bootstrapping.mode": "soft"}, 7)
    assert (spec.seed, spec.mitigations[0].parameters["mode"]) == (7, "soft")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("digits-erl", [], "did you mean `digits-elr`"),
        (
            "digits-elr",
            ["space.elr.beta=[0.9,0.5]"],
            r"space\.elr\.beta: the lower end must be below .* got 0\.9 to 0\.5",
        ),
        ("digits-elr", ["space.elr.betta=[0.5,0.9]"], r"unknown parameter of the stack elr; did you mean `elr\.beta`"),
        ("digits-elr", ["space.elr.reg_weight={low: 0, high: 3, log: true}"], "must start above 0"),
        ("digits-elr", ["space.elr.beta=0.5"], r"expected \[low, high\]"),
        ("digits-elr", ["sampler=tpo"], "unknown sampler `tpo`; did you mean `tpe`"),
        ("digits-elr", ["pruner=mediam"], "unknown pruner `mediam`; did you mean `median`"),
        ("digits-elr", ["trials=0"], "trials: must be an integer from 1"),
        ("digits-elr", ["seeds=[0]"], "are also seeds of the trials"),
        ("digits-elr", ["dataset=digits,scenes"], "one setting and one stack"),
        ("digits", [], "no parameter with a declared range"),
        ("digits-elr", ["objective=test"], "one of noisy_val, clean_val.*the test split is never used for selection"),
        ("digits-elr", ["objective=[noisy_val,cost]", "pruner=median"], "two objectives cannot be pruned"),
        (
            "quickstart",
            ["space.elr.betta=[0.5,0.9]"],
            r"unknown parameter of the stacks of quickstart; did you mean `elr\.beta`",
        ),
    ],
)
def test_searches_that_make_no_sense_are_refused(name: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_searches(name, arguments)


def test_a_suite_is_searched_stack_by_stack() -> None:
    found = read_searches("quickstart", ["trials=7", "space.elr.beta=[0.5,0.9]", "budget.epochs=4"])
    by_stack = {each.stack: each for each in found}
    assert {each.trials for each in found} == {7}, "equally many for every stack"
    assert set(by_stack["elr"].space) == {"elr.beta"}
    assert not by_stack["cross_entropy"].space, "nothing to search"
    assert {each.spec({}, 0).budget.epochs for each in found} == {4}
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert Search.from_dict(json.loads(json.dumps(each.as_dict()))).fingerprint() == each.fingerprint()


def test_final_runs_of_a_tuned_stack_record_the_search_and_its_labels() -> None:
    (noisy,) = read_searches("digits-elr", [])
    (clean,) = read_searches("digits-elr", ["objective=clean_val"])
    defaults = noisy.final_spec(noisy.defaults, 0)
    assert (defaults.stack, defaults.provenance) == ("elr", None)
    changed = {**noisy.defaults, "elr.beta": 0.8}
    tuned, tuned_clean = noisy.final_spec(changed, 0), clean.final_spec(changed, 0)
    assert tuned.stack == "elr(beta=0.8) (tuned, 20 trials)"
    assert tuned_clean.stack == "elr(beta=0.8) (tuned on clean labels, 20 trials)"
    assert prepare_run(tuned_clean).privileged == ("clean_validation_labels",)
    assert prepare_run(tuned).privileged == ()
    assert resolve(json.loads(json.dumps(tuned.as_dict()))) == tuned


def test_tuned_stacks_have_identities_of_their_own_and_trials_those_of_their_configurations() -> None:
    (search,) = read_searches("digits-elr", [])
    (longer,) = read_searches("digits-elr", ["trials=21"])
    (clean,) = read_searches("digits-elr", ["objective=clean_val"])
    changed = {**search.defaults, "elr.beta": 0.8}
    plain, trial = search.spec(changed, 0), search.trial_spec(changed, 0, "a run of MLflow")
    assert trial.is_trial
    assert (trial.identity, trial.stack) == (plain.identity, plain.stack)
    finals = {each.final_spec(changed, 0).identity for each in (search, longer, clean)}
    assert len(finals | {plain.identity}) == 4
    renamed = dataclasses.replace(search, name="another name")
    assert renamed.final_spec(changed, 0).identity in finals


def test_what_selected_the_parameters_is_shown_as_privileged_information() -> None:
    (clean,) = read_searches("digits-elr", ["objective=clean_val"])
    provenance = clean.final_spec({**clean.defaults, "elr.beta": 0.8}, 0).provenance
    assert provenance is not None
    assert set(provenance.privileged) <= set(PRIVILEGED)


def test_a_study_answers_one_question_alone() -> None:
    (first,) = read_searches("digits-elr", SMALL)
    with open_study(first, "mine", None), open_study(first, "mine", None):
        pass
    (changed,) = read_searches("digits-elr", [*SMALL, "space.elr.beta=[0.5,0.6]"])
    another = r"created with a different definition \(elr\.beta: .*0\.99.* -> .*0\.6.*reg_weight.* -> not searched"
    with pytest.raises(UserError, match=another), open_study(changed, "mine", None):
        pass
    assert [each.fingerprint() for each in load_searches("mine", None)] == [first.fingerprint()]
    with pytest.raises(UserError, match=r"no search is named `nine` in .*did you mean `mine`"):
        load_searches("nine", None)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # Optuna leaves open what it refuses
def test_storages_that_cannot_be_used(tmp_path: Path) -> None:
    (search,) = read_searches("digits-elr", SMALL)
    with pytest.raises(UserError, match="the storage postgresql://localhost/none cannot be used"):
        open_study(search, "mine", "postgresql://me:secret@localhost/none").__enter__()
    with pytest.raises(UserError, match=r"nowhere.*cannot be used"):
        open_study(search, "mine", f"sqlite:///{tmp_path}/nowhere/studies.db").__enter__()
    with open_study(search, "mine", f"sqlite:///{tmp_path}/old.db"):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("update alembic_version set version_num = 'v2.4.0.a'")
        connection.commit()
    with pytest.raises(UserError, match="belong to another version of Optuna"):
        open_study(search, "mine", f"sqlite:///{tmp_path}/old.db").__enter__()
    gc.collect()


def test_a_study_leaves_no_connection_open(tmp_path: Path) -> None:
    (search,) = read_searches("digits-elr", SMALL)
    with open_study(search, "mine", f"sqlite:///{tmp_path}/studies.db") as study:
        pool = study._storage._backend.engine.pool  # type: ignore[attr-defined]
        assert study.get_trials()
        assert pool.checkedin(), "kept for the next question"
    assert not pool.checkedin() + pool.checkedout()


def test_a_search_ends_with_the_best_and_the_defaults_under_fresh_seeds(noisybench: Command) -> None:
    status, output = noisybench("search", "digits-elr", "trials=3", "evaluation_seeds=[0,1]", "pruner=none", *SMALL)
    assert status == 0, output
    assert "3 complete; 9 epochs trained\nValidation chose these values" in output
    study = study_of("digits-elr elr")
    assert study.trials[0].params == {"elr.beta": 0.7, "elr.reg_weight": 3.0}, "the defaults come first"
    ranked = Store().runs.records()
    assert {each.seed for each in ranked} == {0, 1}, "trials are not ranked"
    store: Any = Store()
    trials = store.connection.client.search_runs([store.connection.experiment], "tags.`noisybench.trial_of` != ''")
    assert {each.data.tags["mlflow.parentRunId"] for each in trials} == {study.user_attrs["mlflow_run"]}
    for each in study.trials:
        (run,) = [r for r in trials if all(str(v) == r.data.params[f"mitigations.{k}"] for k, v in each.params.items())]
        noisy = store.connection.client.get_metric_history(run.info.run_id, "noisy_val_accuracy")
        assert each.value == pytest.approx(noisy[-1].value), "noisy validation decides, and nothing else"
    names = {each.path for each in store.connection.client.list_artifacts(study.user_attrs["mlflow_run"])}
    assert {"history.png", "importances.png", "parallel.png", "timeline.png"} <= names


def test_a_killed_search_goes_on_where_it_was(noisybench: Command) -> None:
    arguments = ("digits-elr", "trials=4", "evaluation_seeds=[0]", "pruner=none", "heartbeat_interval=3")
    process = command(*arguments)
    assert process.stdout is not None
    told = list(itertools.takewhile(lambda line: not line.startswith("[1/4]"), process.stdout))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = {each.number: each.params for each in finished_trials(study_of("digits-elr elr"))}
    assert 1 <= len(before) < 4, told
    status, output = noisybench("search", *arguments, *SMALL)
    assert status == 0, output
    after = finished_trials(study_of("digits-elr elr"))
    assert len(after) == 4
    assert {each.number: each.params for each in after}.items() >= before.items(), "nothing is lost or repeated"
    assert len({tuple(each.params.values()) for each in after}) == 4


def test_accuracy_against_cost_keeps_all_that_nothing_beats(noisybench: Command) -> None:
    costs = ("objective=[clean_val,cost]", "space.elr.beta=[0.5,0.9]")
    status, output = noisybench("search", "digits-elr", "trials=3", "evaluation_seeds=[0]", *costs, *SMALL)
    assert status == 0, output
    study = study_of("digits-elr elr")
    assert [each.name for each in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(each.values[1] > 0 for each in study.trials)
    ranked = Store().runs.records()
    tuned = [each for each in ranked if "tuned" in each.stack]
    assert len(tuned) == len([each for each in study.best_trials if not each.user_attrs.get("defaults")])
    assert all(each.privileged == ["clean_validation_labels"] for each in tuned), (
        "the labels that selected them are shown"
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importances_tell_what_makes_scores_high(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two objectives as well: here one parameter makes good scores, and another one bad ones."""
    study = optuna.create_study(directions=DIRECTIONS)
    rng = np.random.default_rng(0)
    space = dict.fromkeys(("good", "bad"), optuna.distributions.FloatDistribution(0, 1))
    for _ in range(200):
        good, bad = rng.random(2)
        score = 0.5 + 0.3 * (good > 0.9) - 0.3 * (bad > 0.9) + 0.01 * rng.random()
        study.add_trial(
            optuna.trial.create_trial(params={"good": good, "bad": bad}, distributions=space, values=[score, 1.0])
        )
    drawn: dict[str, Any] = {}
    plain = optuna.visualization.matplotlib.plot_param_importances

    def watched(study: optuna.Study, **told: Any) -> Any:
        drawn.update(told)
        return plain(study, **told)

    monkeypatch.setattr(optuna.visualization.matplotlib, "plot_param_importances", watched)
    plot_study(study, tmp_path)
    with pytest.warns(UserWarning, match="low `target` values"):
        found = optuna.importance.get_param_importances(study, target=drawn["target"])
    assert found["good"] > 2 * found["bad"]


def test_two_processes_on_one_study_in_postgresql_survive_a_kill(noisybench: Command) -> None:
    with postgres.running() as server:
        arguments = (
            "digits-elr",
            "trials=5",
            "evaluation_seeds=[0]",
            "pruner=none",
            "heartbeat_interval=3",
            "--storage",
            server.studies,
        )
        first, second = command(*arguments), command(*arguments)
        assert first.stdout is not None
        told = list(itertools.takewhile(lambda line: not line.startswith("[1/5]"), first.stdout))
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        first.stdout.close()
        output = second.communicate(timeout=300)[0]
        assert second.returncode == 0, (output, told)
        ended = finished_trials(study_of("digits-elr elr", server.studies))
        assert [each.state.name for each in ended] == ["COMPLETE"] * 5
        assert len({tuple(each.params.values()) for each in ended}) == 5, "none is trained twice"
        status, resumed = noisybench("search", "resume", "digits-elr elr", "--storage", server.studies)
        assert status == 0, resumed
        final = 1 + ("(tuned, " in output)  # the defaults, and what was found, unless nothing is better than they are
        assert f"0 s: 0 finished, {final} were finished already" in resumed

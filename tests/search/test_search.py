"""Searches: search spaces, selection by validation alone, storage, and resuming after a kill."""

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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from noisybench.config.resolve import resolve
from noisybench.data.privileged import PRIVILEGED
from noisybench.errors import UserError
from noisybench.execution.scheduler import Scheduler
from noisybench.execution.time_limit import RunDeadline, TimeLimit
from noisybench.runs.preparation import prepare_run
from noisybench.search.config import read_searches
from noisybench.search.configurations import trial_values
from noisybench.search.definition import Search
from noisybench.search.figures import plot_study
from noisybench.search.study import (
    DIRECTIONS,
    finished_trials,
    load_searches,
    open_study,
    study_result,
)
from noisybench.tracking.store import Store
from noisybench.utils.interrupts import OUT_OF_TIME_STATUS
from tests import postgres
from tests.conftest import copy_database

Command = Callable[..., tuple[int, str]]
SMALL = ["budget.epochs=3", "dataset.train_size=200", "dataset.test_size=100", "execution.system_metrics=false"]


@pytest.fixture(autouse=True)
def database(tmp_path: Path, empty_database: Path) -> None:
    copy_database(empty_database, tmp_path / "mlflow.db")


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "noisybench", "search", *arguments, *SMALL, "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def study_of(name: str, url: str = "sqlite:///.noisybench/searches.db") -> optuna.Study:
    """Return a copy of a study in memory, so that no connection to its database stays open."""
    storage, memory = optuna.storages.RDBStorage(url), optuna.storages.InMemoryStorage()
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=memory)
    storage.remove_session()
    storage.engine.dispose()
    return optuna.load_study(study_name=name, storage=memory)


def test_the_default_space_is_the_declared_ranges() -> None:
    (search,) = read_searches("digits", ["mitigations=mixup+elr"])
    assert set(search.space) == {"mixup.alpha", "elr.beta", "elr.reg_weight"}
    assert (search.space["elr.beta"].low, search.space["elr.beta"].high) == (0.5, 0.99)
    (custom,) = read_searches(
        "digits", ["mitigations=bootstrapping", "space.bootstrapping.mode={choices: [soft, hard]}"]
    )
    assert custom.space["bootstrapping.mode"].choices == ("soft", "hard")
    assert custom.defaults == {"bootstrapping.mode": "hard"}
    spec = custom.spec({"bootstrapping.mode": "soft"}, 7)
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
        ("digits-elr", ["trials=0"], "trials: input should be greater than or equal to 1, but got 0"),
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
def test_invalid_searches_are_rejected(name: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_searches(name, arguments)


def test_a_suite_is_searched_stack_by_stack() -> None:
    searches = read_searches("quickstart", ["trials=7", "space.elr.beta=[0.5,0.9]", "budget.epochs=4"])
    by_stack = {search.stack: search for search in searches}
    assert {search.trials for search in searches} == {7}, "every stack has the same number of trials"
    assert set(by_stack["elr"].space) == {"elr.beta"}
    assert not by_stack["cross_entropy"].space, "nothing to search"
    assert {search.spec({}, 0).budget.epochs for search in searches} == {4}
    assert len({search.name for search in searches}) == len(searches)
    for search in searches:
        assert Search.from_dict(json.loads(json.dumps(search.as_dict()))).fingerprint() == search.fingerprint()


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


def test_tuned_stacks_have_their_own_identity_and_trials_that_of_their_configuration() -> None:
    (search,) = read_searches("digits-elr", [])
    (longer,) = read_searches("digits-elr", ["trials=21"])
    (clean,) = read_searches("digits-elr", ["objective=clean_val"])
    changed = {**search.defaults, "elr.beta": 0.8}
    plain, trial = search.spec(changed, 0), search.trial_spec(changed, 0, "an MLflow run")
    assert trial.is_trial
    assert (trial.identity, trial.stack) == (plain.identity, plain.stack)
    finals = {variant.final_spec(changed, 0).identity for variant in (search, longer, clean)}
    assert len(finals | {plain.identity}) == 4
    renamed = dataclasses.replace(search, name="another name")
    assert renamed.final_spec(changed, 0).identity in finals


def test_clean_validation_labels_of_a_search_are_privileged_information() -> None:
    (clean,) = read_searches("digits-elr", ["objective=clean_val"])
    provenance = clean.final_spec({**clean.defaults, "elr.beta": 0.8}, 0).provenance
    assert provenance is not None
    assert set(provenance.privileged) <= set(PRIVILEGED)


def test_a_study_has_one_definition() -> None:
    (first,) = read_searches("digits-elr", SMALL)
    with open_study(first, "mine", None), open_study(first, "mine", None):
        pass
    (changed,) = read_searches("digits-elr", [*SMALL, "space.elr.beta=[0.5,0.6]"])
    message = r"created with a different definition \(elr\.beta: .*0\.99.* -> .*0\.6.*reg_weight.* -> not searched"
    with pytest.raises(UserError, match=message), open_study(changed, "mine", None):
        pass
    assert [search.fingerprint() for search in load_searches("mine", None)] == [first.fingerprint()]
    with pytest.raises(UserError, match=r"no search is named `nine` in .*did you mean `mine`"):
        load_searches("nine", None)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # Optuna leaves refused connections open
def test_unusable_storages_are_reported(tmp_path: Path) -> None:
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
        assert pool.checkedin(), "kept for the next query"
    assert not pool.checkedin() + pool.checkedout()


def test_a_search_retrains_the_best_configuration_and_the_defaults_with_fresh_seeds(noisybench: Command) -> None:
    status, output = noisybench("search", "digits-elr", "trials=3", "evaluation_seeds=[0,1]", "pruner=none", *SMALL)
    assert status == 0, output
    assert "3 complete; 9 epochs trained\nRetraining the selected configurations" in output
    study = study_of("digits-elr elr")
    assert study.trials[0].params == {"elr.beta": 0.7, "elr.reg_weight": 3.0}, "the defaults come first"
    ranked = Store().runs.records()
    assert {record.seed for record in ranked} == {0, 1}, "trials are not ranked"
    store: Any = Store()
    trials = store.connection.client.search_runs([store.connection.experiment], "tags.`noisybench.trial_of` != ''")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.user_attrs["mlflow_run"]}
    for trial in study.trials:
        parameters = {f"mitigations.{name}": str(value) for name, value in trial.params.items()}
        (run,) = [run for run in trials if parameters.items() <= run.data.params.items()]
        noisy = store.connection.client.get_metric_history(run.info.run_id, "noisy_val_accuracy")
        assert trial.value == pytest.approx(noisy[-1].value), "noisy validation alone decides"
    folder = store.connection.database.parent / "mlartifacts"
    names = {path.name for path in folder.glob(f"**/{study.user_attrs['mlflow_run']}/artifacts/*")}
    assert {"history.png", "importances.png", "parallel.png", "timeline.png"} <= names


def test_defaults_that_no_range_has_are_tried_first_and_may_win(noisybench: Command) -> None:
    """A number that follows from other parameters is None by default, and choices need not have the default."""
    arguments = ["mitigations=bootstrapping", "space.bootstrapping.label_weight=[0.5,0.6]"]
    arguments += ["space.bootstrapping.mode={choices: [soft]}", "trials=3", "evaluation_seeds=[0]", "pruner=none"]
    status, output = noisybench("search", "digits", *arguments, *SMALL, "--study", "weight")
    assert status == 0, output
    first, *others = study_of("weight").trials
    defaults = {"bootstrapping.label_weight": None, "bootstrapping.mode": "hard"}
    assert (first.params, trial_values(first)) == ({}, defaults)
    assert all({*trial.params} == {*defaults} for trial in others)
    study = optuna.create_study(directions=DIRECTIONS[:1])
    for trial, value in ((first, 0.9), (others[0], 0.8)):
        study.add_trial(optuna.trial.create_trial(
            params=trial.params, distributions=trial.distributions, user_attrs=trial.user_attrs, value=value
        ))  # fmt: skip
    assert study_result(study).best == [defaults]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc"])
def test_samplers_of_whole_spaces_need_defaults_in_the_space(sampler: str) -> None:
    with pytest.raises(UserError, match=f"sampler={sampler} .*label_weight has None, .*sampler=tpe"):
        read_searches("digits", ["mitigations=bootstrapping", f"sampler={sampler}"])
    (search,) = read_searches("digits", ["mitigations={name: bootstrapping, label_weight: 0.8}", f"sampler={sampler}"])
    assert search.defaults == {"bootstrapping.label_weight": 0.8}


def test_a_killed_search_resumes(noisybench: Command) -> None:
    arguments = ("digits-elr", "trials=4", "evaluation_seeds=[0]", "pruner=none", "heartbeat_interval=2")
    process = command(*arguments)
    assert process.stdout is not None
    lines = list(itertools.takewhile(lambda line: not line.startswith("[1/4]"), process.stdout))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = {trial.number: trial.params for trial in finished_trials(study_of("digits-elr elr"))}
    assert 1 <= len(before) < 4, lines
    status, output = noisybench("search", *arguments, *SMALL)
    assert status == 0, output
    after = finished_trials(study_of("digits-elr elr"))
    assert len(after) == 4
    assert {trial.number: trial.params for trial in after}.items() >= before.items(), "nothing is lost or repeated"
    assert len({tuple(trial.params.values()) for trial in after}) == 4


def test_a_trial_whose_process_ended_before_its_first_heartbeat_is_tried_again(noisybench: Command) -> None:
    arguments = (
        "digits-elr",
        *SMALL,
        "evaluation_seeds=[0]",
        "pruner=none",
        "heartbeat_interval=1",
        "--study",
        "silent",
    )
    status, output = noisybench("search", *arguments, "trials=1")
    assert status == 0, output
    storage = optuna.storages.RDBStorage("sqlite:///.noisybench/searches.db")
    optuna.load_study(study_name="silent", storage=storage).ask()
    storage.remove_session()
    storage.engine.dispose()
    # Without a heartbeat on its behalf, the search would wait for this trial without end.
    status, output = noisybench("search", *arguments, "trials=2")
    assert status == 0, output
    assert "2 complete" in output
    states = [trial.state.name for trial in study_of("silent").trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]


def test_accuracy_and_cost_give_the_pareto_front(noisybench: Command) -> None:
    costs = ("objective=[clean_val,cost]", "space.elr.beta=[0.5,0.9]")
    status, output = noisybench("search", "digits-elr", "trials=3", "evaluation_seeds=[0]", *costs, *SMALL)
    assert status == 0, output
    study = study_of("digits-elr elr")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(trial.values[1] > 0 for trial in study.trials)
    ranked = Store().runs.records()
    tuned = [record for record in ranked if "tuned" in record.stack]
    assert len(tuned) == len([trial for trial in study.best_trials if not trial.user_attrs.get("defaults")])
    assert all(record.privileged == ["clean_validation_labels"] for record in tuned)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importances_explain_high_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two parameters explains the high scores and the other one the low scores, also with two objectives."""
    study = optuna.create_study(directions=DIRECTIONS)
    rng = np.random.default_rng(0)
    space = dict.fromkeys(("good", "bad"), optuna.distributions.FloatDistribution(0, 1))
    for _ in range(200):
        good, bad = rng.random(2)
        score = 0.5 + 0.3 * (good > 0.9) - 0.3 * (bad > 0.9) + 0.01 * rng.random()
        study.add_trial(
            optuna.trial.create_trial(params={"good": good, "bad": bad}, distributions=space, values=[score, 1.0])
        )
    arguments: dict[str, Any] = {}
    original = optuna.visualization.matplotlib.plot_param_importances

    def recording(study: optuna.Study, **keywords: Any) -> Any:
        arguments.update(keywords)
        return original(study, **keywords)

    monkeypatch.setattr(optuna.visualization.matplotlib, "plot_param_importances", recording)
    plot_study(study, tmp_path)
    with pytest.warns(UserWarning, match="low `target` values"):
        importances = optuna.importance.get_param_importances(study, target=arguments["target"])
    assert importances["good"] > 2 * importances["bad"]


def test_two_processes_on_one_study_in_postgresql_survive_a_kill(noisybench: Command) -> None:
    with postgres.running() as server:
        arguments = (
            "digits-elr",
            "trials=5",
            "evaluation_seeds=[0]",
            "pruner=none",
            "heartbeat_interval=2",
            "--storage",
            server.studies,
        )
        first, second = command(*arguments), command(*arguments)
        assert first.stdout is not None
        lines = list(itertools.takewhile(lambda line: not line.startswith("[1/5]"), first.stdout))
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        first.stdout.close()
        output = second.communicate(timeout=300)[0]
        assert second.returncode == 0, (output, lines)
        ended = finished_trials(study_of("digits-elr elr", server.studies))
        assert [trial.state.name for trial in ended] == ["COMPLETE"] * 5
        assert len({tuple(trial.params.values()) for trial in ended}) == 5, "none is trained twice"
        status, resumed = noisybench("search", "resume", "digits-elr elr", "--storage", server.studies)
        assert status == 0, resumed
        final = 1 + ("(tuned, " in output)  # the best configuration may be the defaults
        assert f"0 s: 0 completed, {final} skipped" in resumed


def test_every_study_of_a_suite_is_validated_before_the_first_trains(
    noisybench: Callable[..., tuple[int, str]],
) -> None:
    Path("suite.yaml").write_text(
        "base: {recipe: digits}\nstacks: [elr, {name: mahalanobis, covariance: mcd}]\nseeds: [0]\n"
    )
    Path("search.yaml").write_text("suite: suite.yaml\ntrials: 2\n")
    status, output = noisybench("search", "search.yaml")
    assert status == 2
    assert "mitigations.mahalanobis: rank: class 0 has " in output
    assert "Study `" not in output


def test_a_search_that_is_out_of_time_says_what_is_left_and_resumes(
    noisybench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("search", "digits-elr", "trials=2", "pruner=none", "evaluation_seeds=[0]", *SMALL, "--jobs", "1")
    with monkeypatch.context() as patch:
        # The trial sees the end of the limit after its first epoch, and no other one fits.
        patch.setattr(TimeLimit, "deadline", lambda self, epochs, finish: RunDeadline(time.time()))
        admitted = iter([True])
        patch.setattr(Scheduler, "fits", lambda self, spec: next(admitted, False))
        status, output = noisybench(*arguments, "--time-limit", "1h")
    assert status == OUT_OF_TIME_STATUS, output
    assert "Out of time: 0 of 2 trials of the study" in output
    assert output.strip().endswith("Run the same command to resume.")
    status, output = noisybench(*arguments, "--time-limit", "1h")
    assert status == 0, output
    assert "2 complete" in output

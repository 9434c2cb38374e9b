"""Searches: what is searched, that the test split decides nothing, and that a killed search goes on."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from noisybench.errors import UserError
from noisybench.search import open_study, over, read_search
from noisybench.tracking import Store

SMALL = ["budget.epochs=3", "dataset.train_size=200", "dataset.test_size=100", "execution.system_metrics=false"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "noisybench", "search", *arguments, *SMALL, "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def study_of(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage="sqlite:///.noisybench/searches.db")


def test_the_space_is_what_parameters_declare() -> None:
    found = read_search("digits", ["mitigations=mixup+elr"])
    assert set(found.space) == {"mixup.alpha", "elr.beta", "elr.strength"}
    assert (found.space["elr.beta"].low, found.space["elr.beta"].high) == (0.5, 0.99)
    own = read_search("digits", ["mitigations=bootstrapping", "space.bootstrapping.mode={choices: [soft, hard]}"])
    assert own.space["bootstrapping.mode"].choices == ("soft", "hard")
    assert own.defaults == {"bootstrapping.mode": "hard"}
    spec = own.spec({"bootstrapping.mode": "soft"}, 7)
    assert (spec.seed, spec.mitigations[0].parameters["mode"]) == (7, "soft")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("digits-erl", [], "did you mean `digits-elr`"),
        ("digits-elr", ["space.elr.beta=[0.9,0.5]"], r"space\.elr\.beta: goes from 0\.9 to 0\.5"),
        ("digits-elr", ["space.elr.betta=[0.5,0.9]"], r"no such parameter; did you mean `elr\.beta`"),
        ("digits-elr", ["space.elr.strength={low: 0, high: 3, log: true}"], "must begin above 0"),
        ("digits-elr", ["space.elr.beta=0.5"], r"expected \[low, high\]"),
        ("digits-elr", ["sampler=tpo"], "unknown sampler `tpo`; did you mean `tpe`"),
        ("digits-elr", ["pruner=mediam"], "unknown pruner `mediam`; did you mean `median`"),
        ("digits-elr", ["trials=0"], "trials: must be a whole number from 1 up"),
        ("digits-elr", ["seeds=[0]"], "also choose the configuration"),
        ("digits-elr", ["dataset=digits,scenes"], "one cell and one stack"),
        ("digits", [], "no parameter with a declared range"),
    ],
)
def test_searches_that_make_no_sense_are_refused(name: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_search(name, arguments)


def test_a_study_answers_one_question_alone() -> None:
    first = read_search("digits-elr", SMALL)
    open_study(first, "mine", None)
    open_study(first, "mine", None)
    changed = read_search("digits-elr", [*SMALL, "space.elr.beta=[0.5,0.6]"])
    with pytest.raises(
        UserError, match=r"another question \(elr\.beta: .*0\.99.* -> .*0\.6.*strength.* -> not searched"
    ):
        open_study(changed, "mine", None)
    with pytest.raises(UserError, match="the storage postgresql://localhost/none cannot be used"):
        open_study(first, "mine", "postgresql://me:secret@localhost/none")


def test_a_search_ends_with_the_best_and_the_defaults_under_fresh_seeds() -> None:
    process = command("digits-elr", "trials=3", "rerun_seeds=[0,1]", "pruner=none")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert "3 complete. Validation chose these values" in output
    study = study_of("digits-elr elr")
    assert study.trials[0].params == {"elr.beta": 0.7, "elr.strength": 3.0}, "the defaults come first"
    ranked = Store().records()
    assert {each.seed for each in ranked} == {0, 1}, "trials are not ranked"
    store: Any = Store()
    trials = store.client.search_runs([store.experiment], "tags.`noisybench.trial_of` != ''")
    assert {each.data.tags["mlflow.parentRunId"] for each in trials} == {study.user_attrs["mlflow_run"]}
    for each in study.trials:
        (run,) = [r for r in trials if all(str(v) == r.data.params[f"mitigations.{k}"] for k, v in each.params.items())]
        noisy = store.client.get_metric_history(run.info.run_id, "noisy_val_accuracy")
        assert each.value == pytest.approx(noisy[-1].value), "noisy validation decides, and nothing else"
    names = {each.path for each in store.client.list_artifacts(study.user_attrs["mlflow_run"])}
    assert {"history.png", "importances.png", "parallel.png", "timeline.png"} <= names


def test_a_killed_search_goes_on_where_it_was() -> None:
    arguments = ("digits-elr", "trials=4", "rerun_seeds=[0]", "pruner=none", "heartbeat=3")
    process = command(*arguments)
    assert process.stdout is not None
    told = list(itertools.takewhile(lambda line: not line.startswith("[1/4]"), process.stdout))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = {each.number: each.params for each in over(study_of("digits-elr elr"))}
    assert 1 <= len(before) < 4, told
    again = command(*arguments)
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0, output
    after = over(study_of("digits-elr elr"))
    assert len(after) == 4
    assert {each.number: each.params for each in after}.items() >= before.items(), "nothing is lost or repeated"
    assert len({tuple(each.params.values()) for each in after}) == 4

"""`nb.run` trains what the command line trains, in scripts, notebooks and tests, and reads finished runs back."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

import noisybench as nb
from noisybench.api.leaderboard import Leaderboard
from noisybench.api.results import COLUMNS
from noisybench.api.run_result import RunResult, RunResults
from noisybench.api.specifications import read_specs
from noisybench.tracking.store import Store

SMALL = {"dataset": {"train_size": 200}, "budget": {"epochs": 2}, "noise": "pair_flip", "mitigations": "gce(q=0.5)"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of all runs of this file."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def in_shared_folder(workspace: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the shared folder, after `workspace` has selected another one."""
    monkeypatch.chdir(shared)


@pytest.fixture
def result(in_shared_folder: None) -> RunResult:
    """A run that the first test trains, and that all others read back."""
    found = nb.run("digits", seed=0, progress=False, **SMALL)
    assert isinstance(found, RunResult)
    return found


def title_of(*overrides: str, **fields: object) -> str:
    specs, _ = read_specs("digits", overrides, fields)
    assert len(specs) == 1
    return specs[0].title


def test_a_mapping_without_a_name_keeps_the_rest_of_the_recipe() -> None:
    (spec,), _ = read_specs("digits", [], {"budget": {"epochs": 3}, "noise": {"rate": 0.2}})
    (recipe,), _ = read_specs("digits", [], {})
    assert spec.budget == recipe.budget.model_copy(update={"epochs": 3})
    assert spec.noise.parameters == {**recipe.noise.parameters, "rate": 0.2}
    assert title_of(noise={"name": "pair_flip", "rate": 0.2}) == title_of("noise.rate=0.2", noise="pair_flip")
    assert "mixup+gce(q=0.5)" in title_of("mitigations=mixup+gce", mitigations={"gce": {"q": 0.5}})


def test_mappings_in_a_list_change_what_they_name_as_one_alone_does() -> None:
    specs, _ = read_specs("digits", [], {"budget": [{"epochs": 1}, {"epochs": 2}], "noise": [{"rate": 0.2}, "clean"]})
    ((alone,), _) = read_specs("digits", [], {"budget": {"epochs": 1}, "noise": {"rate": 0.2}})
    assert [(spec.budget.epochs, spec.noise.name) for spec in specs] == [
        (epochs, noise) for epochs in (1, 2) for noise in (alone.noise.name, "clean")
    ]
    assert specs[0] == alone


def test_a_noise_model_of_the_library_is_that_of_the_run() -> None:
    noise = nb.noise("pair_flip", rate=0.2)
    assert title_of(noise=noise) == title_of("noise.rate=0.2", noise="pair_flip")
    specs, _ = read_specs("digits", [], {"noise": [noise, "clean"]})
    assert [spec.noise.name for spec in specs] == ["pair_flip", "clean"]


def test_overrides_are_text() -> None:
    with pytest.raises(nb.UserError, match=r"overrides are text such as 'noise\.rate=0\.4', but got \{'seed': 1\}"):
        nb.run("digits", {"seed": 1})  # type: ignore[arg-type]


def test_values_of_numpy_and_paths_are_plain_values(tmp_path: Path) -> None:
    (spec,), is_several = read_specs("digits", [], {"seed": np.int64(3), "budget": {"learning_rate": np.float32(0.5)}})
    assert (spec.seed, spec.budget.learning_rate, is_several) == (3, 0.5, False)
    specs, is_several = read_specs({"dataset": "digits"}, [], {"seed": np.arange(2)})
    assert ([spec.seed for spec in specs], is_several) == ([0, 1], True)
    (tmp_path / "mine.yaml").write_text("seed: 7\n")
    assert read_specs(tmp_path / "mine.yaml", [], {})[0][0].seed == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 3}, r"unknown field `epochs`; did you mean `budget\.epochs`\?"),
        ({"seed": -1}, "seed: must be an integer from 0"),
        ({"seed": []}, "seed: the list is empty"),
        ({"seed": [0, 0]}, "seed: 0 is given several times"),
        ({"noise": 3}, "noise: expected a name, or a mapping"),
        ({"mitigations": "elrr"}, "unknown mitigation `elrr`; did you mean `elr`"),
        ({"jobs": 0}, "jobs: expected a number of parallel runs of at least 1, but got 0"),
    ],
)
def test_invalid_fields_are_refused_before_anything_is_trained(fields: dict[str, object], message: str) -> None:
    with pytest.raises(nb.UserError, match=message):
        nb.run("digits", **fields)


def test_a_worker_of_a_pool_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(nb.UserError, match="runs cannot be trained inside a daemonic process"):
        nb.run("digits")


@pytest.mark.parametrize("recipe", ["digit", 3, "mine.yaml", Path("mine")])
def test_an_unknown_recipe_is_refused(recipe: object) -> None:
    with pytest.raises(nb.UserError, match="recipe"):
        nb.run(recipe)


def test_a_run_has_scores_curves_samples_and_predictions(result: RunResult) -> None:
    assert result.title == "digits(train_size=200) · pair_flip(rate=0.45) · gce(q=0.5) · seed 0"
    assert list(result.history["epoch"]) == [0, 1]
    assert result.score == result.scores["last"] == result.history["test_score"].iloc[-1]
    assert result.scores["last10"] is None
    samples, predictions = result.samples, result.predictions
    assert (samples["is_mislabeled"] == (samples["clean"] != samples["observed"])).all()
    assert samples["is_mislabeled"].mean() == pytest.approx(result.record.manifest["actual_noise_rate"])
    hits = np.stack(predictions["probabilities"]).argmax(1) == predictions["target"]
    assert float(np.mean(hits)) == result.score
    with pytest.raises(nb.UserError, match=r"has no file samples\.npz"):
        result.arrays()
    assert result.title in result._repr_html_()
    assert result.run_id in repr(result)


def test_a_finished_run_is_read_back_and_trained_again_on_request(result: RunResult) -> None:
    assert nb.run("digits", seed=0, progress=False, **SMALL).run_id == result.run_id
    assert nb.run(result.spec, progress=False).run_id == result.run_id
    repeated = nb.run(result.spec, again=True, progress=False)
    assert repeated.run_id != result.run_id
    assert repeated.record.weights_sha256 == result.record.weights_sha256


def test_a_list_gives_several_runs_in_its_order(result: RunResult) -> None:
    results = nb.run("digits", seed=[1, 0], progress=False, **SMALL)
    assert isinstance(results, RunResults)
    assert [each.record.seed for each in results] == [1, 0]
    assert results[:1].runs == (results[0],)
    assert results[1].record.weights_sha256 == result.record.weights_sha256


def test_an_unguarded_script_trains_the_same_once(result: RunResult, tmp_path: Path) -> None:
    script = (
        "import noisybench as nb\n"
        "with open('starts', 'a') as file:\n    file.write('x')\n"
        f"result = nb.run({json.dumps(result.spec)})\n".replace("null", "None").replace("true", "True")
        + "print(result.record.weights_sha256)\n"
    ).replace("false", "False")
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(nb.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == [result.record.weights_sha256], done.stderr
    assert (tmp_path / "starts").read_text() == "x"
    assert "[1/1] digits" in done.stderr


def test_ctrl_c_raises_and_the_same_call_resumes() -> None:
    # Shells let programs in the background ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fields = {**SMALL, "dataset": {"train_size": 100}, "budget": {"epochs": 60}}
    folder = Path(".noisybench/runs")

    def interrupt() -> None:
        # The file is written when training begins.
        deadline = time.monotonic() + 120
        while not list(folder.glob("*/num_threads")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        nb.run("digits", progress=False, **fields)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (checkpoint,) = folder.glob("*/checkpoint.ckpt")
    (stopped,) = Store().runs.list_runs("KILLED")
    result = nb.run("digits", progress=False, **fields)
    assert result.run_id == stopped.run_id
    assert list(result.history["epoch"]) == list(range(60))
    assert not checkpoint.exists()


@pytest.fixture
def board(in_shared_folder: None) -> Leaderboard:
    """Leaderboard of a suite of four runs."""
    Path("suite.yaml").write_text(
        "base: {recipe: digits, dataset: {name: digits, train_size: 150}, budget: {epochs: 1}}\n"
        "noise: [pair_flip]\nstacks: [cross_entropy, {name: gce, q: 0.5}]\nseeds: [5]\n"
    )
    return nb.bench("suite.yaml", seeds=[0, 1], progress=False)


def test_a_suite_is_trained_and_ranked(board: Leaderboard) -> None:
    (setting,) = board.settings
    assert {row.stack for row in setting.rows} == {"cross_entropy", "gce(q=0.5)"}
    assert list(board.rows["seeds"]) == [2, 2]
    assert board.rows["mean"].is_monotonic_decreasing
    assert set(board.rows.columns) >= {
        "setting",
        "dataset",
        "noise",
        "rate",
        "rank",
        "stack",
        "low",
        "high",
        "privileged",
    }
    assert set(board.results["seed"]) == {0, 1}


def test_the_table_of_results_has_a_row_for_each_run_and_rule(board: Leaderboard) -> None:
    frame = nb.results("suite.yaml")
    assert frame.empty, "the suite itself has another seed"
    frame = nb.results(task="classification")
    assert list(frame.columns) == list(COLUMNS)
    assert not frame.duplicated(["run_id", "rule"]).any()
    own = frame[(frame.epochs == 1) & (frame.rule == "last")]
    assert len(own) == 4
    assert set(own["noise"]) == {"pair_flip"}
    assert set(own["rate"]) == {0.45}
    assert frame[frame.rule == "last10"]["score"].isna().any()
    with pytest.raises(nb.UserError, match="task: unknown task `clasification`; did you mean `classification`"):
        nb.results(task="clasification")


def test_results_of_an_empty_store_have_the_same_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = nb.results()
    assert list(frame.columns) == list(COLUMNS)
    assert frame.empty
    with pytest.raises(nb.UserError, match="no finished runs that match"):
        nb.leaderboard()


def test_a_filtered_table_is_ranked_as_the_command_line_ranks(
    board: Leaderboard, noisybench: Callable[..., tuple[int, str]]
) -> None:
    frame = nb.results()
    filtered = nb.leaderboard(frame[frame.epochs == 1])
    assert str(filtered) == str(board)
    by_oracle = nb.leaderboard(frame[(frame.epochs == 1) & (frame.rule == "oracle")])
    assert by_oracle.rule == "oracle"
    assert nb.leaderboard(frame[frame.rule == "oracle"], rule="last").rule == "last"
    assert noisybench("leaderboard", "--format", "markdown") == (0, nb.leaderboard().to_markdown())
    assert noisybench("leaderboard") == (0, str(nb.leaderboard()))
    chosen = nb.leaderboard(setting=nb.leaderboard().settings[0].title, stack="gce")
    assert [row.stack for row in chosen.settings[0].shown_rows] == ["gce(q=0.5)"]
    assert chosen.settings[0].ranking.ranks.keys() == nb.leaderboard().settings[0].ranking.ranks.keys()
    with pytest.raises(nb.UserError, match="stack: no stack or mitigation is named `gcee`; did you mean `gce`"):
        nb.leaderboard(stack=["gcee"])
    for arguments, message in (
        ({"setting": 3}, "setting: expected a name as text, but got 3"),
        ({"stack": 5}, "stack: expected a name as text, but got 5"),
        ({"stack": ["gce", None]}, "stack: expected a name as text, but got None"),
    ):
        with pytest.raises(nb.UserError, match=message):
            nb.leaderboard(**arguments)  # type: ignore[arg-type]


def test_a_table_that_was_changed_is_refused(board: Leaderboard) -> None:
    frame = nb.results()
    with pytest.raises(nb.UserError, match="no column `run_id`"):
        nb.leaderboard(frame.drop(columns="run_id"))
    with pytest.raises(nb.UserError, match=r"another score by `\w+` than the record"):
        nb.leaderboard(frame.assign(score=frame["score"] + 0.01))
    with pytest.raises(nb.UserError, match=r"has the stack `mine` for run \w+"):
        nb.leaderboard(frame.assign(stack="mine"))
    with pytest.raises(nb.UserError, match="the table has no rows; check the condition"):
        nb.leaderboard(frame[frame.rule == "lst"])
    with pytest.raises(nb.UserError, match="metric: unknown metric `acuracy`; did you mean `balanced_accuracy`"):
        nb.results(metric="acuracy")
    with pytest.raises(nb.UserError, match=r"has no finished run `abc`, and \d+ more"):
        nb.leaderboard(frame.assign(run_id=["abc", *frame["run_id"][1:] + "x"]))
    with pytest.raises(nb.UserError, match="source: expected a table of nb"):
        nb.leaderboard([1])
    with pytest.raises(nb.UserError, match="test: unknown test `anovaa`; did you mean `anova`"):
        nb.leaderboard(test="anovaa")


def test_a_board_is_shown_in_notebooks_files_and_figures(board: Leaderboard, tmp_path: Path) -> None:
    page = board._repr_html_()
    assert "<td>gce(q=0.5)</td>" in page
    assert board.to_csv(tmp_path / "board.csv") == (tmp_path / "board.csv").read_text()
    assert board.to_html().startswith("<!doctype html>")
    assert board.to_latex().startswith(r"\begin{table}")
    (axes,) = board.plot()
    assert [label.get_text().split("  ")[0] for label in axes.get_yticklabels()] == list(board.rows["stack"])
    pyplot.close("all")


def test_a_board_is_plain_text_also_where_colors_are_forced(
    board: Leaderboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in str(board)


def test_results_of_runs_are_ranked(board: Leaderboard) -> None:
    results = nb.run("digits", seed=[0, 1], progress=False, **SMALL)
    assert list(nb.leaderboard(results).results["run_id"].unique()) == [each.run_id for each in results]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": [-1]}, "seeds"),
        ({"stacks": "elrr"}, "unknown mitigation `elrr`; did you mean `elr`"),
        ({"time_limit": "9"}, "time_limit: expected a duration with a unit"),
        ({"time_limit": 5}, "time_limit 5s is too short"),
        ({"shard": "3"}, "shard: expected a shard such as 3/16"),
        ({"seed": [0]}, r"write seeds=\[0\]$"),
    ],
)
def test_invalid_fields_of_a_suite_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(nb.UserError, match=message):
        nb.bench("quickstart", **fields)

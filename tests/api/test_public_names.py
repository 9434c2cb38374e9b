"""`import noisybench as nb` has every public name, documents it, and imports nothing before it is used."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import noisybench as nb
from noisybench.api.leaderboard import rank
from noisybench.leaderboard.measurement_tables import builtin_measurements

SOURCE = ast.parse(Path(nb.__file__).read_text())


def names_for_type_checkers() -> set[str]:
    block = next(node for node in SOURCE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_lists_agree():
    assert sorted(nb._MODULES) == sorted(nb.__all__)
    assert set(nb.__all__) == names_for_type_checkers(), "`import ... as name` keeps a name public for type checkers"
    assert set(nb.__all__) <= set(dir(nb))


@pytest.mark.parametrize("name", nb.__all__)
def test_every_name_can_be_used_and_is_documented(name):
    value = getattr(nb, name)
    assert inspect.getdoc(value)


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(AttributeError, match="no attribute 'load_datasets'; did you mean `load_dataset`"):
        nb.load_datasets  # noqa: B018


def test_the_import_is_light():
    code = "import noisybench, sys; print(sorted({'torch', 'numpy', 'pandas', 'mlflow', 'pathlib'} & set(sys.modules)))"
    # -S, because site-packages may hold start-up files that import more.
    path = str(Path(nb.__file__).parents[1])
    output = subprocess.run([sys.executable, "-S", "-c", code], cwd=path, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


NOISY = nb.noise("pair_flip", rate=0.3).apply(y=[0, 1, 2] * 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nb.push_label_set(NOISY, "shared", license="cc-by-4.0"), "folder: must be text .* its method save returns"),
        (lambda: nb.push_label_set("labels", None, license="cc-by-4.0"), "destination: must be text or a path, but got None"),
        (lambda: nb.push_label_set("labels", "shared", license=None), "license: must be the name of a license"),
        (lambda: nb.pull_label_set(3), "source: must be text or a path, but got 3"),
        (lambda: nb.pull_label_set("shared", sha256=3), "sha256: must be hexadecimal digits as text, but got 3"),
        (lambda: NOISY.save(None), "folder: must be text or a path, but got None"),
        (lambda: nb.bench(3), "suite: must be text or a path, but got 3"),
        (lambda: nb.results(3), "suite: must be text or a path, but got 3"),
        (lambda: nb.load_model(NOISY), "run: must be the id of a run, a folder or an address of MLflow"),
        (lambda: nb.load_model("x" * 5000), "run: x+…x+: file name too long"),
        (lambda: nb.load_model("~nosuchuser/x"), "~nosuchuser/x: the home folder of this user is unknown"),
        (lambda: nb.load_dataset(""), "dataset: must be text or a path, but got ''"),
        (lambda: nb.load_dataset("x" * 5000), "dataset: x+…x+: file name too long"),
        (lambda: nb.load_dataset("~nosuchuser/x"), "~nosuchuser/x: the home folder of this user is unknown"),
        (lambda: nb.audit("", progress=False), "data: must be text or a path, but got ''"),
        (lambda: nb.audit("x" * 5000, progress=False), "data: x+…x+: file name too long"),
        (lambda: NOISY.save("a\0b"), r"folder: a\\x00b: not a valid path"),
        (lambda: nb.pull_label_set("shared", "x" * 5000), "folder: x+…x+: file name too long"),
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused_by_its_argument(call: Callable[[], object], message: str) -> None:
    with pytest.raises(nb.UserError, match=message):
        call()


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    board = rank(builtin_measurements()[:8])
    board.to_csv("~/board.csv")
    nb.push_label_set(NOISY.save("~/labels"), "shared", license="mit")
    nb.pull_label_set("shared", "~/pulled")
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"board.csv", "labels", "pulled"}
    assert {path.name for path in tmp_path.iterdir()} == {"home", "shared"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nb.list_names(3), "unknown kind 3; known: backbones"),
        (lambda: nb.list_names("a\nb"), r"unknown kind `a\\nb`; known: backbones"),
        (lambda: nb.noise("a\nb" * 100), r"unknown noise model `a\\nba.*….*`; known: "),
        (lambda: nb.detect(["aum"]), r"detect: unknown detector \['aum'\]; did you mean `aum`"),
        (lambda: nb.results(task=3), "task: unknown task 3; known: chain_of_thought"),
        (lambda: nb.results(task=["classification"]), r"task: unknown task \['classification'\]; did you mean"),
        (lambda: nb.leaderboard(3), "source: expected a table of nb.results, .* but got 3"),
        (lambda: nb.leaderboard(rule=[]), r"rule: unknown rule \[\]; known"),
        (lambda: nb.leaderboard(metric=""), "metric: unknown metric ``; known"),
        (lambda: nb.leaderboard(label_set=3), "label_set: expected .* text, but got 3"),
        (lambda: nb.audit(np.eye(4), [0, 1, 0, 1], overrides=[3]), "overrides are text such as .* but got 3"),
        (lambda: nb.audit(np.eye(4), [0, 1, 0, 1], overrides=3), "overrides are text such as .* but got 3"),
    ],
)  # fmt: skip
def test_names_of_other_types_are_refused_with_the_known_ones(call: Callable[[], object], message: str) -> None:
    with pytest.raises(nb.UserError, match=message):
        call()

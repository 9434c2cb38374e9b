"""Inputs that once ended in an internal error, a traceback or a wait without end, by their kind."""

from __future__ import annotations

import json
import os
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fuzz.execution import Call, execute
from tests.fuzz.files import LONG_NAME, NESTED, deep_header, huge_array, image_bomb
from tests.fuzz.isolation import make_full
from tests.fuzz.template import Template

IMAGES, LABELS = np.zeros((12, 8, 8), np.uint8), np.arange(12) % 3
DIGITS = "9" * 5000


def short(value: Any) -> str:
    """Return a short name of a parameter."""
    return ascii(value)[:40]


def refused(
    line: str | list[str], template: Template, folder: Path, encoding: str = "utf-8", **environment: str | None
) -> str:
    """Execute a command that must be refused, and return its messages."""
    if not (folder / "mlflow.db").exists():
        for name in ("mlflow.db", "mlartifacts"):
            template.copy(name, folder)
    arguments = shlex.split(line) if isinstance(line, str) else line
    outcome = execute(Call(arguments, {"MLFLOW_TRACKING_URI": None, **environment}, encoding), folder)
    assert outcome.problem is None, outcome.output
    assert outcome.status == 2, outcome.output
    assert len(outcome.output) < 3000
    return outcome.output


@pytest.mark.parametrize("overrides", [
    "budget=5 budget.epochs=3", "seed=5 seed.x=1", "dataset.train_size.x=3", "noise=5 noise.rate=0.1", "task=[a] task.x=1",
], ids=short)  # fmt: skip
@pytest.mark.parametrize("command", ["run digits --dry-run", "validate digits", "inspect digits"])
def test_overrides_of_fields_that_hold_no_fields(
    command: str, overrides: str, template: Template, workspace: Path
) -> None:
    assert "error: " in refused(f"{command} {overrides}", template, workspace)


RECIPES = (
    "budget: [1]", "budget: abc", "dataset: {name: [a]}", "mitigations: &m [*m]", "dataset: &d {name: digits, x: *d}",
    f"seed: {DIGITS}", "1: 2", "noise: 5", "mitigations: {1: 2}", "- a", "a: !!python/object/apply:os.system [id]",
)  # fmt: skip
SUITES = (
    "1: 2\nstacks: [elr]", "base: {budget: [1]}\nstacks: [elr]", "base: {budget: abc}\nstacks: [elr]",
    "base: {recipe: 3}\nstacks: [elr]", "base: {recipe: [a]}\nstacks: [elr]", "base: 3\nstacks: [elr]", "stacks: 3",
    "suite: 3\nstacks: [elr]", "base: {recipe: digits}\nstacks: [elr]\nfigures: [{title: 3, x: 5, y: last}]",
    "base: {recipe: digits}\nstacks: [elr]\nfigures: [{title: a, x: 5, y: last}]",
)  # fmt: skip
SEARCHES = (
    "space: [a]", "space: {1: [0, 1]}", "sampler: [tpe]", "objective: {a: 1}", "trials: true", "trials: abc",
    "space: {elr.beta: [.nan, 0.5]}", "space: {elr.beta: {low: 0.1, high: .inf}}", "space: {elr.beta: [0.5, 7]}",
)  # fmt: skip


@pytest.mark.parametrize("text", RECIPES, ids=short)
def test_recipes_of_other_types(text: str, template: Template, workspace: Path) -> None:
    (workspace / "recipe.yaml").write_text(text)
    assert "error: " in refused("run recipe.yaml --dry-run", template, workspace)


@pytest.mark.parametrize("text", SUITES, ids=short)
def test_suites_of_other_types(text: str, template: Template, workspace: Path) -> None:
    (workspace / "suite.yaml").write_text(text)
    assert "error: " in refused("bench suite.yaml --dry-run", template, workspace)
    assert "error: " in refused("validate suite.yaml", template, workspace)


@pytest.mark.parametrize("text", SEARCHES, ids=short)
def test_searches_of_other_types(text: str, template: Template, workspace: Path) -> None:
    (workspace / "search.yaml").write_text("base: {recipe: digits, mitigations: elr}\n" + text)
    assert "error: " in refused("search search.yaml", template, workspace)


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    """Return a change of a manifest that deletes an entry."""

    def change(manifest: dict[str, Any]) -> Any:
        entry = manifest
        for key in keys[:-1]:
            entry = entry[key]
        del entry[keys[-1]]
        return manifest

    return change


MANIFESTS: tuple[Callable[[dict[str, Any]], Any], ...] = (
    without("dataset", "name"), without("dataset", "sizes"), without("noise"), without("noise", "name"),
    without("sha256"), without("transition_counts"), without("dataset", "classes"),
    lambda manifest: manifest | {"sha256": 5}, lambda manifest: manifest | {"sha256": None},
    lambda manifest: manifest | {"dataset": manifest["dataset"] | {"classes": ["0"]}},
    lambda manifest: manifest | {"dataset": 5}, lambda manifest: manifest | {"noise": []}, lambda manifest: [manifest],
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(MANIFESTS)))
def test_manifests_of_other_content(number: int, template: Template, workspace: Path) -> None:
    folder = template.copy("labels/classes", workspace)
    manifest = MANIFESTS[number](json.loads((folder / "manifest.json").read_text()))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for command in ("labels info labels/classes", "labels verify labels/classes", "labels export labels/classes x.csv"):
        assert "manifest" in refused(command, template, workspace)


@pytest.mark.parametrize("text", ["[" * NESTED + "]" * NESTED, DIGITS, "", "{", "\ud800"], ids=short)
def test_manifests_that_are_no_json(text: str, template: Template, workspace: Path) -> None:
    folder = template.copy("labels/classes", workspace)
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused("labels info labels/classes", template, workspace)
    refused("labels create digits -o labels/classes", template, workspace)


def files_beside_store(folder: Path) -> set[str]:
    """Return the relative paths of all files and folders that do not belong to the store."""
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    return {path.as_posix() for path in paths if not path.parts[0].startswith(("mlflow.db", "mlartifacts"))}


@pytest.mark.parametrize("line", [
    "labels create digits -o file", "labels create digits -o /proc/x", "labels create digits -o file/below",
    "labels export labels/classes file/below.csv", "labels export labels/classes /proc/x.csv", "labels export labels/classes x",
    "labels export labels/classes full.csv", "inspect digits -o /proc/nosuch/x.png", "inspect digits -o x.txt",
    "inspect digits -o folder/", "inspect digits -o noext", "inspect digits -o pipe.png", "leaderboard -f csv -o folder",
    "leaderboard -f csv -o pipe", "leaderboard -f html -o full", "leaderboard export file", "leaderboard reproduction -o folder",
    "leaderboard package file --description x", "audit digits -o file", "bench quickstart --html folder",
], ids=short)  # fmt: skip
def test_places_that_cannot_be_written(line: str, template: Template, workspace: Path) -> None:
    (workspace / "file").touch()
    (workspace / "folder").mkdir()
    template.copy("labels/classes", workspace)
    for name in ("pipe", "pipe.png"):
        os.mkfifo(workspace / name)
    for name in ("full", "full.csv"):
        make_full(workspace / name)
    before = files_beside_store(workspace)
    assert "error: " in refused(line, template, workspace)
    assert files_beside_store(workspace) == before, "a refused command leaves no files"


@pytest.mark.parametrize("line", [
    ["validate", LONG_NAME], ["validate", f"{LONG_NAME}.yaml"], ["validate", "p/" * 2500], ["run", "p/" * 2500 + "x.yaml"],
    ["labels", "info", LONG_NAME], ["labels", "export", "p/" * 2500, "x.csv"], ["labels", "create", "digits", "-o", LONG_NAME],
    ["audit", LONG_NAME], ["audit", f"{LONG_NAME}.npz"], ["describe", LONG_NAME], ["leaderboard", "verify", LONG_NAME],
    ["run", "digits", f"seed={DIGITS}"], ["run", "digits", f"budget.epochs={DIGITS}"],
    ["bench", "quickstart", "--dry-run", "--shard", f"1/{DIGITS}"],
    ["bench", "quickstart", "--dry-run", "--shard", f"{DIGITS}/1"],
    ["validate", "digits", "dataset=npz", f"dataset.path={LONG_NAME}.npz"], ["labels", "info", "~nosuchuser/x"],
    ["validate", "digits", "dataset=npz", "dataset.path=~nosuchuser/x.npz"], ["audit", "~nosuchuser/x.npz"],
    ["validate", "digits", "dataset=image_folder", f"dataset.root={LONG_NAME}"],
], ids=short)  # fmt: skip
def test_names_and_numbers_beyond_all_limits(line: list[str], template: Template, workspace: Path) -> None:
    refused(line, template, workspace)


def write_archive(**members: bytes) -> Callable[[Path], None]:
    """Return a function that writes an archive of raw members."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)

    return write


def write_arrays(**arrays: Any) -> Callable[[Path], None]:
    """Return a function that writes an archive of images and labels with some arrays changed."""
    return lambda path: np.savez(path, **({"images": IMAGES, "labels": LABELS} | arrays))


def write_single_array(path: Path) -> None:
    """Write an array file under the name of an archive."""
    with path.open("wb") as file:
        np.save(file, LABELS)


NPZ: tuple[Callable[[Path], Any], ...] = (
    write_arrays(labels=LABELS + 0.7), write_arrays(labels=(LABELS + 0.5).astype(str)),
    write_arrays(labels=LABELS.astype(object)),
    write_arrays(labels=LABELS + 10**10), write_arrays(labels=LABELS * 10**6), write_arrays(class_names=np.array("cat")),
    write_arrays(class_names=np.arange(2_000_000)), write_arrays(class_names=np.arange(50)), write_arrays(labels=np.array(1)),
    write_arrays(labels=LABELS * 0),
    write_archive(images=b"text", labels=b""), write_archive(images=huge_array(), labels=huge_array()),
    write_archive(images=deep_header()), write_single_array, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir,
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(NPZ)))
def test_archives_of_other_content(number: int, template: Template, workspace: Path) -> None:
    NPZ[number](workspace / "x.npz")
    output = refused("validate digits dataset=npz dataset.path=x.npz", template, workspace)
    assert "x.npz" in output or "classes" in output
    refused("audit x.npz budget.network=mlp:4", template, workspace)


@pytest.mark.parametrize("side", [40_000, 2**31 - 1])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_pictures_that_claim_billions_of_pixels(side: int, on_error: str, template: Template, workspace: Path) -> None:
    for name in ("a", "b"):
        (workspace / "images" / name).mkdir(parents=True)
        (workspace / "images" / name / "x.png").write_bytes(image_bomb(side))
    line = f"validate digits dataset=image_folder dataset.root=images dataset.on_error={on_error}"
    assert "too large to decode" in refused(line, template, workspace)


def write_small_folder(root: Path, per_class: int) -> None:
    """Write pictures of two classes."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            Image.new("L", (8, 8), number).save(root / name / f"{number}.png")


def test_a_folder_with_one_picture_per_class_is_never_trained(template: Template, workspace: Path) -> None:
    write_small_folder(workspace / "images", 1)
    output = refused("run digits dataset=image_folder dataset.root=images", template, workspace)
    assert "no test example is left" in output


def test_names_that_are_no_utf_8(template: Template, workspace: Path) -> None:
    write_small_folder(workspace / "images", 8)
    with open(os.fsencode(workspace / "images" / "a") + b"/\xff\xfe.png", "wb") as file:
        file.write(b"x")
    output = refused("validate digits dataset=image_folder dataset.root=images", template, workspace)
    assert "damaged or not an image" in output


@pytest.mark.parametrize("uri", ["http://127.0.0.1:notaport", "http://127.0.0.1:9", "nonsense", "file:///proc/x"])
@pytest.mark.parametrize("line", ["leaderboard", "run digits", "leaderboard package entry --description x"])
def test_stores_that_are_none(uri: str, line: str, template: Template, workspace: Path) -> None:
    refused(line, template, workspace, MLFLOW_TRACKING_URI=uri)


@pytest.mark.parametrize("text", [
    "observed\n99999999999999999999\n", "index,observed\n999999999999,1\n", "index,observed\n0.5,1\n", "index,observed\n,1\n",
    "observed\n" + DIGITS + "\n", "observed\nnan\n", "", "\x00", "a,b\n1\n1,2,3\n",
], ids=short)  # fmt: skip
def test_label_tables_of_other_content(text: str, template: Template, workspace: Path) -> None:
    (workspace / "x.csv").write_text(text)
    assert "x.csv" in refused("labels import x.csv digits -o out", template, workspace)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_pipes_devices_and_folders_in_the_place_of_files(
    make: Callable[[Path], Any], template: Template, workspace: Path
) -> None:
    entry, labels = template.copy("entry", workspace), template.copy("labels/classes", workspace)
    for file in (entry / "submission.json", labels / "manifest.json", labels / "labels.csv"):
        kept = file.read_bytes()
        file.unlink()
        make(file)
        refused(f"leaderboard verify {entry}" if file.parent == entry else f"labels info {labels}", template, workspace)
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        file.write_bytes(kept)
    for name in ("x.yaml", "x.csv"):
        make(workspace / name)
    refused("validate x.yaml", template, workspace)
    refused("labels import x.csv digits", template, workspace)

"""Identity by content of data: the bytes that training reads count, all of them and nothing else."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.data_files import check_data, download_missing, missing_data
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.utils import digests
from noisybench.utils.digests import digest_files
from noisybench.utils.file_listing import list_source
from tests.helpers import toy_dataset, toy_masks

READS_NATIVELY = ("parquet",)
"""Datasets whose library opens files without Python."""

_opened: list[str] | None = None


def _record_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_record_open)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Files that are opened during the test."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


def overwrite(path: Path) -> None:
    """Overwrite a file with other bytes of the same number."""
    data = path.read_bytes()
    path.write_bytes(bytes(byte ^ 0xFF for byte in data))


@pytest.mark.parametrize("name", list_entries("datasets"))
def test_every_file_that_a_dataset_reads_counts(name: str, tmp_path: Path, opened: list[str]) -> None:
    source = get_entry("datasets", name).load_class()
    (tmp_path / "data").mkdir()
    raw = {"task": source.tasks[0], "dataset": {"name": name, **source.example(tmp_path / "data")}}
    spec = resolve(raw)
    opened.clear()
    spec.dataset.build().load()
    read = {Path(path) for path in opened if path.startswith(str(tmp_path / "data"))}
    assert bool(read) == bool(spec.data) or name in READS_NATIVELY
    sources = spec.dataset.build().data_files().items()
    listed = {Path(os.fsdecode(file.path)) for key, source in sources for file in list_source(key.encode(), source)}
    assert read <= listed
    for file in sorted(read)[:: max(1, len(read) // 4)]:
        overwrite(file)
        assert resolve(raw).data != spec.data, file
        overwrite(file)
    assert resolve(raw).data == spec.data


@pytest.mark.parametrize("name", ["from_file", "from_folder", "human"])
def test_every_file_that_a_noise_model_reads_counts(name: str, tmp_path: Path, opened: list[str]) -> None:
    model = get_entry("noise_models", name).load_class()
    dataset = toy_masks() if name == "from_folder" else toy_dataset()
    dataset = dataclasses.replace(dataset, source_names=tuple(map(str, range(dataset.source_size))))
    (tmp_path / "data").mkdir()
    component = model(**model.example(dataset, tmp_path / "data"))
    opened.clear()
    component.apply(dataset)
    read = {Path(path) for path in opened if path.startswith(str(tmp_path / "data"))}
    assert read
    before = digest_files(component.data_files())
    for file in sorted(read)[:3]:
        overwrite(file)
        assert digest_files(component.data_files()) != before, file
        overwrite(file)


@pytest.mark.parametrize(
    ("dataset", "other"),
    [
        ({"name": "cifar10"}, "MNIST/raw/train-images-idx3-ubyte"),
        ({"name": "mnist"}, "cifar-10-batches-py/data_batch_1"),
        ({"name": "image_folder"}, "train/circle/.DS_Store"),
        ({"name": "image_folder"}, "notes/plan.txt"),
        ({"name": "image_mask_folder"}, "predictions/001.png"),
        ({"name": "clothing1m"}, "images/0/unlisted.jpg"),
    ],
)
def test_other_files_beside_the_data_do_not_count(dataset: dict[str, Any], other: str, tmp_path: Path) -> None:
    spec = {**get_entry("datasets", dataset["name"]).load_class().example(tmp_path), **dataset}
    task = get_entry("datasets", dataset["name"]).load_class().tasks[0]
    before = resolve({"dataset": spec, "task": task})
    assert before.data["dataset"]
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_text("other")
    assert resolve({"dataset": spec, "task": task}).identity == before.identity


def test_permissions_to_download_and_checksums_leave_the_identity_alone(tmp_path: Path) -> None:
    parameters = get_entry("datasets", "cifar10").load_class().example(tmp_path)
    one = resolve({"dataset": {"name": "cifar10", **parameters, "checksum": True, "download": True}})
    other = resolve({"dataset": {"name": "cifar10", **parameters, "checksum": False, "download": False}})
    assert one.identity == other.identity
    overwrite(tmp_path / "cifar-10-batches-py" / "batches.meta")
    assert resolve({"dataset": {"name": "cifar10", **parameters}}).identity != one.identity


def save_features(folder: Path, seed: int) -> None:
    """Save features of one shape, which decide the size of the files."""
    folder.mkdir(exist_ok=True)
    points = np.random.default_rng(seed)
    for prefix in ("train", "id"):
        np.save(folder / f"{prefix}_x.npy", points.normal(size=(12, 4)).astype(np.float32))
        np.save(folder / f"{prefix}_y.npy", np.arange(12) % 3)


def save_masks(folder: Path, seed: int) -> None:
    """Save a mask of fixed size."""
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(np.random.default_rng(seed).bytes(100))


def save_table(folder: Path, seed: int) -> None:
    """Save a table of labels of one digit."""
    folder.mkdir(exist_ok=True)
    labels = np.random.default_rng(seed).integers(0, 10, 50)
    (folder / "labels.csv").write_text("\n".join(["observed", *map(str, labels), ""]))


def save_program(folder: Path, seed: int) -> None:
    """Save a program of fixed length."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(f"seed = {seed}\n")


SCENARIOS: dict[str, tuple[Callable[[Path, int], None], dict[str, Any]]] = {
    "features": (save_features, {"dataset": {"name": "features", "path": "data"}, "task": "transfer"}),
    "masks": (save_masks, {"noise": {"name": "from_folder", "path": "data"}, "task": "segmentation"}),
    "table": (save_table, {"noise": {"name": "from_file", "path": "data/labels.csv"}}),
    "matrix": (save_table, {"noise": {"name": "transition_matrix", "path": "data/labels.csv"}}),
    "program": (save_program, {"dataset": {"name": "traced_integers", "program": "data/program.py:P"}}),
    "weights": (save_program, {"mitigations": {"name": "simclr", "checkpoint": "data/program.py"}}),
    "backbone": (save_program, {"task": {"name": "transfer", "checkpoint": "data/program.py"}}),
    "language model": (save_program, {"budget": {"network": "huggingface:data"}}),
    "pre-training": (
        save_features,
        {"task": {"name": "transfer", "pretraining": {"dataset": {"name": "npz", "path": "data/train_x.npy"}}}},
    ),
    "noise of the pre-training": (
        save_table,
        {"task": {"name": "transfer", "pretraining": {"noise": {"name": "from_file", "path": "data/labels.csv"}}}},
    ),
    "out-of-distribution images": (
        save_masks,
        {"noise": {"name": "web", "source": "image_folder", "path": "data"}},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_bytes_of_the_same_size_make_another_run(name: str, workspace: Path) -> None:
    save, raw = SCENARIOS[name]
    save(workspace / "data", 1)
    before = resolve(raw)
    assert len(before.data) == 1
    check_data(pickle.loads(pickle.dumps(before)))
    save(workspace / "data", 2)
    after = resolve(raw)
    assert after.identity != before.identity
    assert after.settings_hash != before.settings_hash
    with pytest.raises(UserError, match="have changed since this command planned the run") as error:
        check_data(before)
    assert str(error.value).startswith(next(iter(before.data)))
    assert len(str(error.value).splitlines()) == 1
    save(workspace / "data", 1)
    assert resolve(raw).identity == before.identity


def test_a_moved_folder_keeps_its_runs(workspace: Path) -> None:
    save_features(workspace / "data", 1)
    before = resolve({"dataset": {"name": "features", "path": "data"}, "task": "transfer"})
    (workspace / "data").rename(workspace / "moved")
    after = resolve({"dataset": {"name": "features", "path": str(workspace / "moved")}, "task": "transfer"})
    assert after.identity == before.identity


def test_moved_data_of_a_nested_run_keep_its_identity(workspace: Path) -> None:
    def planned(path: str) -> RunSpec:
        dataset = {"name": "features", "path": path}
        return resolve({"task": {"name": "transfer", "pretraining": {"dataset": dataset, "noise": "clean"}}})

    save_features(workspace / "data", 1)
    before = planned("data")
    (workspace / "data").rename(workspace / "moved")
    after = planned("moved")
    assert (after.identity, after.budget_hash) == (before.identity, before.budget_hash)
    save_features(workspace / "moved", 2)
    assert planned("moved").identity != before.identity


def test_missing_data_are_downloaded_before_runs_are_planned(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    human = get_entry("noise_models", "human").load_class()
    monkeypatch.setenv("NOISYBENCH_CACHE", str(workspace / "cache"))
    specs = [resolve({"noise": {"name": "human", "labels": name}}) for name in ("worse_label", "aggre_label")]
    assert [list(missing_data(spec)) for spec in specs] == [["noise"], ["noise"]]
    calls: list[str] = []

    def fetch(model: Any) -> None:
        calls.append(model.labels)
        (workspace / "cache" / "human").mkdir(parents=True, exist_ok=True)
        (workspace / "cache" / "human" / "CIFAR-10_human.pt").write_bytes(b"annotations")

    monkeypatch.setattr(human, "fetch", fetch)
    fetched = download_missing(specs)
    assert calls == ["worse_label"], "one download serves both"
    assert [missing_data(spec) for spec in fetched] == [{}, {}]
    assert [spec.identity for spec in fetched] == [resolve(spec.as_dict()).identity for spec in specs]
    for spec in fetched:
        check_data(spec)


def test_the_runs_of_a_command_read_the_data_once(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from noisybench.config.resolve import read_recipe

    save_table(workspace / "data", 1)
    calls: list[object] = []
    original = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda sources: calls.append(sources) or original(sources))
    specs = read_recipe("digits", ["noise=from_file", "noise.path=data/labels.csv", "seed=0,1,2,3"])
    assert len(specs) == 4
    assert len(calls) == 1


def test_unreadable_data_are_refused_with_one_message(workspace: Path) -> None:
    os.mkfifo(workspace / "labels.csv")
    with pytest.raises(UserError, match=r"labels\.csv: is neither a file nor a folder"):
        resolve({"noise": {"name": "from_file", "path": "labels.csv"}})
    with pytest.raises(UserError, match="cannot be read"):
        resolve({"noise": {"name": "from_file", "path": "x" * 300}})

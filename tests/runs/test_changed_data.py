"""Finished runs count only for the bytes that they were trained on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.execution.suite_runner import make_plan
from noisybench.records.schema import RunRecord
from noisybench.runs import runner
from noisybench.runs.runner import execute
from noisybench.search.definition import make_search
from noisybench.search.trials import TrialRunner
from noisybench.tracking.store import Store


def write_images(folder: Path, informative: bool) -> None:
    """Write 2 x 40 bitmaps of one size: bright and dark ones, or noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 8, 8, 3), dtype=np.uint8)
    for label, name in enumerate(("bright", "dark")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(40):
            image = np.where(informative, pixels[label, number] // 8 + 220 * label, pixels[label, number])
            file = f"{number:02}.bmp" if number else "\udcff\udcfe.bmp"
            with open(folder / name / file, "wb") as opened:
                Image.fromarray(image.astype(np.uint8)).save(opened, "bmp")


def spec_of(folder: Path) -> RunSpec:
    """A short run on the images."""
    budget = {"network": "mlp:16", "epochs": 8, "batch_size": 16, "augmentation": "none"}
    dataset = {"name": "image_folder", "root": str(folder)}
    return resolve({"dataset": dataset, "budget": budget, "execution": {"device": "cpu", "system_metrics": False}})


def accuracy(records: list[RunRecord], spec: RunSpec) -> float:
    """Test accuracy in the last epoch of a run."""
    (record,) = [record for record in records if record.identity == spec.identity]
    return float(record.rows[-1].metrics()["test_accuracy"])


def test_overwritten_images_are_trained_again(workspace: Path, store: Store) -> None:
    # One of the images has a name that is no UTF-8.
    write_images(workspace / "images", informative=True)
    first = spec_of(workspace / "images")
    assert execute(first, store, lambda kind, data: None, lambda: False) == "finished"
    (workspace / "images").rename(workspace / "moved")
    assert not make_plan([spec_of(workspace / "moved")], store.runs.records()).pending, "moved data are the same data"
    write_images(workspace / "moved", informative=False)
    second = spec_of(workspace / "moved")
    assert make_plan([second], store.runs.records()).pending == [second]
    assert execute(second, store, lambda kind, data: None, lambda: False) == "finished"
    records = store.runs.records()
    assert accuracy(records, first) > 0.95
    assert accuracy(records, second) < 0.85
    assert len({record.label_set for record in records}) == 2


def test_a_class_folder_that_is_no_utf8_is_refused_with_its_name(workspace: Path) -> None:
    write_images(workspace / "images", informative=True)
    (workspace / "images" / "dark").rename(workspace / "images" / "d\udcffrk")
    with pytest.raises(UserError, match=r"the class name `d\\udcffrk` is not encoded in UTF-8; rename its folder"):
        spec_of(workspace / "images").dataset.build().load()
    with pytest.raises(UserError, match=r"dataset\.root: .*images\\udcff is not encoded in UTF-8"):
        spec_of(workspace / "images\udcff")


@pytest.mark.parametrize("when", ["before loading", "while loading"])
def test_data_that_change_after_planning_are_refused(
    when: str, workspace: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(workspace / "images", informative=True)
    spec = spec_of(workspace / "images")
    original: Callable[..., object] = runner.prepare_run

    def prepare(*arguments: object, **named: object) -> object:
        prepared = original(*arguments, **named)
        write_images(workspace / "images", informative=False)
        return prepared

    if when == "before loading":
        write_images(workspace / "images", informative=False)
    else:
        monkeypatch.setattr(runner, "prepare_run", prepare)
    with pytest.raises(UserError, match="dataset: its files have changed since this command planned the run") as error:
        execute(spec, store, lambda kind, data: None, lambda: False)
    assert len(str(error.value).splitlines()) == 1
    assert not store.runs.records()


def test_trials_of_one_search_share_the_data(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(workspace / "images", informative=True)
    spec = spec_of(workspace / "images")
    search = make_search("study", {**spec.as_dict(), "mitigations": "elr"}, {}, {"trials": 2})
    trials = TrialRunner(search, None, "", "run")  # type: ignore[arg-type]
    trials._data = search.spec({}, 0).data
    trial = type("Trial", (), {"values": {}})()
    trials._start_seed(trial, 0)
    write_images(workspace / "images", informative=False)
    with pytest.raises(UserError, match="have changed since the search started"):
        trials._start_seed(trial, 0)


def test_decoded_images_follow_the_bytes_of_their_files(workspace: Path) -> None:
    write_images(workspace / "images", informative=True)
    before = spec_of(workspace / "images").dataset.build().load()
    times = {file: file.stat() for file in (workspace / "images").rglob("*.bmp")}
    write_images(workspace / "images", informative=False)
    for file, status in times.items():
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = spec_of(workspace / "images").dataset.build().load()
    assert after.hash != before.hash, "sizes and modification times are those of the old files"

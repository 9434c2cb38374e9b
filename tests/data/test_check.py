"""Checks of data: facts, their report in a terminal and on a page, and the layouts that are found."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import read_recipe
from noisybench.data.check.detection import dataset_of
from noisybench.data.check.facts import check_dataset
from noisybench.data.check.notes import dataset_notes, new_notes
from noisybench.data.check.pictures import outlined
from noisybench.data.check.report import to_html, to_text
from noisybench.execution import preflight
from noisybench.utils.progress import listening
from noisybench.utils.seeds import Stream

Command = Callable[..., tuple[int, str]]

OWN = [name for name, entry in list_entries("datasets").items() if entry.load_class().own_files]


def write_images(folder: Path, sizes: dict[str, int], test: dict[str, int] | None = None) -> None:
    """Write random images of some classes, into `train` and `test` if there is a test split."""
    for split, counts in (("train" if test else "", sizes), ("test", test or {})):
        for name, count in counts.items():
            (folder / split / name).mkdir(parents=True)
            for row in range(count):
                pixels = (Stream("check", split, name, row).uniform(9, 8, 3) * 256).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{row:03}.png")


@pytest.mark.parametrize("name", OWN)
def test_own_files_are_found_by_their_layout_and_reported(name: str, tmp_path: Path) -> None:
    parameters = get_entry("datasets", name).load_class().example(tmp_path)
    # Of a dataset of several files, the folder is given.
    given = [name for name, value in parameters.items() if str(value).startswith(str(tmp_path))]
    place = tmp_path if len(given) > 1 else Path(parameters[given[0]])
    found = dataset_of(place)
    assert found.pop("name") == name
    others = {key: value for key, value in parameters.items() if key not in given}
    report = check_dataset(get_entry("datasets", name).load_class()(**(others | found)))
    assert report.files is not None
    assert report.files.count > 0
    assert all(count > 0 for split, count in report.splits.items() if split != "validation")
    text = "\n".join(to_text(report))
    assert f"train {report.splits['train']:,}" in text
    page = to_html(report, "a <b>")
    assert "<h1>Check of a &lt;b&gt;</h1>" in page
    assert page.count("<img") == len(report.pictures)


def test_a_folder_of_images_is_reported_in_the_terminal_and_on_a_page(tmp_path: Path, noisybench: Command) -> None:
    write_images(tmp_path / "d", {"cat": 30, "dog": 30, "horse": 2}, {"cat": 6, "dog": 6})
    (tmp_path / "d" / "test" / "cat" / "000.png").write_bytes((tmp_path / "d/train/cat/003.png").read_bytes())
    (tmp_path / "d" / "train" / "dog" / "copy.png").write_bytes((tmp_path / "d/train/cat/004.png").read_bytes())
    (tmp_path / "d" / "test" / "horse").mkdir()
    Image.fromarray(np.full((9, 8, 3), 7, np.uint8)).save(tmp_path / "d" / "test" / "horse" / "x.png")
    status, text = noisybench("data", "check", str(tmp_path / "d"), "-o", str(tmp_path / "r.html"))
    assert status == 0, text
    for line in (
        "files          76 (", ".png 76", "image sizes    8x9 76", "image modes    RGB 76", "splits         train 57",
        "exact copies   1 in validation, 2 with other labels", "note: Test examples were left out", "1: cat/000",
        "note: Classes have few training examples (1: horse (2))",
    ):  # fmt: skip
        assert line in text
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 4 + 4 + 2
    assert "http:" not in page
    assert "<script" not in page


def test_names_that_are_no_unicode_text_are_shown(tmp_path: Path, noisybench: Command) -> None:
    write_images(tmp_path / "d", {"cat": 8, "dog": 8})
    try:
        for row in range(8):
            os.rename(tmp_path / f"d/cat/00{row}.png", os.fsencode(tmp_path / f"d/cat/<i>{row}") + b"\xff.png")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    status, printed = noisybench("data", "check", str(tmp_path / "d"), "-o", str(tmp_path / "report.html"))
    assert status == 0, printed
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "cat/&lt;i&gt;" in page
    assert "\\udcff.png" in page


def test_outlines_lie_on_the_border_of_their_object() -> None:
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:20, 5:25] = 2
    picture = outlined(image, mask)
    rows, columns = np.nonzero(picture.any(axis=2))
    assert picture.shape == (160, 160, 3)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 79, 20, 99)
    assert not picture[45:75, 25:95].any()


def test_masks_are_reported_with_their_shares(tmp_path: Path, noisybench: Command) -> None:
    parameters = get_entry("datasets", "image_mask_folder").load_class().example(tmp_path)
    status, text = noisybench(
        "data", "check", str(tmp_path), f"dataset.size={parameters['size']}", "-o", str(tmp_path / "m.html")
    )
    assert status == 0, text
    assert "of the training pixels; masks: train" in text
    assert "no label" in text
    assert (tmp_path / "m.html").read_text().count("<img") == 12


def test_votes_of_annotators_are_compared_with_each_other_and_with_the_clean_labels(
    tmp_path: Path, noisybench: Command
) -> None:
    write_images(tmp_path / "d", {"cat": 20, "dog": 20})
    # Two annotators are right, and the third one is wrong about every second cat.
    lines = [
        f"{name}/{row:03}.png,{name},{name},{'dog' if name == 'cat' and row % 2 else name}"
        for name in ("cat", "dog")
        for row in range(20)
    ]
    (tmp_path / "votes.csv").write_text("\n".join(["file,annotator_1,annotator_2,annotator_3", *lines]))
    overrides = ["noise=from_file", f"noise.path={tmp_path / 'votes.csv'}", "dataset.validation_fraction=0"]
    status, text = noisybench("data", "check", str(tmp_path / "d"), *overrides)
    assert status == 0, text
    assert "noise model from_file: noise rate 0.0%" in text
    assert "annotators 3" in text
    agreement = float(text.split("pairwise agreement ")[1].split(",")[0])
    assert agreement == pytest.approx(1 - 10 / 40 * 2 / 3, abs=0.03)  # of the training examples


def test_what_is_no_data_is_refused(tmp_path: Path, noisybench: Command) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "empty", "no dataset reads this folder"),
        (tmp_path / "nothing", "there is no such file, folder or recipe"),
    ):
        status, text = noisybench("data", "check", str(path))
        assert status == 2
        assert message in text
    status, text = noisybench("data", "check", str(tmp_path / "empty"), "dataset=digits")
    assert (status, "digits reads no files of a path" in text) == (2, True)
    write_images(tmp_path / "one", {"cat": 12})
    status, text = noisybench("data", "check", str(tmp_path / "one"))
    assert (status, "class" in text) == (2, True)


def test_progress_is_reported_up_to_the_end(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 20, "dog": 20})
    seen: dict[str, tuple[int, int]] = {}
    with listening(lambda step, done, total: seen.update({step: (done, total)})):
        check_dataset(get_entry("datasets", "image_folder").load_class()(root=tmp_path))
    assert seen["read headers"] == (40, 40)
    assert seen["decode images"] == (40, 40)
    assert seen["compare contents"] == (1, 1)


def test_notes_about_a_set_are_new_once_and_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "d", {"cat": 60, "dog": 60, "horse": 3})
    dataset = get_entry("datasets", "image_folder").load_class()(root=tmp_path / "d").load()
    notes = dataset_notes(dataset)
    assert [note.kind for note in notes] == ["rare_classes"]
    assert (new_notes(dataset), new_notes(dataset), dataset_notes(dataset)) == (notes, (), notes)
    (file,) = (tmp_path / "cache" / "checks").iterdir()
    file.write_text("{")
    assert new_notes(dataset) == notes


def test_commands_show_notes_about_the_data(
    tmp_path: Path, noisybench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "d", {"cat": 60, "dog": 60, "horse": 3})
    overrides = ["dataset=image_folder", f"dataset.root={tmp_path / 'd'}", "budget.network=mlp:4", "noise.rate=0.2"]
    status, text = noisybench("labels", "create", "digits", *overrides)
    assert status == 0, text
    assert "note: Classes have few training examples (1: horse (2))" in text
    # The process that validates runs, without its start, which takes seconds.
    expected = ["image_folder: Classes have few training examples (1: horse (2))"]
    for wanted, notes in (("new", expected), ("new", []), ("all", expected), ("none", [])):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        preflight._validate(sender, read_recipe("digits", overrides), True, wanted)  # type: ignore[arg-type]
        problems, _, found = receiver.recv()
        assert (problems, found) == ([], notes)


def test_images_of_several_sizes_are_resized_for_the_check_alone(tmp_path: Path, noisybench: Command) -> None:
    write_images(tmp_path, {"cat": 20, "dog": 20})
    Image.fromarray(np.arange(300).astype(np.uint8).reshape(10, 10, 3)).save(tmp_path / "cat" / "000.png")
    status, text = noisybench("data", "check", str(tmp_path))
    assert status == 0, text
    assert "image sizes    8x9 39, 10x10 1" in text
    assert "resized to 64x64 pixels for this check" in text
    assert noisybench("labels", "create", "digits", "dataset=image_folder", f"dataset.root={tmp_path}")[0] == 2

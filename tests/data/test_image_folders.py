"""Folders of images as people have them: splits, classes, what is read, and what is left and reported."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.images.unread_files import looks_like_data
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


def write(root: Path, folders: Iterable[str], count: int = 4, suffix: str = ".png") -> Path:
    """Write different images into folders."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = (Stream("folders", folder, number, suffix).uniform(4, 4, 3) * 256).astype(np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}{suffix}", format="png")
    return root


def in_splits(*splits: str, classes: Iterable[str] = ("cat", "dog")) -> list[str]:
    return [f"{split}/{name}" for split in splits for name in classes]


def load(root: Path, **parameters: Any) -> Dataset:
    parameters.setdefault("validation_fraction", 0.0)
    dataset: Dataset = get_entry("datasets", "image_folder").load_class()(root=str(root), **parameters).load()
    return dataset


def notes(dataset: Dataset) -> dict[str, str]:
    return {note.kind: str(note) for note in dataset.notes}


def refusal(root: Path, **parameters: Any) -> str:
    with pytest.raises(UserError) as refused:
        load(root, **parameters)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "valid", "Testing"),
        ("TRAIN", "dev", "eval"),
        ("seg_train", "", "seg_test"),
    ],
)
def test_splits_of_any_spelling_are_used_as_such(train: str, validation: str, test: str, tmp_path: Path) -> None:
    write(tmp_path, in_splits(train), 6)
    write(tmp_path, in_splits(*filter(None, [validation])), 3)
    write(tmp_path, in_splits(test), 2)
    found = load(tmp_path)
    assert (len(found.train), len(found.validation), len(found.test)) == (12, 6 if validation else 0, 4)
    assert found.class_names == ("cat", "dog")
    assert not found.notes
    if validation:
        assert f"{validation}/cat/0.png" in found.source_names
        assert {found.source_names[row].split("/")[0] for row in found.validation.index} == {validation}
    assert found.source_names[:2] == ("cat/0.png", "cat/1.png")


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_validation_split_without_a_test_split_is_the_test_split(name: str, tmp_path: Path) -> None:
    write(write(tmp_path, in_splits("train"), 6), in_splits(name), 3)
    found = load(tmp_path)
    assert (len(found.train), len(found.test)) == (12, 6)
    assert notes(found) == {
        "validation_as_test": f"The validation split is the test split, because there is no other (1: {name})"
    }


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (in_splits("train", "val", "valid"), "`val` and `valid` both stand for the validation split"),
        (in_splits("test"), "has `test`, but no folder of training images"),
        (in_splits("val", "test"), "has `test`, `val`, but no folder of training images"),
        (in_splits("train", "holdout2"), "contains class folders like train, but its name is none of a split"),
        (["train", "test"], "contains images, but no class folders; expected train/CLASS/IMAGE"),
        ([*in_splits("train"), "test"], r"contains images, but no class folders.*dataset\.ignored_folders=\[test\]"),
        (["bus", "car", "train"], "the folders `bus`, `car`, `train` in .* could be classes or splits; set"),
        (
            in_splits("cat", "dog", classes=("train", "test")),
            "the class folder .*cat contains the splits `test`, `train`",
        ),
        (in_splits("pets/train", "pets/test"), r"the splits are in .*pets; set dataset\.root=.*pets"),
        (["cat"], "has the one class folder `cat`, but at least two are needed"),
        ([], "has no class folders, but at least two are needed$"),
        (["."], "has no class folders, but at least two are needed; dataset=image_table reads"),
        (["pets/cat", "pets/dog"], r"the one class folder `pets`.*; set dataset\.root=.*/pets if"),
        ([*in_splits("train"), "test/Dog"], r"test has the class `Dog`, which .*train does not have; did you mean"),
        ([*in_splits("train"), "valid/bird", "test/cat"], "valid has the class `bird`"),
    ],
)
def test_layouts_without_one_meaning_are_refused_with_the_names(
    folders: list[str], message: str, tmp_path: Path
) -> None:
    assert re.search(message, refusal(write(tmp_path, folders, 2)))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path, ["bus", "car", "train"])
    assert load(tmp_path, split_folders=False).class_names == ("bus", "car", "train")


def test_folders_beside_splits_are_reported_and_can_be_ignored(tmp_path: Path) -> None:
    write(tmp_path, [*in_splits("train", "test"), "unlabeled"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "notes.txt").write_text("none")
    assert notes(load(tmp_path)) == {"unread_folders": "Folders beside the splits were not read (1: unlabeled)"}
    write(tmp_path, in_splits("extra"))
    assert not load(tmp_path, ignored_folders=["extra", "unlabeled"]).notes


def test_a_folder_in_a_folder_of_the_same_name_is_the_split(tmp_path: Path) -> None:
    write(tmp_path, in_splits("seg_train/seg_train", "seg_test/seg_test"))
    assert (len(load(tmp_path).train), len(load(tmp_path).test)) == (8, 8)


def test_classes_are_matched_by_name_and_sorted_as_numbers(tmp_path: Path) -> None:
    names = [str(number) for number in range(12)]
    write(tmp_path, in_splits("train", classes=names), 2)
    write(tmp_path, in_splits("test", classes=["11", "2"]), 1)
    found = load(tmp_path)
    assert found.class_names == tuple(names)
    assert sorted(found.test.targets.tolist()) == [2, 11]
    assert "classes_without_test_examples" in notes(found)
    for row, target in zip(found.train.index, found.train.targets, strict=True):
        assert found.source_names[row].split("/")[0] == str(target)


def test_names_in_both_unicode_forms_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write(tmp_path / "a", [*in_splits("train", classes=[composed, "tea"]), f"test/{decomposed}", "test/tea"])
    found = load(tmp_path / "a")
    assert found.class_names == (composed, "tea")
    assert np.bincount(found.test.targets).tolist() == [4, 4]
    write(tmp_path / "b", [composed, decomposed, "tea"])
    assert "two folders in" in refusal(tmp_path / "b")


def test_what_systems_leave_behind_never_counts(tmp_path: Path) -> None:
    write(tmp_path, ["cat", "dog"])
    before = load(tmp_path)
    write(
        tmp_path, ["__MACOSX/cat", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "cat/@eaDir", ".git", "lost+found"]
    )
    for name in ("._0.png", "Thumbs.db", "desktop.ini", ".DS_Store", "__MACOSX"):
        (tmp_path / "cat" / name).write_bytes(b"\0")
        (tmp_path / name).is_dir() or (tmp_path / name).write_bytes(b"\0")
    after = load(tmp_path)
    assert after.hash == before.hash
    assert not after.notes


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, [*in_splits("train", "test"), "train/dog/old"])
    for name in ("train/cat/1.heic", "train/cat/2.npy", "train/0.png", "test/1.zip", "labels.csv", "README.md"):
        (tmp_path / name).write_bytes(b"\0")
    found = load(tmp_path)
    unread = notes(found)["unread_files"]
    assert all(name in unread for name in ("(5: ", "train/cat/1.heic", "train/cat/2.npy", "train/0.png", "labels.csv"))
    assert notes(found)["nested_folders"].startswith(
        "Images in folders below the class folders count as their class (4: "
    )
    assert len(found.train) == 12


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".gif", ".webp", ".JPG", ".avif", ".jp2", ".pnm"])
def test_images_of_unusual_suffixes_are_read(suffix: str, tmp_path: Path) -> None:
    write(write(tmp_path, ["cat", "dog"]), ["cat"], 2, suffix)
    assert load(tmp_path).source_size == 10


def test_a_class_folder_without_images_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, ["cat", "dog"])
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "1.heic").write_bytes(b"\0")
    message = refusal(tmp_path)
    assert "emu contains no images" in message
    assert "1 other file (1.heic)" in message
    assert load(tmp_path, ignored_folders=["emu"]).class_names == ("cat", "dog")


def test_facts_about_images_are_notes_of_the_dataset(tmp_path: Path) -> None:
    write(tmp_path, in_splits("train", "test"))
    Image.new("LA", (4, 4), (7, 9)).save(tmp_path / "test" / "cat" / "9.png")
    expected = {
        "transparency": "Transparent pixels were composed on white (1: test/cat/9.png)",
        "blank": "Images have the same color everywhere (1: test/cat/9.png)",
    }
    assert notes(load(tmp_path)) == expected
    assert notes(load(tmp_path)) == expected


def test_a_damaged_test_image_is_refused_or_skipped(tmp_path: Path) -> None:
    write(tmp_path, in_splits("train", "val", "test"))
    for split in ("val", "test"):
        (tmp_path / split / "cat" / "0.png").write_text("no image")
    with pytest.raises(UserError, match="damaged or not an image") as refused:
        load(tmp_path)
    assert len(refused.value.problems) == 2
    found = load(tmp_path, on_error="skip")
    assert len(found.skipped_files) == 2
    assert (len(found.train), len(found.validation), len(found.test)) == (8, 7, 7)
    assert np.bincount(found.test.targets).tolist() == [3, 4]


@pytest.mark.parametrize("value", [[5], [1, 2, 3], [4095, 0], [0, float("inf")]])
def test_an_intensity_range_is_two_increasing_numbers(value: list[float], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"intensity_range"):
        load(write(tmp_path, ["cat", "dog"]), intensity_range=value)


def test_documents_are_no_data() -> None:
    assert [looks_like_data(name) for name in ("notes.TXT", "LICENSE.md", "a.xml", "x", "a.tar.gz", "a.dcm")] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_classes_that_differ_only_in_case_or_zeros_are_named(tmp_path: Path) -> None:
    assert "`Cat` and `cat`" in notes(load(write(tmp_path / "a", ["Cat", "cat", "dog"])))["similar_classes"]
    assert "`01` and `1`" in notes(load(write(tmp_path / "b", ["01", "1"])))["similar_classes"]


@pytest.mark.parametrize("splits", [("train1", "test1"), ("fold_0", "fold_1", "fold_2")])
def test_numbered_folders_of_the_same_classes_are_no_classes(splits: tuple[str, ...], tmp_path: Path) -> None:
    root = write(tmp_path, in_splits(*splits))
    assert "contain the same folders, so they could be splits; rename them" in refusal(root)
    assert load(root, split_folders=False).class_names == tuple(sorted(splits))


def test_a_test_folder_without_classes_of_training_says_how_to_leave_it_out(tmp_path: Path) -> None:
    root = write(tmp_path, [*in_splits("train"), "test/unknown"])
    assert "set dataset.ignored_folders=[test] to leave the folder out" in refusal(root)


def test_the_only_image_of_a_class_stays_in_training(tmp_path: Path) -> None:
    write(tmp_path, [f"class{number:02}" for number in range(12)], count=1)
    data = load(write(tmp_path, ["cat", "dog"], count=40), validation_fraction=0.2)
    assert set(data.train.targets.tolist()) == set(range(14))
    assert len(data.test) == 23
    assert len(data.validation) == 14

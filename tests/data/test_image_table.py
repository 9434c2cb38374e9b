"""Folders of images with a table of their classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError

BREEDS = ("pug", "basset", "collie")


def write(folder: Path, lines: list[str], names: list[str], table: str = "labels.csv") -> Path:
    """Write images whose gray value is the number in their name, and a table."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        number = int(Path(name).stem)
        # The lower half differs with the folder, so that no two images are the same.
        pixels = np.full((8, 8, 3), number, np.uint8)
        pixels[4:, :, 1] = sum(Path(name).parent.as_posix().encode()) % 251
        Image.fromarray(pixels).save(folder / name)
    (folder / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def load(**parameters: Any) -> Dataset:
    dataset: Dataset = (
        get_entry("datasets", "image_table")
        .load_class()(**{key: str(value) if isinstance(value, Path) else value for key, value in parameters.items()})
        .load()
    )
    return dataset


def refusal(**parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        load(**parameters)
    return str(error.value)


def labels_by_number(data: Dataset) -> dict[int, str]:
    """Class name of each image by the number that its pixels show."""
    return {
        int(image[0, 0, 0]): data.class_names[label]
        for split in (data.train, data.validation, data.test)
        for image, label in zip(split.inputs[:], split.targets, strict=True)
    }


NUMBERS = range(30)
FILES = [f"{number}.png" for number in NUMBERS]
TRUTH = {number: BREEDS[number % 3] for number in NUMBERS}


@pytest.mark.parametrize(
    "lines",
    [
        ["id,breed", *(f"{number},{TRUTH[number]}" for number in NUMBERS[::-1])],
        ["filename;class", *(f"{number}.png; {TRUTH[number]} " for number in NUMBERS)],
        ["image\tlabel", *(f"images\\{number}.png\t{TRUTH[number]}" for number in NUMBERS)],
        [
            "image," + ",".join(BREEDS),
            *(f"{number}," + ",".join(f"{TRUTH[number] == name:.1f}" for name in BREEDS) for number in NUMBERS),
        ],
    ],
    ids=["any order, no suffix", "semicolon, blanks", "tabs, folders", "one column for each class"],
)
def test_each_image_has_the_class_of_its_row(lines: list[str], tmp_path: Path) -> None:
    data = load(root=write(tmp_path, lines, FILES))
    assert labels_by_number(data) == TRUTH
    assert set(data.source_names) == set(FILES)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    rows = [f"{number},{TRUTH[number]}" for number in NUMBERS]
    first = load(root=write(tmp_path / "a", ["id,label", *rows], FILES))
    second = load(root=write(tmp_path / "b", ["id,label", *rows[::-1]], FILES))
    assert first.hash == second.hash


def test_integers_are_names_unless_they_count_from_0(tmp_path: Path) -> None:
    lines = ["file,label", *(f"{number}.png,{number % 3 * 5 + 1}" for number in NUMBERS)]
    data = load(root=write(tmp_path, lines, FILES))
    assert data.class_names == ("1", "6", "11")
    assert "integer_names" in {note.kind for note in data.notes}
    assert labels_by_number(data) == {number: str(number % 3 * 5 + 1) for number in NUMBERS}
    lines = ["file,label", *(f"{number}.png,{number % 3}.0" for number in NUMBERS)]
    data = load(root=write(tmp_path / "zero", lines, FILES), class_names=list(BREEDS))
    assert labels_by_number(data) == TRUTH


@pytest.mark.parametrize("as_folders", [False, True])
def test_splits_of_a_column_or_of_folders(as_folders: bool, tmp_path: Path) -> None:
    split = {number: ("Training", "dev", "TEST")[number // 10] for number in NUMBERS}
    if as_folders:
        files = [f"{split[number]}/{number}.png" for number in NUMBERS]
        lines = ["file,label", *(f"{split[number]}/{number}.png,{TRUTH[number]}" for number in NUMBERS)]
    else:
        files, lines = FILES, ["file,label,Split", *(f"{n},{TRUTH[n]},{split[n]}" for n in NUMBERS)]
    data = load(root=write(tmp_path, lines, files))
    assert set(data.train.inputs[:][:, 0, 0, 0]) == set(NUMBERS[:10])
    assert set(data.validation.inputs[:][:, 0, 0, 0]) == set(NUMBERS[10:20])
    assert set(data.test.inputs[:][:, 0, 0, 0]) == set(NUMBERS[20:])
    assert labels_by_number(data) == TRUTH


def test_groups_stay_in_one_split(tmp_path: Path) -> None:
    lines = ["file,patient_id,label", *(f"{number},p{number // 6},{TRUTH[number]}" for number in NUMBERS)]
    data = load(root=write(tmp_path, lines, FILES), validation_fraction=0.2)
    parts = [
        {int(image[0, 0, 0]) // 6 for image in split.inputs[:]} for split in (data.train, data.test, data.validation)
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert "group_column" in {note.kind for note in data.notes}


def test_images_without_a_row_or_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ["file,label", *(f"{number},{'' if number == 4 else TRUTH[number]}" for number in NUMBERS[:-2])]
    data = load(root=write(tmp_path, lines, FILES))
    assert set(labels_by_number(data)) == set(NUMBERS[:-2]) - {4}
    assert {note.kind: note.count for note in data.notes} == {"unread_files": 2, "unlabeled": 1}


def test_missing_files_are_refused_or_recorded(tmp_path: Path) -> None:
    lines = ["file,label", *(f"{number},{TRUTH[number]}" for number in NUMBERS), "77,pug"]
    root = write(tmp_path, lines, FILES)
    message = refusal(root=root)
    assert "line 32: there is no image `77`; " in message
    assert "(1 of 31 rows" in message
    data = load(root=root, on_error="skip")
    assert data.skipped_files == ("77: file not found",)
    assert labels_by_number(data) == TRUTH


@pytest.mark.parametrize(
    ("lines", "parameters", "message"),
    [
        (["label", "pug"], {}, "dataset.file: .* has no column of file names"),
        (["file,image,label", "0,1,pug"], {}, "columns `file` and `image`; set dataset.file=file"),
        (["file,a,b", "0,pug,1"], {}, "dataset.label: .* has `a`, `b`"),
        (["file,label", "0,pug", "0.png,pug"], {}, "line 3: lists `0.png` again .before in line 2"),
        (["file,label", "0,pug", "1,pug"], {}, "the one class `pug`"),
        (["file,label,split", "0,pug,train", "1,basset,extra"], {}, "line 3: 'extra' stands for no split"),
        (["file,label,split", "0,pug,train", "1,basset,"], {}, "line 3: '' stands for no split"),
        (["file,label,split", "0,pug,test", "1,basset,val"], {}, "there is no training split, but test, val"),
        (["file,label,split", "0,pug,val", "1,basset,valid"], {}, "`val` and `valid` both stand for the validation"),
        (["file,label,patient", "0,pug,a", "1,basset,"], {}, "line 3: has no `patient`"),
        (["file,label", "0,0.9", "1,0.1"], {}, "must be class names or whole numbers"),
        (["file,label", "0,pug", "1,basset"], {"label": "breed"}, "dataset.label: .* no column `breed`"),
    ],
)
def test_tables_that_are_not_clear_are_refused(
    lines: list[str], parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert re.search(message, refusal(root=write(tmp_path, lines, FILES), **parameters))


def test_the_same_file_name_in_two_folders_needs_the_folder(tmp_path: Path) -> None:
    files = [f"{folder}/{number}.png" for folder in "ab" for number in NUMBERS]
    root = write(tmp_path, ["file,label", *(f"{n}.png,{TRUTH[n]}" for n in NUMBERS)], files)
    assert "`0.png` may be `a/0.png` and `b/0.png`; write the folder" in refusal(root=root)


def test_a_folder_without_or_with_several_tables_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, ["file,label"], FILES)
    (root / "other.tsv").write_text("file\tlabel\n")
    assert "contains 2 tables (labels.csv, other.tsv); set dataset.table" in refusal(root=root)
    (root / "other.tsv").unlink()
    (root / "labels.csv").unlink()
    assert "contains no table" in refusal(root=root)
    assert "set the folder with the images" in refusal()


def test_flags_decide_the_split_and_other_columns_are_named(tmp_path: Path) -> None:
    lines = ["file,label,is_valid,fold", *(f"{n},{TRUTH[n]},{n >= 20},{n % 5}" for n in NUMBERS)]
    data = load(root=write(tmp_path, lines, FILES))
    assert set(data.test.inputs[:][:, 0, 0, 0]) == set(NUMBERS[20:])
    kinds = {note.kind: note.names for note in data.notes}
    assert kinds == {"unread_columns": ("`fold`",), "validation_as_test": ()}
    lines[5] = lines[5].replace("False", "maybe")
    assert "line 6: `is_valid` is 'maybe', but must be true or false" in refusal(root=write(tmp_path, lines, FILES))


@pytest.mark.parametrize("number", [-1, 255])
def test_numbers_that_may_mean_no_label_are_no_classes(number: int, tmp_path: Path) -> None:
    lines = ["file,label", *(f"{row}.png,{number if row % 3 == 2 else row % 3}" for row in NUMBERS)]
    root = write(tmp_path, lines, FILES)
    assert f"if it means no label, set dataset.unlabeled={number}" in refusal(root=root).replace(
        f"if {number} means", "if it means"
    )
    assert load(root=root, unlabeled=number).class_names == ("0", "1")

"""Data files of unusual or hostile content: one message each, and never silently other labels."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError
from tests.fuzz.files import deep_header, huge_array, image_bomb

IMAGES = np.zeros((12, 8, 8), np.uint8)
LABELS = np.arange(12) % 3


def load(name: str, **parameters: Any) -> Dataset:
    dataset: Dataset = get_entry("datasets", name).load_class()(**parameters).load()
    return dataset


def refusal(name: str, **parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        load(name, **parameters)
    assert len(error.value.problems) == 1
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS + 0.7}, "labels must be integers, but entry 0 is 0.7"),
        ({"labels": LABELS.astype(object)}, "contains Python objects"),
        ({"labels": LABELS + 1j}, "labels must be class names or whole numbers, but are complex numbers"),
        ({"labels": np.where(LABELS == 2, np.inf, LABELS)}, "labels must be integers, but entry 2 is inf"),
        ({"labels": LABELS + 10**10}, "labels must be class indices, from 0 on, but entry 0 is 10000000000"),
        (
            {"labels": LABELS.astype(np.uint64) + np.uint64(2**63)},
            "labels must be integers, but entry 0 is 9223372036854775808",
        ),
        ({"labels": LABELS - 1}, "labels must be class indices, from 0 on, but entry 0 is -1"),
        ({"labels": np.array(3)}, r"labels must have the shape \(N,\)"),
        ({"labels": LABELS[:-1]}, "images has 12 entries, but labels 11"),
        ({"labels": LABELS[:0], "images": IMAGES[:0]}, "the training split has no examples"),
        ({"labels": LABELS * 0}, "has the one class `0`, but at least two are needed"),
        ({"class_names": np.array("cat")}, "class_names must be a list of names"),
        ({"class_names": np.array(["a", "a", "b"])}, "contains 'a' twice"),
        (
            {"class_names": np.array(["a", "b"])},
            "must be class indices, 0 to 1, the indices of 2 classes, but entry 2 is 2",
        ),
        ({"images": IMAGES.astype(float)}, r"float64 from 0 to 0; set dataset.intensity_range .*=\[0, 1\]"),
        ({"images": IMAGES[:, :, :, None, None]}, "must have the shape"),
    ],
)
def test_arrays_that_are_no_labeled_images_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **({"images": IMAGES, "labels": LABELS} | arrays))
    assert re.search(message, refusal("npz", path=str(tmp_path / "x.npz")))


def test_whole_floating_point_labels_are_integers(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS.astype(float)[:, None])
    data = load("npz", path=str(tmp_path / "x.npz"))
    found = np.empty(12, dtype=np.int64)
    for split in (data.train, data.validation, data.test):
        found[split.index] = split.targets
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            {"x_test": IMAGES[:3], "y_test": np.array([5, 6, 7])},
            r"the test split has the classes `5` \(1 example\), `6` \(1 example\), `7` \(1 example\), which the training",
        ),
        (
            {"x_test": np.zeros((3, 9, 9), np.uint8), "y_test": LABELS[:3]},
            "inputs have the shape 1x8x8 .* but test inputs 1x9x9",
        ),
        ({"x_test": IMAGES[:0], "y_test": LABELS[:0]}, "the test split has no examples"),
    ],
)
def test_a_test_split_of_other_data_is_refused(test: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=LABELS, **test)
    assert re.search(message, refusal("npz", path=str(tmp_path / "x.npz")))


def write_raw(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)

    return write


def write_npy(path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, LABELS)
    path.write_bytes(buffer.getvalue())


def write_text_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_raw(huge_array()), "images.npy claims 100000000000000 bytes of data, but has 64"),
        (write_raw(deep_header()), "damaged or not a .npz archive"),
        (write_raw(b"text"), "damaged or not a .npz archive"),
        (write_npy, "File is not a zip file"),
        (write_text_member, "its member 'readme.txt' is not an array"),
        (os.mkfifo, "is a named pipe, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("dataset", ["npz", "features"])
def test_files_that_are_no_archives_are_one_message(
    dataset: str, write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.npz")
    assert message in refusal(dataset, path=str(tmp_path / "x.npz"))


def write_images(folder: Path, per_class: int) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(per_class):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


def test_a_decompression_bomb_is_refused_or_skipped(tmp_path: Path) -> None:
    write_images(tmp_path, 6)
    (tmp_path / "cat" / "bomb.png").write_bytes(image_bomb(40_000))
    message = refusal("image_folder", root=str(tmp_path))
    assert message.endswith(
        "bomb.png: too large to decode (1600000000 pixels, the limit is 178956970); replace or remove it"
    )
    data = load("image_folder", root=str(tmp_path), on_error="skip")
    assert data.source_size == 12
    assert len(data.skipped_files) == 1


def test_a_folder_without_test_examples_is_refused(tmp_path: Path) -> None:
    assert "no test example is left of 2 examples" in refusal("image_folder", root=str(write_images(tmp_path, 1)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("index,observed\n0.5,1\n", "line 2: the index must be an integer, but is '0.5'"),
        ("index,observed\n0,1\n,1\n", "line 3: the index must be an integer, but is ''"),
        ("index,observed\n999999999999,1\n", "contains the index 999999999999, but the dataset's source has 1797"),
        ("index,observed\n-1,1\n", "the index -1, .* numbered from 0 to 1796"),
        ("index,observed\n0,0.5\n", "line 2: the label is '0.5'"),
        ("index,observed\n0,99999999999\n", "line 2: the label 99999999999 is none of"),
        ("", "contains no rows"),
    ],
)
def test_label_tables_with_unusual_cells_are_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table)
    spec = resolve(
        {"dataset": {"name": "digits"}, "noise": {"name": "from_file", "path": str(tmp_path / "labels.csv")}}
    )
    dataset = spec.dataset.build().load()
    with pytest.raises(UserError, match=message):
        spec.noise.build().apply(dataset)

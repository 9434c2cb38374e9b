"""Folders of images and masks, and published sets of masks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from tests.helpers import (
    toy_spec,
    train_toy,
)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of images and masks."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    get_entry("datasets", "image_mask_folder").load_class().example(folder)
    return folder


def numbers(file: Path) -> Any:
    with Image.open(file) as opened:
        return np.array(opened)


def load(folder: Path, **values: Any) -> Dataset:
    made: Dataset = (
        get_entry("datasets", "image_mask_folder").load_class()(root=str(folder), **{"size": 16, **values}).load()
    )
    return made


def test_a_folder_of_photographs_trains_without_code(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "train" / "masks", photographs / "train" / "noisy_masks")
    shutil.copytree(photographs / "val" / "masks", photographs / "val" / "noisy_masks")
    for file in sorted((photographs / "train" / "noisy_masks").iterdir())[:5]:
        Image.fromarray(np.zeros_like(numbers(file))).save(file)
    dataset = load(photographs)
    assert dataset.class_names == ("background", "small", "large")
    assert [len(each) for each in (dataset.train, dataset.validation, dataset.test)] == [24, 6, 6]
    assert dataset.train.noisy_targets is not None
    for noise in ("real_world", "polygon"):
        spec = toy_spec(
            {"name": "adele", "fixed_onset": 1},
            dataset={"name": "image_mask_folder", "root": str(photographs), "size": 16},
            noise=noise,
        )
        recorder = train_toy(prepare_run(spec), tmp_path / noise)
        assert recorder.complete
        if noise == "real_world":
            assert recorder.prepared.labels.manifest["actual_noise_rate"] > 0


def test_palette_and_gray_masks_and_other_numbers(photographs: Path) -> None:
    whole = load(photographs)
    file = photographs / "train" / "masks" / "001.png"
    with Image.open(file) as opened:
        assert opened.mode == "P"
    Image.fromarray(numbers(file)).save(file)
    assert load(photographs).hash == whole.hash, "colors of a palette do not matter"
    for each in (photographs / "train" / "masks").iterdir():
        mask = numbers(each).copy()
        mask[mask == 2] = 77
        Image.fromarray(mask).save(each)
    assert load(photographs, values={0: 0, 1: 1, 2: 2, 77: 2, 255: 255}).hash == whole.hash


def test_lists_of_names_and_random_splits(photographs: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(photographs / "train", flat)
    shutil.copy(photographs / "classes.txt", flat)
    drawn = load(flat)
    assert len(drawn.test) == 6
    assert not set(drawn.train.index) & set(drawn.test.index)
    for part, rows in (("train", range(18)), ("test", range(18, 24))):
        (flat / f"{part}.txt").write_text("\n".join(f"images/{row:03}.png masks/{row:03}.png" for row in rows))
    listed = load(flat, validation_fraction=0.0)
    assert (len(listed.train), len(listed.test)) == (18, 6)
    (flat / "test.txt").write_text("missing\n")
    with pytest.raises(UserError, match=r"1 listed images are not in .*the first: missing"):
        load(flat)


def save(array: Any, mode: str | None = None) -> Callable[[Path], None]:
    return lambda file: (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (save(np.ones((16, 18), np.uint8)), r"003\.png: has 18x16 pixels, but its image 003\.png has 20x16"),
        (
            save(np.full((16, 20), 9, np.uint8)),
            r"1 of 36 masks contain.*: 9 \(.*003\.png; classes range from 0 to 2 .* set dataset.values='\{0: 0, 1: 1",
        ),
        (
            save(np.full((16, 20, 3), (128, 0, 1), np.uint8)),
            r"1 of 36 masks have colors, but the others have one value per pixel: 003\.png",
        ),
        (save(np.full((16, 20), 300, np.uint16)), r"contain values that are not declared: 300 \("),
        (save(np.full((16, 20), 255, np.uint8)), r"003\.png: has no labeled pixel"),
        (lambda file: file.unlink(), r"003\.png: mask not found"),
        (lambda file: file.write_bytes(b"\x89PNG cut"), r"003\.png: damaged or not an image"),
    ],
)
def test_masks_that_cannot_be_used_are_named_and_may_be_skipped(
    spoil: Callable[[Path], None], message: str, photographs: Path
) -> None:
    spoil(photographs / "train" / "masks" / "003.png")
    with pytest.raises(UserError, match=message):
        load(photographs)
    some = load(photographs, on_error="skip")
    assert len(some.train) == 23
    assert len(some.skipped_files) == 1
    assert "003.png" in some.skipped_files[0]
    assert "003" not in some.source_names


def test_images_of_many_sizes_need_one(photographs: Path) -> None:
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photographs / "train" / "images" / "000.png")
    Image.fromarray(np.ones((30, 30), np.uint8)).save(photographs / "train" / "masks" / "000.png")
    with pytest.raises(UserError, match=r"dataset\.size: the images have 2 sizes .*such as dataset.size=256"):
        load(photographs, size=None)


@pytest.mark.parametrize("name", ["voc2012", "oxford_pet"])
def test_sets_that_are_not_there_say_where_they_belong(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing; put it there, or set dataset\.download=true"):
        get_entry("datasets", name).load_class()(root=str(tmp_path), download=False).load()


def test_augmented_masks_are_used_where_they_are(tmp_path: Path) -> None:
    source = get_entry("datasets", "voc2012").load_class()
    parameters = source.example(tmp_path)
    base = tmp_path / "VOCdevkit" / "VOC2012"
    with pytest.raises(UserError, match="has no SegmentationClassAug"):
        source(**parameters, mask_set="augmented").load()
    shutil.copytree(base / "SegmentationClass", base / "SegmentationClassAug")
    lists = base / "ImageSets" / "Segmentation"
    stems = lists.joinpath("train.txt").read_text().split()[:20]
    lists.joinpath("trainaug.txt").write_text(
        "\n".join(f"/JPEGImages/{each}.jpg /SegmentationClassAug/{each}.png" for each in stems)
    )
    assert len(source(**parameters, validation_fraction=0.0).load().train) == 20
    assert len(source(**parameters, validation_fraction=0.0, mask_set="official").load().train) == 24


def test_volumes_are_split_by_patient(tmp_path: Path) -> None:
    source = get_entry("datasets", "nifti_slices").load_class()
    parameters = source.example(tmp_path)
    dataset = source(**parameters).load()
    patients = [
        {dataset.source_names[row][:10] for row in split.index} for split in (dataset.train, dataset.validation)
    ]
    assert not patients[0] & patients[1]
    with pytest.raises(UserError, match="Patient_00 cannot be in the test and in the validation split"):
        source(**parameters, test_patients=["Patient_00"], validation_patients=["Patient_00"]).load()
    with pytest.raises(UserError, match="unknown patients Patient_99"):
        source(**parameters, test_patients=["Patient_99"]).load()
    (tmp_path / "Patient_01" / "GT.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match="missing, damaged or not a NIfTI volume"):
        source(**parameters).load()


def test_masks_that_are_brought_are_found_by_name(photographs: Path, tmp_path: Path) -> None:
    dataset = load(photographs)
    folder = tmp_path / "pseudo"
    (folder / "val").mkdir(parents=True)
    for split in (dataset.train, dataset.validation):
        for row in split.index:
            Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / f"{dataset.source_names[row]}.png")
    noise = get_entry("noise_models", "from_folder").load_class()
    assert (noise(path=str(folder)).apply(dataset).train == 0).all()
    (folder / "002.png").unlink()
    with pytest.raises(UserError, match=r"002\.png: mask not found"):
        noise(path=str(folder)).apply(dataset)
    with pytest.raises(UserError, match="must be a folder of masks"):
        noise().apply(dataset)

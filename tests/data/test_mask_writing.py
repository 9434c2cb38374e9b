"""Masks go back to the names, sizes and numbers of their source files, and noise=from_folder reads the same masks again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.masks.files import write_masks, writing_problem
from noisybench.data.targets import IGNORED

VALUES = {10: 0, 40: 1, 70: 2, 200: IGNORED}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images of several sizes in sub-folders, with masks of the values 10, 40, 70 and 200."""
    root = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3), ("test", 3)):
        for number in range(count):
            height, width = 44 + 4 * (number % 3), 60 + 3 * (number % 2)
            mask = np.full((height, width), 10, dtype=np.uint8)
            mask[8:30, 4 + 2 * number : 30 + number], mask[20:40, 34:56], mask[:3] = 40, 70, 200
            pixels = noise.integers(0, 80, (height, width, 3)) + mask[..., None] // 2
            for name, array in (("images", pixels.astype(np.uint8)), ("masks", mask)):
                file = root / part / name / f"{'ab'[number % 2]}" / f"{number:03}{'_seg' * (name == 'masks')}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file)
    (root / "classes.txt").write_text("ground\nhouse\ntree\n")
    return root


def load(root: Path, **parameters: Any) -> Dataset:
    settings = {"root": str(root), "values": VALUES, "mask_suffix": "_seg", "size": [30, 40], **parameters}
    dataset: Dataset = get_entry("datasets", "image_mask_folder").load_class()(**settings).load()
    return dataset


@pytest.mark.parametrize("mode", ["resize", "letterbox", "crop", "tile"])
def test_written_masks_are_read_back_exactly(photographs, tmp_path, mode):
    dataset = load(photographs, resize_mode=mode)
    noisy = get_entry("noise_models", "vertex_jitter").load_class()(deviation=2.0).apply(dataset)
    assert (noisy.train != dataset.train.targets).any()
    assert write_masks(dataset, {"train": noisy.train, "validation": noisy.validation}, tmp_path) == 11
    for part, prefix in (("train", ""), ("val", "val/")):
        for source in (photographs / part / "masks").rglob("*.png"):
            name = source.relative_to(photographs / part / "masks").as_posix()
            with Image.open(tmp_path / f"{prefix}{name}") as written, Image.open(source) as original:
                assert written.size == original.size
                assert set(np.unique(np.asarray(written))) <= set(VALUES)
    again = get_entry("noise_models", "from_folder").load_class()(path=str(tmp_path)).apply(dataset)
    np.testing.assert_array_equal(again.train, noisy.train)
    np.testing.assert_array_equal(again.validation, noisy.validation)


def test_tiles_of_an_image_stay_in_one_split(photographs):
    dataset = load(photographs, resize_mode="tile")
    layout = dataset.mask_layout
    assert layout is not None
    parts = [{layout.names[row] for row in split.index} for split in (dataset.train, dataset.validation)]
    assert not parts[0] & parts[1]
    assert len(dataset.train) == 8 * 4


def test_a_crop_needs_a_value_for_pixels_without_a_label(photographs):
    without = {value: target for value, target in VALUES.items() if value != 200} | {200: 0}
    assert writing_problem(load(photographs, resize_mode="crop")) is None
    assert writing_problem(load(photographs, values=without)) is None
    problem = writing_problem(load(photographs, values=without, resize_mode="crop", size=[30, 30]))
    assert problem is not None
    assert "dataset.values has no entry for pixels without a label" in problem


def test_exported_masks_make_the_same_label_set(photographs, tmp_path, noisybench, monkeypatch):
    data = [
        "image_mask_folder", f"dataset.root={photographs}", "dataset.mask_suffix=_seg", "dataset.size=30x40",
        "dataset.resize_mode=letterbox", "dataset.values={10: 0, 40: 1, 70: 2, 200: 255}",
    ]  # fmt: skip
    first, second, folder = (str(tmp_path / name) for name in ("first", "second", "masks"))
    assert noisybench("labels", "create", *data, "noise=polygon", "--output", first)[0] == 0
    assert noisybench("labels", "export", first, folder, *data)[0] == 0
    assert (
        noisybench("labels", "create", *data, "noise=from_folder", f"noise.path={folder}", "--output", second)[0] == 0
    )
    sets = [label_files.load(Path(name)) for name in (first, second)]
    np.testing.assert_array_equal(sets[0].train, sets[1].train)
    np.testing.assert_array_equal(sets[0].validation, sets[1].validation)
    for arguments, message in (
        ((folder,), f"labels export {first} {folder} image_mask_folder"),
        ((folder, *data), "has files already"),
        ((str(tmp_path / "other"), *data[:-2], data[-1]), "belongs to another dataset"),
    ):
        status, text = noisybench("labels", "export", first, *arguments)
        assert status == 2
        assert message in text
    save, written = Image.Image.save, []

    def fill_disk(picture: Image.Image, *arguments: Any) -> None:
        written.append(arguments)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        save(picture, *arguments)

    monkeypatch.setattr(Image.Image, "save", fill_disk)
    status, text = noisybench("labels", "export", first, str(tmp_path / "full"), *data)
    assert status == 2
    assert "No space left on device" in text
    assert not (tmp_path / "full").exists()


def test_a_crop_is_noted_with_its_loss_in_every_reading(photographs):
    for _ in range(2):  # decoded, and from the cache
        notes = {note.kind: str(note) for note in load(photographs, resize_mode="crop", size=[30, 30]).notes}
        assert "cuts off up to 27 % of an image" in notes["cropped"]
        assert {note.kind for note in load(photographs).notes} >= {"stretched"}

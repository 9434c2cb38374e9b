"""Instance masks beside the masks of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.data.dataset import Dataset
from noisybench.errors import UserError
from noisybench.tasks.datasets.image_mask_folder import ImageMaskFolder

HEIGHT, WIDTH = 16, 20


def numbered(position: int) -> NDArray[np.uint16]:
    """Return two instances, one of which has a number of more than eight bits."""
    numbers = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    numbers[2:6, 2:6], numbers[8:12, 3 + position % 4 : 9 + position % 4] = 1, 700
    return numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "val", "test"):
        for name in ("images", "masks", "instances"):
            (tmp_path / part / name).mkdir(parents=True)
        for position in range(5):
            numbers = numbered(position)
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * position, dtype=np.uint8)
            pixels[numbers > 0] += np.uint8(100)
            Image.fromarray(pixels).save(tmp_path / part / "images" / f"{position}.png")
            Image.fromarray(np.minimum(numbers, 2).astype(np.uint8)).save(tmp_path / part / "masks" / f"{position}.png")
            save(tmp_path / part / "instances" / f"{position}.png", numbers)
    return tmp_path


def save(file: Path, numbers: NDArray[np.uint16]) -> None:
    Image.fromarray(numbers).save(file)


def load(folder: Path, **values: Any) -> Dataset:
    return ImageMaskFolder(root=str(folder), duplicates="keep", **values).load()


def test_instances_take_the_path_of_the_masks(folder: Path) -> None:
    whole = load(folder).train.instances
    assert whole is not None
    assert whole.dtype == np.uint16
    np.testing.assert_array_equal(whole, np.stack([numbered(position) for position in range(5)]))
    dataset = load(folder, size=32, resize_mode="letterbox")
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.instances is not None
        labeled = split.targets != 255
        np.testing.assert_array_equal(np.minimum(split.instances, 2)[labeled], split.targets[labeled])
        assert not split.instances[~labeled].any()


def test_instances_are_part_of_the_dataset(folder: Path) -> None:
    before = load(folder).hash
    save(folder / "train" / "instances" / "0.png", np.where(numbered(0) == 700, 3, numbered(0)).astype(np.uint16))
    assert load(folder).hash != before


def test_instance_masks_that_cannot_be_used_are_refused(folder: Path) -> None:
    file = folder / "train" / "instances" / "3.png"
    save(file, np.where(numbered(3) > 0, 4, 0).astype(np.uint16))
    with pytest.raises(UserError, match="instances: 3: instance 4 has pixels of the classes class 1 and class 2"):
        load(folder)
    save(file, numbered(3)[:-1])
    with pytest.raises(UserError, match=r"3\.png: has 20x15 pixels, but its image 20x16; resize it"):
        load(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"3\.png"):
        load(folder)
    for position in range(5):
        save(folder / "train" / "instances" / f"{position}.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint16))
    with pytest.raises(UserError, match="no instance mask contains an instance: all values are 0; number the objects"):
        load(folder)

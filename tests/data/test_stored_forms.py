"""Masks, and images inside parquet files, are read alike in every form in which tools store them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.config.registry import list_entries
from tests.data.test_reader_contract import PICTURES, PNG_FORMS, Reader, refusal, splits

MASK_DATASETS = [name for name, entry in list_entries("datasets").items() if "segmentation" in entry.load_class().tasks]

Values = NDArray[np.uint8]


def indexed(values: Values) -> Image.Image:
    picture = Image.fromarray(values)
    picture.putpalette([channel for index in range(256) for channel in (index, 255 - index, index // 2)])
    return picture


MASK_FORMS: dict[str, Callable[[Values], Image.Image]] = {
    "gray": Image.fromarray,
    "palette": indexed,
    "gray in three channels": lambda values: Image.fromarray(np.dstack([values] * 3)),
    "gray with alpha": lambda values: Image.fromarray(np.dstack([values, np.full_like(values, 255)]), "LA"),
    "16 bit": lambda values: Image.fromarray(values.astype(np.uint16)),
}


@pytest.mark.parametrize("name", MASK_DATASETS)
def test_every_form_of_a_mask_has_the_same_classes_or_is_refused_by_name(name: str, tmp_path: Path) -> None:
    entry = list_entries("datasets")[name]
    reader = Reader(entry, tmp_path, entry.load_class().example(tmp_path))
    pictures = [file for file in reader.files() if file.suffix.lower() in PICTURES]
    masks = sorted(set(pictures) - set(reader.images())) if pictures else []
    values: dict[Path, Values] = {}
    for file in masks:
        with Image.open(file) as opened:
            if opened.mode in ("L", "P"):
                values[file] = np.array(opened)
    if not values:
        pytest.skip("has no files of masks with one value for each pixel")
    expected = reader.load()
    for form, store in MASK_FORMS.items():
        for file, mask in values.items():
            store(mask).save(file, format="png")
        error = refusal(reader)
        if error is not None:
            assert any(file.name in error for file in values), (form, error)
            continue
        found = reader.load()
        for first, second in zip(splits(expected), splits(found), strict=True):
            np.testing.assert_array_equal(first.targets, second.targets, err_msg=form)


def png(picture: Any) -> bytes:
    image, options = picture if isinstance(picture, tuple) else (picture, {})
    data = io.BytesIO()
    image.save(data, format="png", **options)
    return data.getvalue()


def test_images_in_parquet_files_are_read_as_people_see_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    forms = list(PNG_FORMS.values()) * 2
    pixels = [generator.integers(0, 256, (10, 14, 3), dtype=np.uint8) for _ in forms]
    visible = [form[0](image) for form, image in zip(forms, pixels, strict=True)]
    stored = [png(form[1](shown)) for form, shown in zip(forms, visible, strict=True)]
    datasets = []
    for name, images in (("plain", [png(Image.fromarray(shown)) for shown in visible]), ("stored", stored)):
        rows = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
        table = pyarrow.table({"image": rows, "label": [row % 2 for row in range(len(rows))]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
        source = list_entries("datasets")["parquet"].load_class()(train=tmp_path / f"{name}.parquet")
        datasets.append(source.load())
    plain, found = datasets
    for first, second in zip(splits(plain), splits(found), strict=True):
        np.testing.assert_array_equal(first.inputs[:], second.inputs[:])
        np.testing.assert_array_equal(first.targets, second.targets)
    assert found.notes, "conversions are reported"

"""NumPy archives as people have them: names, layouts, types of pixels, labels of every kind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.images.arrays import array_images
from noisybench.data.images.decoding import DecodingRules
from noisybench.errors import UserError

N = np.arange(60)
IMAGES = (np.arange(60 * 64) % 251).reshape(60, 8, 8).astype(np.uint8)


def load(arrays: dict[str, Any], **parameters: Any) -> Dataset:
    np.savez("x.npz", **arrays)
    source = get_entry("datasets", "npz").load_class()
    dataset: Dataset = source(path="x.npz", **{"validation_fraction": 0.0} | parameters).load()
    return dataset


def refusal(arrays: dict[str, Any], **parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        load(arrays, **parameters)
    assert len(error.value.problems) == 1
    return str(error.value)


def labels_of(data: Dataset) -> list[str]:
    """Return the name of the class of each example in the order of the source."""
    names = np.array(data.class_names)[np.concatenate([data.train.targets, data.test.targets])]
    return [str(name) for name in names[np.argsort(np.concatenate([data.train.index, data.test.index]))]]


@pytest.mark.parametrize(
    ("labels", "parameters", "expected"),
    [
        (np.array(["cat", "dog"])[N % 2], {}, np.array(["cat", "dog"])[N % 2]),
        (np.eye(2, dtype=np.int64)[N % 2], {}, N % 2),
        ((N % 2)[:, None], {}, N % 2),
        ((N % 2).astype(bool), {}, N % 2 == 1),
        (1 + N % 2, {"integer_labels": "names"}, 1 + N % 2),
        (1 + N % 2, {"class_names": ["1", "2"]}, 1 + N % 2),
        (np.where(N == 3, 255, N % 2).astype(np.uint8), {"unlabeled": 255}, np.delete(N % 2, 3)),
        (np.where(N == 3, np.nan, N % 2), {"unlabeled": "nan"}, np.delete(N % 2, 3)),
        (np.stack([0.9 - 0.8 * (N % 2), 0.1 + 0.8 * (N % 2)], 1), {"soft_labels": "argmax"}, N % 2),
        (np.array(["10", "9"])[N % 2], {}, np.array(["10", "9"])[N % 2]),
    ],
)
def test_labels_are_read_as_meant(labels: Any, parameters: Any, expected: Any) -> None:
    assert labels_of(load({"images": IMAGES, "labels": labels}, duplicates="keep", **parameters)) == list(
        map(str, expected)
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(N % 2, 0.9, 0.2), "probably scores"),
        (np.array([0, 0.99999994, 2.0])[N % 3], "entry 1 is 0.99999994"),
        (np.random.default_rng(1).integers(0, 2, (60, 14)), "multi-label"),
        (np.where(N == 3, 255, N % 2).astype(np.uint8), "dataset.unlabeled=255"),
        (1 + N % 2, "dataset.integer_labels=names"),
        (np.where(N == 3, np.nan, N % 2), "dataset.unlabeled=nan"),
        (np.stack([0.9 - 0.8 * (N % 2), 0.1 + 0.8 * (N % 2)], 1), "dataset.soft_labels=argmax"),
        (np.zeros(60, dtype=[("label", int), ("id", int)]), "records with the fields label, id"),
        (np.zeros(60, int), "has the one class `0`"),
        (N[:59] % 2, "images has 60 entries, but labels 59; each image needs one label"),
    ],
)
def test_labels_without_a_declared_meaning_are_refused(labels: Any, message: str) -> None:
    assert message in refusal({"images": IMAGES, "labels": labels})


def test_a_test_label_must_not_be_missing() -> None:
    arrays = {"x_train": IMAGES, "y_train": N % 2, "x_test": IMAGES[:4], "y_test": np.array([0, 1, -1, 0])}
    assert "y_test must be class indices, from 0 on, but entry 2 is -1" in refusal(arrays)
    assert "y_test: 1 of 4 examples have no label, the first in entry 2" in refusal(arrays, unlabeled=-1)


@pytest.mark.parametrize(
    "names",
    ["x_train y_train x_val y_val x_test y_test", "train_images train_labels val_images val_labels test_images test_labels",
     "X_train Y_train X_valid Y_valid X_test Y_test", "train.data train.targets dev.data dev.targets test.data test.targets"],
)  # fmt: skip
def test_validation_and_test_arrays_are_the_splits(names: str) -> None:
    values = [IMAGES[:20], N[:20] % 2, IMAGES[20:40], N[20:40] % 2, IMAGES[40:], N[40:] % 2]
    arrays = dict(zip(names.split(), values, strict=True))
    data = load(arrays)
    for split, rows in ((data.train, slice(20)), (data.validation, slice(20, 40)), (data.test, slice(40, None))):
        np.testing.assert_array_equal(split.inputs[:][:, 0], IMAGES[rows])
        np.testing.assert_array_equal(split.targets, N[rows] % 2)
    without_test = {name: array for name, array in arrays.items() if "test" not in name}
    data = load(without_test)
    np.testing.assert_array_equal(data.test.inputs[:][:, 0], IMAGES[20:40])
    assert "validation_as_test" in {note.kind for note in data.notes}


def test_groups_stay_in_one_split_and_other_arrays_are_named() -> None:
    data = load({"images": IMAGES, "labels": N % 2, "groups": N // 6, "weights": N}, test_fraction=0.3)
    sets = [set((split.index // 6).tolist()) for split in (data.train, data.test)]
    assert not sets[0] & sets[1]
    assert [note.names for note in data.notes if note.kind == "unread_arrays"] == [("weights",)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": IMAGES, "labels": N}, "contains labels, but no train images"),
        ({"a": IMAGES}, "must contain x_train and y_train, .* but contains a"),
        ({"x_train": IMAGES, "y_train": N % 2, "x_test": IMAGES}, "contains x_test, but no test labels"),
        (
            {"images": IMAGES, "x": IMAGES, "labels": N % 2},
            "contains images and x, which both could be the train images",
        ),
        ({"images": IMAGES, "labels": N % 2, "groups": N[:4]}, "groups must be one text or integer for each of 60"),
    ],
)
def test_archives_without_a_clear_content_are_refused(arrays: Any, message: str) -> None:
    assert re.search(message, refusal(arrays))


def test_one_array_alone_is_refused() -> None:
    np.save("images.npy", IMAGES)
    with pytest.raises(UserError, match=r"images\.npy is one array; name the folder"):
        get_entry("datasets", "npz").load_class()(path="images.npy").load()


# Pixels

LAYOUTS = {"nhw": (60, 8, 9), "nhwc": (60, 8, 9, 3), "nchw": (60, 3, 8, 9)}


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((60, 3, 8, 3), {}, "the channels could be first or last; set dataset.channels=first"),
        ((60, 1, 8, 3), {}, "could be first or last"),
        ((60, 8, 8, 3), {"channels": "first"}, r"dataset\.channels: is first, but"),
        ((60, 8, 8, 2), {}, "1, 3 or 4 channels, but has"),
        ((60, 8, 8, 4), {}, "four channels; set dataset.fourth_channel=alpha"),
        ((8, 8, 3, 60), {}, "1, 3 or 4 channels, but has"),
        ((60, 64), {}, "one row of values for each example"),
        ((60, 28, 3), {}, "would be 60 images of 3x28 pixels"),
        ((60, 8, 8, 8, 3), {}, "must have the shape"),
    ],
)
def test_layouts_of_two_meanings_or_none_are_refused(shape: Any, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        array_images(np.ones(shape, np.uint8), "images", DecodingRules(), **options)


def test_declared_channels_are_followed() -> None:
    array = np.arange(60 * 3 * 8 * 3).reshape(60, 3, 8, 3).astype(np.uint8)
    first, _ = array_images(array, "images", DecodingRules(), channels="first")
    last, _ = array_images(array, "images", DecodingRules(), channels="last")
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(last, array.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "message"),
    [
        (
            np.float32,
            0,
            1,
            r"float32 from 0 to 1; set dataset.intensity_range .* such as dataset.intensity_range=\[0, 1\]",
        ),
        (np.float64, -1, 1, r"\[-1, 1\]"),
        (np.float32, 0, 255, r"\[0, 255\]"),
        (np.int64, 0, 200, r"int64 from 0 to 200; .*\[0, 255\]"),
        (np.int16, -1000, 3000, r"\[-1000, 3000\]"),
        (np.uint16, 0, 3000, r"16-bit values go from 0 to 3000 of 65535 only.* \[0, 4095\] for 12 bits"),
        (np.complex64, 0, 1, "must be an array of numbers"),
    ],
)
def test_values_without_a_declared_range_are_refused(dtype: Any, low: float, high: float, message: str) -> None:
    array = np.linspace(low, high, 2 * 5 * 6).reshape(2, 5, 6).astype(dtype)
    with pytest.raises(UserError, match=message):
        array_images(array, "images", DecodingRules())


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="contains NaN or infinite values"):
        array_images(np.full((2, 5, 6), np.nan), "images", DecodingRules((0, 1)))


@given(
    st.sampled_from(["float32", "uint16", "int32"]),
    st.sampled_from([(0, 1), (0, 255), (0, 4095), (-1, 1)]),
    st.randoms(),
)
@settings(max_examples=30)
def test_values_are_scaled_as_declared(dtype: str, limits: tuple[int, int], random: Any) -> None:
    low, high = limits
    values = np.array([random.uniform(low, high) for _ in range(30)]).astype(dtype)
    images, notes = array_images(values.reshape(1, 5, 6), "images", DecodingRules((float(low), float(high))))
    expected = np.clip(255 * (values.astype(float) - low) / (high - low), 0, 255)
    assert np.abs(images.reshape(-1) - expected).max() <= 0.5
    assert notes[0].kind == "intensity_range"


def test_sixteen_bits_and_truth_values_use_their_whole_range() -> None:
    images, notes = array_images(np.array([[[0, 65535, 32896, 257]] * 4]).astype(np.uint16), "images", DecodingRules())
    assert images[0, 0, 0].tolist() == [0, 255, 128, 1]
    assert [note.kind for note in notes] == ["intensity_16_bits"]
    swapped = np.array([[[0, 65535, 32896, 257]] * 4]).astype(">u2")
    assert np.array_equal(array_images(swapped, "images", DecodingRules())[0], images)
    images, notes = array_images(np.eye(5, dtype=bool)[None], "images", DecodingRules())
    assert np.array_equal(images[0, 0], 255 * np.eye(5))
    assert [note.kind for note in notes] == ["truth_values"]
    _, notes = array_images(np.eye(5, dtype=np.uint8)[None], "images", DecodingRules())
    assert [note.kind for note in notes] == ["dark_images"]


def test_a_fourth_channel_is_composed_or_dropped() -> None:
    array = np.zeros((2, 5, 6, 4), np.uint8)
    array[..., 0], array[0, ..., 3] = 100, 255
    images, notes = array_images(array, "images", DecodingRules(), fourth_channel="alpha")
    assert images[:, :, 0, 0].tolist() == [[100, 0, 0], [255, 255, 255]]
    assert [(note.kind, note.count) for note in notes if note.kind == "transparency"] == [("transparency", 1)]
    images, _ = array_images(array, "images", DecodingRules(), fourth_channel="drop")
    assert images[:, :, 0, 0].tolist() == [[100, 0, 0], [100, 0, 0]]


@pytest.mark.parametrize("shape", LAYOUTS.values())
def test_every_layout_keeps_pixels_in_place(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images, notes = array_images(array, "images", DecodingRules())
    expected = array[:, None] if len(shape) == 3 else array if shape[1] == 3 else array.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images, expected)
    assert not notes

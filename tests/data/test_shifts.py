"""Distribution shifts of test images, and subset ranges of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.shifts import apply_shift
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from tests.helpers import toy_spec, train_toy


def test_shifted_copies_have_the_labels_and_order_of_the_test_split(tmp_path: Path) -> None:
    dataset = (
        get_entry("datasets", "digits")
        .load_class()(test_shifts=["rotation:15", "noise:0.2", "inversion"], test_size=100)
        .load()
    )
    assert list(dataset.shifted_tests) == ["rotation:15", "noise:0.2", "inversion"]
    for each in dataset.shifted_tests.values():
        np.testing.assert_array_equal(each.targets, dataset.test.targets)
        np.testing.assert_array_equal(each.index, dataset.test.index)
        assert each.inputs.dtype == np.uint8
    np.testing.assert_array_equal(dataset.shifted_tests["inversion"].inputs, 255 - dataset.test.inputs)
    plain = get_entry("datasets", "digits").load_class()(test_size=100).load()
    assert plain.hash != dataset.hash
    spec = toy_spec(dataset={"name": "digits", "test_shifts": ["inversion", "noise:0.2"]}, budget={"epochs": 1})
    row = train_toy(prepare_run(spec), tmp_path).rows[-1]
    assert row.diagnostics["mean_shift_accuracy"] == pytest.approx(
        (row.diagnostics["shift_accuracy.inversion"] + row.diagnostics["shift_accuracy.noise:0.2"]) / 2
    )


def test_shifted_tests_change_nothing_in_training(tmp_path: Path) -> None:
    runs = [
        train_toy(
            prepare_run(toy_spec(dataset={"name": "digits", "train_size": 100, **more}, budget={"epochs": 1})),
            tmp_path / name,
        )
        for name, more in (("plain", {}), ("shifted", {"test_shifts": ["inversion"]}))
    ]
    assert runs[0].record({}).weights_sha256 == runs[1].record({}).weights_sha256
    assert runs[0].rows[0].test_score == runs[1].rows[0].test_score


def test_a_translation_moves_whole_pixels_and_a_rotation_keeps_the_middle() -> None:
    image = np.zeros((1, 1, 5, 5), dtype=np.uint8)
    image[0, 0, 2, 2] = 200
    moved = apply_shift("translation:1", image)
    assert moved.sum() == 200
    assert {tuple(each) for each in np.argwhere(moved[0, 0])} <= {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert apply_shift("rotation:30", image)[0, 0, 2, 2] == 200
    quarter = np.zeros((1, 1, 4, 6), dtype=np.uint8)
    quarter[0, 0, 1:3, 2:4] = 100
    np.testing.assert_array_equal(
        apply_shift("rotation:90", quarter), quarter
    )  # a square in the middle, of no square image


def test_noise_has_its_deviation() -> None:
    image = np.full((20, 1, 30, 30), 128, dtype=np.uint8)
    assert apply_shift("noise:0.1", image).std() == pytest.approx(25.5, rel=0.02)
    np.testing.assert_array_equal(apply_shift("noise:0.1", image), apply_shift("noise:0.1", image))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rotate:15", "unknown shift `rotate`; did you mean `rotation`"),
        ("rotation", "expected `rotation:AMOUNT` with an amount above 0"),
        ("noise:-1", "expected `noise:AMOUNT`"),
        ("inversion:2", "expected `inversion` without an amount"),
    ],
)
def test_shifts_that_are_none_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_shift(name, np.zeros((1, 1, 2, 2), dtype=np.uint8))


def test_parts_have_nothing_in_common() -> None:
    def load(subset_range: list[float]) -> Any:
        return get_entry("datasets", "digits").load_class()(subset_range=subset_range, test_fraction=0.1).load()

    first, second = load([0, 0.6]), load([0.6, 1])
    rows = [set(split.index) for each in (first, second) for split in (each.train, each.validation, each.test)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 1797
    with pytest.raises(UserError, match=r"two fractions from 0 to 1 in increasing order, but got \[0.6, 0.2\]"):
        load([0.6, 0.2])


# Bad input

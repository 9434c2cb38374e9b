"""Labels become classes by name: never truncated, never renumbered in silence."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisybench.data.labels.class_labels import ClassLabels, match_classes, match_labels
from noisybench.data.labels.columns import read_label_column
from noisybench.errors import UserError

N = np.arange(12)


def classes(values: Any, **options: Any) -> ClassLabels:
    reading = {key: options.pop(key) for key in ("names", "soft_labels") if key in options}
    column = read_label_column(values, "labels", unlabeled=options.get("unlabeled"), **reading)
    return match_classes({"train": column}, **options)


def named(labels: ClassLabels, split: str = "train") -> list[str | None]:
    return [labels.class_names[target] if target >= 0 else None for target in labels.targets[split]]


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (np.array(["dog", "cat"])[N % 2], ("cat", "dog"), 1 - N % 2),
        (np.array([b"dog", b"cat"])[N % 2], ("cat", "dog"), 1 - N % 2),
        (np.array(["10", "2", "1"])[N % 3], ("1", "2", "10"), 2 - N % 3),
        (np.array(["1.0", "0.0"])[N % 2], ("0", "1"), 1 - N % 2),
        (N % 3, ("0", "1", "2"), N % 3),
        ((N % 3).astype(np.uint8)[:, None], ("0", "1", "2"), N % 3),
        ((N % 3).astype(float), ("0", "1", "2"), N % 3),
        (N % 2 == 1, ("False", "True"), N % 2),
        (np.eye(3, dtype=int)[N % 3], ("0", "1", "2"), N % 3),
        (np.eye(2)[N % 2], ("0", "1"), N % 2),
        (list((N % 2).tolist()), ("0", "1"), N % 2),
        (np.array(["dog", "cat"], dtype=object)[N % 2], ("cat", "dog"), 1 - N % 2),
        (pandas.Series(N % 2, dtype="Int64"), ("0", "1"), N % 2),
        (pandas.Series(np.array(["dog", "cat"])[N % 2]), ("cat", "dog"), 1 - N % 2),
        (pandas.Categorical(np.array(["dog", "cat"])[N % 2]), ("cat", "dog"), 1 - N % 2),
        (pyarrow.array(np.array(["dog", "cat"])[N % 2]).dictionary_encode(), ("cat", "dog"), 1 - N % 2),
        (pyarrow.chunked_array([(N % 2).astype(np.int8), (N % 2).astype(np.int8)]), ("0", "1"), np.tile(N % 2, 2)),
        (pyarrow.array(np.eye(2, dtype=int)[N % 2].tolist()), ("0", "1"), N % 2),
        (pyarrow.array(N % 2 == 1), ("False", "True"), N % 2),
    ],
)
def test_each_kind_of_label_is_read_by_name(values: Any, names: tuple[str, ...], expected: Any) -> None:
    labels = classes(values)
    assert labels.class_names == names
    np.testing.assert_array_equal(labels.targets["train"], expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(N % 2, 0.9, 0.2), "labels must be integers, but are fractions such as 0.2, probably scores"),
        (np.array([0, 0.99999994, 2])[N % 3], "labels must be integers, but entry 1 is 0.99999994"),
        (np.array(["0", "0.9"])[N % 2], "labels must be class names or whole numbers, but entry 1 is '0.9'"),
        (np.array(["1e30", "0"])[N % 2], "entry 0 is '1e30'"),
        (
            np.array(["scab", "rust", "scab|rust"])[N % 3],
            r"the label `scab\|rust` joins other classes",
        ),
        (np.array(["cat", "NA"])[N % 2], "the label 'NA' may stand for a missing value .* dataset.unlabeled=NA"),
        (np.array(["cat", "nan"])[N % 2], "the label 'nan' may stand for a missing value .* dataset.unlabeled=nan"),
        (np.where(N == 3, np.nan, N % 2), "entry 3 is nan .1 in all.; if it means no label, set dataset.unlabeled=nan"),
        (1 + N % 2, "no example of class 0, but of the classes 1, 2; set dataset.integer_labels=names"),
        (np.array([0, 1, 3])[N % 3], "no example of class 2, but of the classes 0, 1, 3; .*allow_empty_classes=true"),
        (np.where(N == 3, 255, N % 2).astype(np.uint8), "if 255 means no label, set dataset.unlabeled=255"),
        (N % 2 - 1, "entry 0 is -1; if it means no label, set dataset.unlabeled=-1"),
        (N + 10**10, "but entry 0 is 10000000000"),
        (N * 0, "has the one class `0`"),
        (np.array(["cat"] * 12), "has the one class `cat`"),
        (np.array([""] * 12), "no training example has a label"),
        (N[:0], "has no examples"),
        ((N[:, None] + np.arange(3)) % 2, r"2 classes in row 1: several labels for one example \(multi-label\)"),
        (np.array([[0.2, 0.8], [0.6, 0.4]]), r"probabilities of 2 classes .* set dataset.soft_labels=argmax"),
        (np.array([[0, 1], [0, 0]]), "no class in row 1"),
        ((N % 2)[None], r"must have the shape \(N,\), .* but has \(1, 12\); transpose it"),
        (np.array([[2, 1], [0, 3]]), "row 0 is neither one-hot nor probabilities"),
        (N + 1j, "but are complex numbers"),
        (N.astype("datetime64[D]"), "but are dates"),
        (np.zeros(3, dtype=[("label", int), ("id", int)]), "records with the fields label, id"),
        (np.zeros((3, 2, 2)), r"must have the shape \(N,\)"),
        (np.array(3), r"must have the shape \(N,\)"),
        (np.array([1, "cat"], dtype=object), r"integers \(entry 0: 1\) and text \(entry 1: 'cat'\)"),
        (np.array([b"\xff", b"a"]), "is not text in UTF-8"),
        (pyarrow.array([[0], [0, 1]]), "lists of 1 to 2 labels: several labels"),
        (pyarrow.array([{"a": 1}]), "has the type struct"),
        (np.array([{"a": 1}], dtype=object), "values of the type dict"),
        (np.array([2**70, 1], dtype=object), "more than 64 bits"),
    ],
)
def test_labels_without_one_meaning_are_refused(values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        classes(values)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("values", "options", "names", "expected"),
    [
        ([1, 2, 4], {"integer_labels": "names"}, ("1", "2", "4"), [0, 1, 2]),
        ([1, 2, 1], {"allow_empty_classes": True}, ("0", "1", "2"), [1, 2, 1]),
        ([1, 2, 1], {"class_names": ["1", "2"]}, ("1", "2"), [0, 1, 0]),
        ([0, 1, 1], {"class_names": ["cat", "dog"]}, ("cat", "dog"), [0, 1, 1]),
        (["0", "1", "1"], {"class_names": ["cat", "dog"]}, ("cat", "dog"), [0, 1, 1]),
        (["cat", "dog", "cat"], {"class_names": ["dog", "cat"]}, ("dog", "cat"), [1, 0, 1]),
        ([1, 0, 255], {"unlabeled": 255}, ("0", "1"), [1, 0, -2]),
        (np.array([1.0, 0.0, np.nan]), {"unlabeled": "nan"}, ("0", "1"), [1, 0, -2]),
        (pandas.Series([1.0, 0.0, np.nan]), {}, ("0", "1"), [1, 0, -2]),
        (["a", "b", "unknown"], {"unlabeled": "unknown"}, ("a", "b"), [0, 1, -2]),
        (["a", "b", None], {}, ("a", "b"), [0, 1, -2]),
        (pandas.Series([1, 0, None], dtype="Int64"), {}, ("0", "1"), [1, 0, -2]),
        (pyarrow.array([1, 0, None]), {}, ("0", "1"), [1, 0, -2]),
        (pyarrow.array(["b", "a", None]).dictionary_encode(), {}, ("a", "b"), [1, 0, -2]),
        ([1, 0, -1], {"names": ["cat", "dog"], "unlabeled": "-1"}, ("cat", "dog"), [1, 0, -2]),
        (
            [1, 0, 2],
            {"names": ["a", "b", "none"], "unlabeled": "none", "class_names": ["a", "b"]},
            ("a", "b"),
            [1, 0, -2],
        ),
        ([1, 0, 1], {"names": ["cat", "dog"], "class_names": ["dog", "cat"]}, ("dog", "cat"), [0, 1, 0]),
        ([1, 0, 1], {"names": ["cat", "dog"], "class_names": ["Katze", "Hund"]}, ("Katze", "Hund"), [1, 0, 1]),
        ([True, False, True], {"class_names": ["benign", "malignant"]}, ("benign", "malignant"), [1, 0, 1]),
        (np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]), {"soft_labels": "argmax"}, ("0", "1"), [1, 0, -2]),
        (["cafe\u0301", "caf\u00e9", " tea"], {}, ("caf\u00e9", "tea"), [0, 0, 1]),
    ],
)
def test_a_declared_reading_is_followed(values: Any, options: Any, names: tuple[str, ...], expected: Any) -> None:
    labels = classes(values, **options)
    assert labels.class_names == names
    assert labels.targets["train"].tolist() == expected
    assert (-2 in expected) == any(note.kind == "unlabeled" for note in labels.notes)


def test_conversions_are_reported() -> None:
    assert [str(note) for note in classes(["1.0", "0.0"]).notes] == [
        "labels: labels such as 0.0 were read as whole numbers, 0 (2)"
    ]
    kinds = {note.kind for note in classes(["cat", "Cat", " dog"]).notes}
    assert kinds == {"label_blanks", "similar_classes"}


def test_a_number_that_is_one_name_and_another_index_is_refused() -> None:
    column = read_label_column([0, 1, 2], "labels")
    with pytest.raises(UserError, match="the label 0 is the name of class 2 and the index of class `2`"):
        match_classes({"train": column}, ["2", "1", "0"])
    assert match_classes({"train": column}, ["2", "1", "0"], integer_labels="names").targets["train"].tolist() == [
        2,
        1,
        0,
    ]
    assert match_classes({"train": column}, ["2", "1", "0"], integer_labels="indices").targets["train"].tolist() == [
        0,
        1,
        2,
    ]


def split(**columns: Any) -> ClassLabels:
    return match_classes({name: read_label_column(values, name) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"train": ["a", "b"], "test": ["a", "c"]}, "test: the label `c` of entry 1 is none of the 2 classes"),
        (
            {"train": [0, 1], "test": [0, 5]},
            r"test: the test split has the class `5` \(1 example\), which the training split",
        ),
        ({"train": [0, 1], "validation": [2, 0]}, "the validation split has the class `2`"),
        ({"train": [0, 1], "test": [0, np.nan]}, "test: 1 of 2 examples have no label, the first in entry 1"),
        ({"train": [0, 1], "test": []}, "the test split has no examples"),
    ],
)
def test_other_splits_must_have_classes_of_training(columns: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(**columns)


def test_integers_beside_names_need_a_declared_order() -> None:
    columns = {"train": read_label_column(["b", "a"], "train"), "test": read_label_column([0, 1], "test")}
    with pytest.raises(UserError, match=r"the test labels are integers, but .* such as `a`; set dataset\.class_names"):
        match_classes(columns)
    assert match_classes(columns, ["b", "a"]).targets["test"].tolist() == [0, 1]
    columns["train"] = read_label_column([1, 0], "train", names=["b", "a"])
    assert match_classes(columns).targets["test"].tolist() == [0, 1]


def test_empty_classes_of_the_file_are_named() -> None:
    with pytest.raises(
        UserError, match=re.escape("no example of the class `dog`; set dataset.allow_empty_classes=true")
    ):
        classes([0, 2], names=["cat", "dog", "eel"])
    assert classes([0, 2], names=["cat", "dog", "eel"], allow_empty_classes=True).class_names == ("cat", "dog", "eel")
    assert classes([0, 2], names=["cat", "dog", "eel"], class_names=["cat", "eel"]).targets["train"].tolist() == [0, 1]


def test_a_declared_value_without_occurrence_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.unlabeled: no label of labels is `-1`"):
        classes([0, 1], unlabeled="-1")


@given(st.data())
def test_the_order_of_class_names_never_changes_the_class_of_an_example(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from([["cat", "dog", "eel", "fox"], ["0", "1", "10", "2"], ["b", "a", "D", "C"]]))
    rows = [*range(4), *data.draw(st.lists(st.integers(0, 3)))]
    order = data.draw(st.permutations(range(4)))
    train = read_label_column(np.array(rows), "train", names=names)
    inverse = [order.index(row) for row in rows]
    test = read_label_column(np.array(inverse), "test", names=[names[position] for position in order])
    for declared in (None, data.draw(st.permutations(names))):
        labels = match_classes({"train": train, "test": test}, declared)
        assert named(labels) == named(labels, "test") == [names[row] for row in rows]


@given(st.lists(st.sampled_from(["cat", "dog", "\u00e9l\u00e9phant", "Zebra", None]), min_size=1))
def test_names_survive_every_kind_of_column(rows: list[str | None]) -> None:
    rows = ["cat", "dog", *rows]
    for column in (np.array(rows, dtype=object), pandas.Series(rows), pandas.Categorical(rows), pyarrow.array(rows)):
        assert named(classes(column)) == rows
    column = read_label_column(pyarrow.array(rows).dictionary_encode(), "labels")
    targets, _ = match_labels(column, ("Zebra", "dog", "cat", "\u00e9l\u00e9phant"))
    assert [("Zebra", "dog", "cat", "\u00e9l\u00e9phant", None, None)[target] for target in targets] == rows


@given(st.lists(st.integers(-(2**62), 2**62), min_size=2, unique=True), st.randoms())
def test_integers_as_names_are_sorted_as_numbers_and_kept(numbers: list[int], random: Any) -> None:
    for values in (numbers, [str(number) for number in numbers]):
        labels = classes(values, integer_labels="names")
        assert named(labels) == [str(number) for number in numbers]
        assert list(map(int, labels.class_names)) == sorted(numbers)

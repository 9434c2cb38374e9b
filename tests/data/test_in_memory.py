"""Data in memory: every container becomes the same dataset, and labels come back in the form in which they came."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from noisybench.data.in_memory import in_memory_dataset, read_examples
from noisybench.data.in_memory_inputs import read_inputs
from noisybench.data.in_memory_labels import read_labels
from noisybench.errors import UserError

CLASSES = np.array([2, 0, 1, 2])
OTHER = np.array([0, 1, 2, 2])
NAMES = np.array(["bird", "cat", "horse"])


def same(first, second):
    if isinstance(first, pd.Series):
        pd.testing.assert_series_equal(first, second)
    elif isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second)
    elif isinstance(first, pd.Index):
        pd.testing.assert_index_equal(first, second)
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == second.dtype
    elif isinstance(first, pa.Array | pa.ChunkedArray):
        assert first.to_pylist() == second.to_pylist()
        assert first.type == second.type
    else:
        assert first == second
        assert [type(entry) for entry in first] == [type(entry) for entry in second]
    assert type(first) is type(second)


INDEX = ["a", "b", "c", "d"]
CONTAINERS = {
    "list": lambda codes: codes.tolist(),
    "tuple": lambda codes: tuple(codes.tolist()),
    "list of text": lambda codes: NAMES[codes].tolist(),
    "int64": lambda codes: codes,
    "uint8": lambda codes: codes.astype(np.uint8),
    "float32": lambda codes: codes.astype(np.float32),
    "numbers from 1": lambda codes: codes + 1,
    "numbers with gaps": lambda codes: np.array([10, 20, 70])[codes],
    "text": lambda codes: NAMES[codes],
    "objects": lambda codes: NAMES[codes].astype(object),
    "columns of scikit-learn": lambda codes: codes[:, None],
    "one-hot": lambda codes: np.eye(3, dtype=np.float32)[codes],
    "tensor": torch.from_numpy,
    "int32 tensor": lambda codes: torch.from_numpy(codes).int(),
    "series": lambda codes: pd.Series(codes, index=INDEX, name="label"),
    "series of text": lambda codes: pd.Series(NAMES[codes], index=INDEX),
    "categorical": lambda codes: pd.Series(pd.Categorical.from_codes(codes, NAMES), index=INDEX),
    "nullable": lambda codes: pd.Series(codes, dtype="Int64"),
    "index": lambda codes: pd.Index(NAMES[codes], name="label"),
    "frame": lambda codes: pd.DataFrame({"label": codes}, index=INDEX),
    "arrow": lambda codes: pa.array(codes),
    "arrow text": lambda codes: pa.chunked_array([NAMES[codes]]),
    "arrow dictionary": lambda codes: pa.array(NAMES[codes]).dictionary_encode(),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_labels_come_back_in_the_form_in_which_they_came(name):
    make = CONTAINERS[name]
    labels = read_labels(make(CLASSES))
    np.testing.assert_array_equal(labels.targets, CLASSES)
    assert labels.targets.dtype == np.int64
    assert len(labels.class_names) == len(labels.classes) == 3
    same(labels.restore(OTHER), make(OTHER))


@pytest.mark.parametrize(
    "make",
    [
        lambda masks: masks,
        lambda masks: masks.astype(np.int64),
        lambda masks: masks[:, None],
        lambda masks: torch.from_numpy(masks).long(),
        lambda masks: list(masks),
        lambda masks: masks.astype(bool),
    ],
)
def test_masks_come_back_in_the_form_in_which_they_came(make):
    masks = np.array([[[0, 1], [1, 0]], [[1, 1], [0, 0]]], dtype=np.uint8)
    labels = read_labels(make(masks))
    np.testing.assert_array_equal(labels.targets, masks)
    restored, expected = labels.restore(1 - masks), make(1 - masks)
    for first, second in zip(restored, expected, strict=True):
        same(first, second)
    assert type(restored) is type(expected)


def test_classes_that_do_not_occur_are_declared():
    assert read_labels([0, 3], class_names=5).classes.tolist() == [0, 1, 2, 3, 4]
    named = read_labels(np.array([0, 1]), class_names=["cat", "dog", "horse"])
    assert named.class_names == ("cat", "dog", "horse")
    np.testing.assert_array_equal(named.restore(np.array([2, 0])), [2, 0])
    assert read_labels(["dog", "cat"], class_names=["dog", "cat", "bird"]).restore(np.array([2, 0])) == ["bird", "dog"]
    assert read_labels(np.array(["a", "b"]), class_names=["a", "b", "longer"]).restore(np.array([2]))[0] == "longer"
    assert read_labels([-1, 1, 1]).classes.tolist() == [-1, 1], "binary labels of scikit-learn"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1], "y: entry 2 is -1, which often stands for no label"),
        ([0.0, 1.0, float("nan")], "y: entry 2 has no label"),
        (np.array([0.0, np.nan, 1.0]), "y: entry 1 is nan; remove the example"),
        ([0, None, 1], "y: entry 1 has no label"),
        (np.array([0, 1, 0.5, 2]), "y must be integers, but entry 2 is 0.5"),
        (np.full((3, 3), 1 / 3), "y are probabilities of 3 classes; pass the most probable"),
        ([1, 1, 1], "y has the one class `1`, but at least two are needed"),
        ([], "y has no labels"),
        ("labels", "y must be one label for each example, but is 'labels'"),
        (3, "y must be one label for each example, but is 3"),
        (pd.DataFrame({"a": [0, 1], "b": [1, 0]}), "y is a data frame of 2 columns"),
        (np.zeros((2, 4, 4), np.uint8), "y has pixels of class 0 only"),
        (np.full((2, 4, 4), -1), "y: mask 0 has the value -1 in row 0, column 0"),
        (np.zeros((2, 3, 4, 4)), "y has the shape .*, but masks must be"),
        (np.ma.array([0, 1, 2], mask=[False, True, False]), "y has 1 masked entry; remove it, or fill it in"),
        (torch.tensor([0, 1, 1]).to_sparse(), "y is a sparse tensor; pass y.to_dense()"),
        (torch.zeros(3, device="meta"), "y is a tensor without values"),
        (["cat", "\udcff"], r"y: the class '\\udcff' is not valid text"),
        (pd.Series([0, "1"], dtype=object), "y has integers .* and text"),
    ],
)
def test_impossible_labels_are_refused_with_their_place(labels, message):
    with pytest.raises(UserError, match=message):
        read_labels(labels)


def test_labels_outside_of_the_classes_are_refused():
    with pytest.raises(UserError, match=r"y must be class indices, 0 to 2, .* but entry 1 is 3"):
        read_labels([0, 3], class_names=3)
    with pytest.raises(UserError, match="the label `cta` of entry 0 is none of the 2 classes; did you mean `cat`"):
        read_labels(["cta", "dog"], class_names=["cat", "dog"])
    for names in (1, [], np.array([])):
        with pytest.raises(UserError, match="class_names: must be 2 to"):
            read_labels([0, 1], class_names=names)
    for names in ({"cat", "dog"}, {"cat": 0, "dog": 1}):
        with pytest.raises(UserError, match="class_names: must be a list of names"):
            read_labels([0, 1], class_names=names)
    with pytest.raises(UserError, match="class_names has entries of different shapes"):
        read_labels([0, 1], class_names=[["cat"], ["dog", "horse"]])
    for names in (NAMES.astype(object), pd.Index(NAMES), pd.Series(NAMES, index=[5, 5, 5])):
        assert read_labels([0, 2], class_names=names).class_names == tuple(NAMES)


PIXELS = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        PIXELS.transpose(0, 2, 3, 1),
        PIXELS.astype(np.float32) / 255,
        PIXELS.astype(np.int64),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS) / 255,
        [Image.fromarray(pixels) for pixels in PIXELS.transpose(0, 2, 3, 1)],
        list(PIXELS),
    ],
)
def test_images_of_every_layout_are_the_same_and_come_back(given):
    read = read_inputs(given)
    assert read.kind == "images"
    np.testing.assert_array_equal(read.inputs, PIXELS)
    assert read.inputs.dtype == np.uint8
    restored = read.restore(read.inputs)
    assert type(restored) is type(given)
    for first, second in zip(restored, given, strict=True):
        np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        np.eye(3),
        np.eye(3).tolist(),
        torch.eye(3),
        pd.DataFrame(np.eye(3), index=["a", "b", "c"]),
        pa.table(dict(zip("abc", np.eye(3), strict=True))),
        np.eye(3, dtype=bool),
        np.eye(3).astype(object),
        pd.DataFrame(np.eye(3), columns=["a", "a", "b"]),
    ],
)
def test_features_of_every_container_are_the_same(given):
    read = read_inputs(given)
    assert read.kind == "features"
    np.testing.assert_array_equal(read.inputs[:, :, 0, 0], np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros(3), r"X has the shape \(3,\).*X.reshape\(-1, 1\)"),
        (np.zeros((0, 3)), "X has no examples"),
        (np.zeros((2, 3, 5, 3), np.uint8), "channels could be first or last; pass channels="),
        (np.zeros((2, 5, 5, 5), np.uint8), "with 1 or 3 channels"),
        (np.full((2, 3, 4, 4), -1.5), "before their normalization"),
        (np.array([[1.0, np.inf]]), "X: row 0 has the value inf in column 1"),
        (pd.DataFrame({"age": [1, 2], "city": ["a", "b"]}), "X: the column `city` is"),
        ([np.zeros((3, 4, 4)), np.zeros((3, 5, 5))], "resize or pad them"),
        ("images", "X must be an array"),
        (np.array([[1 + 2j]]), "X must be numbers or texts, but is complex128"),
        (np.array([[1, "a"]], dtype=object), "X must be numbers or texts, but has 'a'"),
        (np.ma.array(np.eye(2), mask=np.eye(2)), "X has 2 masked entries; remove them, or fill them in"),
        (torch.eye(2).to_sparse(), "X is a sparse tensor"),
        (pd.DataFrame({"city": pd.Categorical(["a", "b"]), "age": [1, 2]}), "X: the column `city` is category"),
        (np.zeros((2, 0, 5)), r"X has images without pixels \(shape \(2, 0, 5\)\)"),
        (np.array(1.5), "X must have an entry for each example, but is the single value 1.5"),
    ],
)
def test_impossible_inputs_are_refused(inputs, message):
    with pytest.raises(UserError, match=message):
        read_inputs(inputs)


def test_a_dataset_has_the_same_hash_in_every_container():
    hashes = {
        in_memory_dataset(X, y).hash
        for X, y in (
            (PIXELS, [0, 1]),
            (torch.from_numpy(PIXELS) / 255, torch.tensor([0, 1])),
            (PIXELS.transpose(0, 2, 3, 1), pd.Series([0, 1], index=["a", "b"])),
        )
    }
    assert len(hashes) == 1


def test_splits_have_the_classes_of_the_training_examples():
    dataset = in_memory_dataset(
        np.eye(4), [3, 5, 7, 3], validation=(np.ones((1, 4)), [5]), test=(np.eye(4)[:2], [7, 3])
    )
    assert dataset.class_names == ("3", "5", "7")
    assert dataset.validation.targets.tolist() == [1]
    assert dataset.test.targets.tolist() == [2, 0]
    with pytest.raises(UserError, match=r"y must be class indices, 0 to 2|none of the 3"):
        in_memory_dataset(np.eye(4), [3, 5, 7, 3], test=(np.eye(4)[:1], [9]))
    with pytest.raises(UserError, match="test: its inputs have the shape"):
        in_memory_dataset(np.eye(4), [3, 5, 7, 3], test=(np.eye(5)[:1], [3]))


def test_lengths_and_sizes_must_agree():
    with pytest.raises(UserError, match="X has 4 examples, but y has 3 labels"):
        read_examples(np.eye(4), [0, 1, 0])
    with pytest.raises(UserError, match="each pixel needs one label"):
        read_examples(PIXELS, np.array([[[0, 1]], [[0, 1]]]))


def test_integers_beside_class_names_have_one_meaning():
    names = ["1", "2", "3"]
    with pytest.raises(UserError, match="y: the label 1 is the name of class 0 and the index of class `2`"):
        read_labels([1, 2], class_names=names)
    assert read_labels([1, 2], class_names=names, integer_labels="indices").targets.tolist() == [1, 2]
    assert read_labels([1, 2], class_names=names, integer_labels="names").targets.tolist() == [0, 1]
    assert read_labels([1, 3], class_names=names).targets.tolist() == [0, 2], "3 is no index"
    dataset = in_memory_dataset(np.eye(4), [2, 1, 3, 2], test=(np.eye(4)[:2], [1, 2]))
    assert dataset.test.targets.tolist() == [0, 1]


def test_tensors_of_a_type_that_numpy_lacks_are_read_from_lists_and_restored() -> None:
    given = [torch.tensor([0.5, 2.0], dtype=torch.bfloat16), torch.tensor([1.0, -3.0], dtype=torch.bfloat16)]
    read = read_inputs(given)
    assert read.inputs[:, :, 0, 0].tolist() == [[0.5, 2.0], [1.0, -3.0]]
    restored = read.restore(read.inputs)
    assert [row.dtype for row in restored] == [torch.bfloat16] * 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(restored, given, strict=True))

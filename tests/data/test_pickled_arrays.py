"""Dictionaries of arrays in `.npy` files run nothing."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.pickled_arrays import read_pickled_arrays
from noisybench.errors import UserError
from tests.helpers import toy_dataset

ARRAYS = {
    "clean_label": np.arange(6) % 3,
    "worse_label": np.arange(6, dtype=np.int32)[::-1] % 3,
    "score": np.linspace(0, 1, 6).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(6, dtype=">i8"),
    "name": np.array(["cat", "dog"]),
}


def write_pickle(path: Path, content: bytes) -> Path:
    """Write a pickle behind the header of an array of one object."""
    np.save(path, np.array(None, dtype=object), allow_pickle=True)
    header = path.read_bytes()
    path.write_bytes(header[: header.index(b"\n") + 1] + content)
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_the_arrays_are_those_that_were_saved(protocol: int, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.npy", pickle.dumps(np.array(ARRAYS, dtype=object), protocol=protocol))
    loaded = read_pickled_arrays(path, "noise.path")
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    lists = {**ARRAYS, "list": list(np.arange(3)), "plain": [1, 0]}
    np.save(tmp_path / "y.npy", lists, allow_pickle=True)
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "y.npy", "x")["list"], [0, 1, 2])
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "y.npy", "x")["plain"], [1, 0])
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "y.npy", "x")["score"], ARRAYS["score"])


class Fires:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("fired"),))


class Imports:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("open('fired', 'w').close()",))


def hostile_type() -> bytes:
    """Numbers whose type claims that they are pointers to objects."""
    array = pickle.dumps(np.array([1, 2]), protocol=2)
    return array.replace(b"i8", b"O8")


def wrong_length() -> bytes:
    """An array of more entries than its bytes."""
    return pickle.dumps({"a": np.arange(3)}, protocol=2).replace(b"K\x03\x85", b"M\xff\x7f\x85")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(np.array({"a": Fires()}, dtype=object)), r"names pathlib\.[\w.]+, which is not allowed"),
        (pickle.dumps(np.array({"a": Imports()}, dtype=object)), r"names builtins\.eval, which is not allowed"),
        (b"cos\nsystem\n(S'touch fired'\ntR.", r"names os\.system"),
        (b"cnumpy\nndarray\n(S'a'\ntR.", "not callable"),
        # Changes the attributes of what the pickle may name.
        (b"cnumpy\ndtype\n}S'code'\nS'x'\nsb.", "damaged or not a dictionary"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\nN}S'__class__'\ncnumpy\nndarray\ns\x86b.",
            "damaged or not a dictionary",
        ),
        (b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.", "the encoding 'zlib' is not allowed"),
        (hostile_type(), "damaged or not a dictionary"),
        (wrong_length(), "does not fit its 24 bytes"),
        (pickle.dumps([1, 2]), "its content is no dictionary"),
        (pickle.dumps({"a": 1}), "its entry 'a' is no array"),
        (pickle.dumps({"a": np.array([{}], dtype=object)}), "it has an array of objects"),
        (pickle.dumps({"a": np.zeros(2, dtype=[("x", "i4")])}), "structured types are not supported"),
        (b"\x80\x04", "damaged or not a dictionary"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**60), "damaged or not a dictionary"),
        (b"", "damaged or not a dictionary"),
    ],
)
def test_nothing_else_is_built_or_run(content: bytes, message: str, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.npy", content)
    with pytest.raises(UserError, match=message):
        read_pickled_arrays(path, "noise.path")
    assert not Path("fired").exists()


def test_the_hostile_file_would_run_elsewhere(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.npy", pickle.dumps(np.array({"a": Imports()}, dtype=object)))
    np.load(path, allow_pickle=True)
    assert Path("fired").exists()


def test_human_labels_of_a_npy_file(tmp_path: Path) -> None:
    dataset = toy_dataset()
    clean = np.zeros(dataset.source_size, dtype=np.int64)
    for split in (dataset.train, dataset.validation):
        clean[split.index] = split.targets
    worse = (clean + (np.arange(len(clean)) % 4 == 0)) % dataset.num_classes
    build = get_entry("noise_models", "human").load_class()
    np.save(tmp_path / "human.npy", {"clean_label": clean, "worse_label": worse}, allow_pickle=True)
    made = build(path=str(tmp_path / "human.npy")).apply(dataset)
    np.testing.assert_array_equal(made.train, worse[dataset.train.index])
    np.save(tmp_path / "human.npy", {"clean_label": clean, "worse_label": worse + 0.9}, allow_pickle=True)
    with pytest.raises(UserError, match="`worse_label` must be integers, but entry 0 is"):
        build(path=str(tmp_path / "human.npy")).apply(dataset)

"""Parquet files as people have them: shards, splits, columns of any name and type, labels by name."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(value: int) -> bytes:
    """Return an image whose pixels all have one value."""
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(data, "png")
    return data.getvalue()


def structs(values: Sequence[int]) -> Any:
    return pyarrow.array([{"bytes": png(value), "path": None} for value in values], STRUCT)


def write(
    path: Path, values: Sequence[int], labels: Any = None, names: Sequence[str] | None = None, **more: Any
) -> Path:
    """Write images of one gray value each; the label is the parity of the value if none is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [value % 2 for value in values] if labels is None else labels
    columns = {"image": structs(values), "label": labels} | more
    table = pyarrow.table({name: column for name, column in columns.items() if column is not None})
    if names is not None:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    return path


def load(**parameters: Any) -> Dataset:
    dataset: Dataset = get_entry("datasets", "parquet").load_class()(**{"validation_fraction": 0.0} | parameters).load()
    return dataset


def refusal(**parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        load(**parameters)
    assert len(error.value.problems) == 1
    return str(error.value)


def content(split: Any) -> dict[int, int]:
    """Return the label of each gray value."""
    return dict(zip(split.inputs[:][:, 0, 0, 0].tolist(), split.targets.tolist(), strict=True))


def in_source_order(data: Dataset) -> list[int]:
    """Return the gray values of training and test examples in the order of the source."""
    values = np.concatenate([data.train.inputs[:], data.test.inputs[:]])[:, 0, 0, 0]
    return [int(value) for value in values[np.argsort(np.concatenate([data.train.index, data.test.index]))]]


def shards(folder: Path, total: int = 3, stem: str = "train-{:05}-of-{:05}") -> list[Path]:
    return [
        write(folder / f"{stem.format(number, total)}.parquet", range(20 * number, 20 * number + 20))
        for number in range(total)
    ]


@pytest.mark.parametrize("given", ["folder", "pattern", "list", "root"])
def test_shards_are_one_set_in_the_order_of_their_numbers(given: str, tmp_path: Path) -> None:
    files = shards(tmp_path / "hub", 11, "train-{}-of-{}")
    if given == "root":
        data = load(root=str(tmp_path / "hub"))
    else:
        values = {"folder": str(tmp_path / "hub"), "pattern": str(tmp_path / "hub" / "t*.parquet")}
        data = load(train=values.get(given, [str(file) for file in files]))
    assert in_source_order(data) == list(range(220))
    assert content(data.train) | content(data.test) == {value: value % 2 for value in range(220)}


def test_missing_shards_are_named(tmp_path: Path) -> None:
    files = shards(tmp_path)
    files[1].unlink()
    for given in (tmp_path, tmp_path / "*.parquet"):
        assert "1 of 3 shards is missing: train-00001-of-00003.parquet; download it" in refusal(train=str(given))
    # Those who list files want just these.
    data = load(train=[str(files[2]), str(files[0])])
    assert in_source_order(data)[0] == 40
    assert [note.names for note in data.notes if note.kind == "missing_shards"] == [("train-00001-of-00003.parquet",)]
    assert "is listed twice" in refusal(train=[str(files[0]), str(files[0])])
    write(tmp_path / "train-00001-of-00002.parquet", range(4))
    assert "two versions of one set" in refusal(train=str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        (
            "data/train-0-of-1-a09b74b3ef9c3b56.parquet",
            "data/valid-0-of-1-b09b74b3ef9c3b56.parquet",
            "data/test-0-of-1.parquet",
        ),
        ("train/0000.parquet", "dev/0000.parquet", "test/0000.parquet"),
        (
            "Training/part-00000-5d3c1a2b-snappy.parquet",
            "Validation/part-00000-5d3c1a2b.parquet",
            "Testing/part-00000.parquet",
        ),
        ("pets_train.parquet", "pets_val.parquet", "pets_test.parquet"),
    ],
)
def test_a_folder_gives_its_splits(names: tuple[str, ...], tmp_path: Path) -> None:
    for start, name in zip((0, 100, 200), names, strict=True):
        write(tmp_path / name, range(start, start + 20))
    data = load(root=str(tmp_path))
    assert [sorted(content(split)) for split in (data.train, data.validation, data.test)] == [
        list(range(start, start + 20)) for start in (0, 100, 200)
    ]
    same = load(train=str(tmp_path / names[0]), validation=str(tmp_path / names[1]), test=str(tmp_path / names[2]))
    assert same.hash == data.hash


def test_a_validation_split_without_a_test_split_is_for_testing(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(20))
    write(tmp_path / "valid.parquet", range(100, 110))
    write(tmp_path / "unsupervised.parquet", range(9))
    data = load(root=str(tmp_path))
    assert sorted(content(data.test)) == list(range(100, 110))
    notes = {note.kind: note.names for note in data.notes}
    assert "validation_as_test" in notes
    assert notes["unread_files"] == ("unsupervised.parquet",)
    write(tmp_path / "val.parquet", range(100, 110))
    assert "both stand for the validation split" in refusal(root=str(tmp_path))


def test_a_folder_of_several_configurations_is_refused(tmp_path: Path) -> None:
    for name in ("de", "en"):
        write(tmp_path / name / "train-0-of-1.parquet", range(20))
    assert "has train files in the folders de, en, probably of several configurations" in refusal(root=str(tmp_path))
    assert len(load(root=str(tmp_path / "de")).train) == 15


def test_class_orders_of_two_files_are_matched_by_name(tmp_path: Path) -> None:
    train = write(tmp_path / "a.parquet", range(20), names=["even", "odd"])
    test = write(tmp_path / "b.parquet", range(20), [1 - value % 2 for value in range(20)], names=["odd", "even"])
    data = load(train=str(train), test=str(test))
    assert data.class_names == ("even", "odd")
    assert content(data.train) == content(data.test) == {value: value % 2 for value in range(20)}
    named = write(tmp_path / "c.parquet", range(20), [("even", "odd")[value % 2] for value in range(20)])
    assert load(train=str(train), test=str(named)).hash == data.hash
    declared = load(train=str(train), test=str(test), class_names=["odd", "even"])
    assert content(declared.test) == {value: 1 - value % 2 for value in range(20)}


def test_a_test_file_without_the_column_of_labels_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(20), label=None, breed=[value % 2 for value in range(20)])
    write(tmp_path / "test.parquet", range(20), label=None, age=[value % 2 for value in range(20)])
    assert "dataset.test: test.parquet has no column `breed`" in refusal(train="train.parquet", test="test.parquet")


@pytest.mark.parametrize("labels", [pyarrow.array([-1] * 20), pyarrow.array([None] * 20, pyarrow.int64())])
def test_unpublished_test_labels_are_refused_with_the_way_to_train(labels: Any, tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(20), names=["even", "odd"])
    write(tmp_path / "test.parquet", range(20, 40), labels, names=["even", "odd"])
    message = refusal(root=str(tmp_path))
    assert "has no label in any of its 20 rows" in message
    assert f"set dataset.train={tmp_path} instead of dataset.root" in message
    assert load(train=str(tmp_path)).source_size == 20
    assert "leave dataset.test out" in refusal(train="train.parquet", test="test.parquet")


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", range(20), is_valid=[value % 3 == 0 for value in range(20)])
    assert [note.names for note in load(train="t.parquet").notes if note.kind == "unread_columns"] == [("is_valid",)]


def test_shards_with_other_columns_or_class_names_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", range(20), names=["even", "odd"])
    other = write(tmp_path / "b.parquet", range(20), names=["odd", "even"])
    assert "`label` has other class names" in refusal(train=[str(first), str(other)])
    write(other, range(20), [str(value % 2) for value in range(20)], names=["even", "odd"])
    assert "`label` is string, not int64" in refusal(train=[str(first), str(other)])
    write(other, range(20), names=["even", "odd"], id=list(range(20)))
    assert "it also has `id`" in refusal(train=[str(first), str(other)])


@pytest.mark.parametrize(
    "kind",
    ["binary", "large", "base64", "data URL", "relative", "absolute", "text", "mixed", "missing bytes", "untyped"],
)
def test_images_are_found_by_the_type_of_their_column(kind: str, tmp_path: Path) -> None:
    values = range(30)
    for value in values:
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{value}.png").write_bytes(png(value))
    prefix = f"{tmp_path}/files" if kind == "absolute" else "files"
    paths = [f"{prefix}/{value}.png" for value in values]
    rows = [{"bytes": None, "path": path} for path in paths]
    columns: dict[str, Any] = {
        "binary": pyarrow.array([png(value) for value in values], pyarrow.binary()),
        "large": pyarrow.array([png(value) for value in values], pyarrow.large_binary()),
        "base64": pyarrow.array([base64.b64encode(png(value)).decode() for value in values]),
        "data URL": pyarrow.array([f"data:image/png;base64,{base64.b64encode(png(n)).decode()}" for n in values]),
        "untyped": pyarrow.array(rows),
        "text": pyarrow.array(paths),
        "missing bytes": pyarrow.array([{"path": path} for path in paths]),
        "mixed": pyarrow.array([{**row, "bytes": png(n) if n % 3 else None} for n, row in enumerate(rows)], STRUCT),
    }
    column = columns.get(kind, pyarrow.array(rows, STRUCT))
    write(tmp_path / "t.parquet", values, image=None, scan=column)
    parameters = {
        "train": str(tmp_path / "t.parquet"),
        **({"image": "scan"} if kind in ("text", "base64", "data URL") else {}),
    }
    raw = {"dataset": {"name": "parquet", **parameters}}
    data = load(**parameters)
    assert content(data.train) | content(data.test) == {value: value % 2 for value in values}
    if kind not in ("binary", "large", "base64", "data URL"):
        assert data.source_names[3] in (paths[3], "3.png")
        before = resolve(raw).data
        (tmp_path / "files" / "3.png").write_bytes(png(99))
        assert resolve(raw).data != before
        (tmp_path / "files" / "3.png").unlink()
        assert "t.parquet, row 3: " in refusal(**parameters)
        assert load(**parameters, on_error="skip").source_size == 29
        assert resolve(raw).data["dataset"].isalnum()


@pytest.mark.parametrize(
    ("columns", "parameters", "message"),
    [
        ({"image": pyarrow.array([structs([n]).to_pylist() for n in range(8)], pyarrow.list_(STRUCT))}, {}, "a list of"),
        ({"image": [[[0, 1], [2, 3]]] * 8}, {}, "pixels in lists are not supported"),
        ({"image": None, "text": ["a.png"] * 8}, {}, "has no column of images .*dataset.image=COLUMN"),
        ({"image": None, "a": structs(range(8)), "b": structs(range(8))}, {}, "set dataset.image to one of a, b"),
        ({}, {"image": "imgae"}, "has no column `imgae`; did you mean `image`?"),
        ({}, {"image": "label"}, "the column `label` has the type int64"),
        ({}, {"label": "labl"}, "has no column `labl`; did you mean `label`?"),
        ({"label": None}, {}, "has no column of labels; set dataset.label"),
        ({"label": None, "fine": [0] * 8, "coarse": [0] * 8}, {}, "labels: fine, coarse; set dataset.label"),
        ({}, {"group": "patient"}, "has no column `patient`"),
        ({"patient": ["a"] * 7 + [None]}, {"group": "patient"}, "1 rows without a group"),
        ({"label": [0.5, 1.0] * 4}, {}, "the column `label` of t.parquet must be integers, but entry 0 is 0.5"),
        ({"label": [[0, 1], [1, 1]] * 4}, {}, r"\(multi-label\)"),
        ({}, {"test": "nosuch/*.parquet"}, "no file has a name like nosuch"),
        ({}, {"test": "nosuch.parquet"}, "dataset.test: nosuch.parquet: file not found"),
        ({}, {"root": "."}, "root and train are given"),
        ({}, {"train": None, "test": "t.parquet"}, "dataset.train: set the training images as well"),
        ({}, {"train": None}, "dataset.train: set the parquet files"),
    ],
)  # fmt: skip
def test_files_without_one_meaning_are_refused(columns: Any, parameters: Any, message: str, tmp_path: Path) -> None:
    import re

    write(tmp_path / "t.parquet", range(8), **columns)
    assert re.search(message, refusal(**{"train": "t.parquet"} | parameters))


def test_the_labels_are_the_only_column_that_can_be(tmp_path: Path) -> None:
    labels = [("cat", "dog")[value % 2] for value in range(20)]
    write(
        tmp_path / "t.parquet", range(20), label=None, breed=pyarrow.array(labels).dictionary_encode(), age=[0.5] * 20
    )
    assert load(train="t.parquet").class_names == ("cat", "dog")


def test_examples_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = [None if value % 5 == 0 else value % 2 for value in range(40)]
    write(tmp_path / "t.parquet", range(40), pyarrow.array(labels), patient=[f"p{value // 4}" for value in range(40)])
    data = load(train="t.parquet", group="patient")
    assert sorted(content(data.train) | content(data.test)) == [value for value in range(40) if value % 5]
    assert [note.count for note in data.notes if note.kind == "unlabeled"] == [8]
    assert "8 of 40 examples have no label, the first in entry 0" in refusal(train="t.parquet", test="t.parquet")
    source = get_entry("datasets", "parquet").load_class()(train="t.parquet", group="patient")
    split, _, _ = source.read()
    assert [f"p{value // 4}" for value in split.inputs[:, 0, 0, 0]] == split.groups.tolist()


def test_labels_without_classes_of_the_hub_are_refused_with_the_word_that_leaves_them_out(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", range(20), [-1 if value == 3 else value % 2 for value in range(20)], ["a", "b"])
    assert (
        "entry 3 is -1, but the file names 2 classes, 0 to 1; if it means no label, set dataset.unlabeled=-1"
        in refusal(train="t.parquet")
    )
    assert len(load(train="t.parquet", unlabeled=-1).train) == 14


def test_damaged_images_are_refused_or_skipped_with_their_labels(tmp_path: Path) -> None:
    rows = structs(range(20)).to_pylist()
    rows[4]["bytes"] = b"damaged"
    write(tmp_path / "t.parquet", range(20), image=pyarrow.array(rows, STRUCT))
    assert "t.parquet, row 4: damaged or not an image" in refusal(train="t.parquet")
    data = load(train="t.parquet", on_error="skip")
    assert content(data.train) | content(data.test) == {value: value % 2 for value in range(20) if value != 4}
    assert len(data.skipped_files) == 1


def test_a_list_in_a_recipe_and_on_the_command_line_is_the_same(tmp_path: Path) -> None:
    from noisybench.config.overrides import override, parse_overrides

    files = [str(file) for file in shards(tmp_path)]
    raw: dict[str, Any] = {"dataset": {"name": "parquet"}}
    (parsed,) = parse_overrides([f"dataset.train=[{', '.join(files)}]"])
    (value,) = parsed.values(raw)
    expected = resolve({"dataset": {"name": "parquet", "train": files}})
    assert resolve(override(raw, parsed.path, value)).data == expected.data
    assert len(expected.dataset.build().load().train) > 30


def test_the_cache_holds_the_chosen_rows_and_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "t.parquet", range(20), other=structs(range(100, 120)), mark=[value % 4 // 2 for value in range(20)]
    )
    first = load(train="t.parquet", image="image", label="label")
    assert max(content(first.train)) < 100 <= min(content(load(train="t.parquet", image="other", label="label").train))
    whole = load(train="t.parquet", image="image", label="mark")
    part = load(train="t.parquet", image="image", label="mark", soft_labels=None)
    assert whole.hash == part.hash != first.hash


def test_a_column_gives_the_splits(tmp_path: Path) -> None:
    splits = [("train", "Validation", "test")[value % 3] for value in range(60)]
    labels = [value // 3 % 2 for value in range(60)]
    write(tmp_path / "t.parquet", range(60), labels, split=pyarrow.array(splits).dictionary_encode())
    for given in ({"train": "t.parquet"}, {"root": "."}, {"train": "t.parquet", "split": "split"}):
        data = load(**given)
        for part, split in enumerate((data.train, data.validation, data.test)):
            assert content(split) == {value: value // 3 % 2 for value in range(part, 60, 3)}
    write(tmp_path / "t.parquet", range(60), labels, fold=[value.replace("test", "extra") for value in splits])
    assert "row 2 has 'extra', which stands for no split" in refusal(train="t.parquet", split="fold")
    # A column that only looks like one is no split, and a file for each split has precedence.
    write(tmp_path / "t.parquet", range(60), labels, split=["train"] * 60)
    write(tmp_path / "u.parquet", range(100, 110), split=["test"] * 10)
    assert len(load(train="t.parquet").train) == 45
    assert len(load(train="t.parquet", test="u.parquet").test) == 10
    write(tmp_path / "t.parquet", range(60), None, label=None, split=[f"set {value % 2}" for value in range(60)])
    assert load(train="t.parquet").class_names == ("set 0", "set 1")

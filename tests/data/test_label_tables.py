"""Tables of labels as annotation tools and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisybench.data.labels.rows import match_rows
from noisybench.data.labels.tables import LabelTable, parse_table, read_table
from noisybench.data.labels.values import class_indices
from noisybench.errors import UserError

LABELS = ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat\nb.png,dog\nc.png,cat\n",
        "file;label\r\na.png;cat\r\nb.png;dog\r\nc.png;cat\r\n",
        "file\tlabel\na.png\tcat\nb.png\tdog\nc.png\tcat",
        "file|label\na.png|cat\nb.png|dog\nc.png|cat\n",
        "sep=;\nfile;label\na.png;cat\nb.png;dog\nc.png;cat\n",
        ' file , "label"\n"a.png", cat \n\nb.png,"dog"\nc.png,cat\n\n\n',
        ",file,label\n0,a.png,cat\n1,b.png,dog\n2,c.png,cat\n",
        "file,label,\na.png,cat,\nb.png,dog,\nc.png,cat,\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_do_not_change_the_cells(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    columns = read_table(tmp_path / "labels.csv").columns
    assert columns["file"] == ["a.png", "b.png", "c.png"]
    assert columns["label"] == LABELS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"file;label,en\na;b\n", "contains commas and semicolons, so it is unclear"),
        (b"file,label\na.png,cat, black\n", "line 2: has 3 cells, but the header has 2 columns"),
        (b"# by Ann\nfile,label\n", "comment lines are not supported"),
        (b"label,label\na,b\n", "two columns `label`"),
        (b"file,label\n", "contains no rows"),
        (b"file,,label\na,b,c\n", "column 2 has no name"),
        (b'file,label\n"a.png,cat\nb.png,dog\n', "unexpected end of data"),
        ("file,label\na.png,caf\u00e9\n".encode("latin1"), "line 2: not encoded in UTF-8"),
        ("file,label\na.png,cat\n".encode("utf-16-le"), "null characters"),
    ],
)
def test_tables_that_could_be_misread_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "labels.csv")


def test_a_blank_line_of_a_single_column_is_a_row_without_a_label() -> None:
    assert parse_table("observed\ncat\n\ndog\n", "x.csv")[0] == {"observed": ["cat", "", "dog"]}


def test_words_for_missing_values_stay_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("label\nNA\nNone\nnan\n007\n1e3\n")
    assert read_table(tmp_path / "x.csv").columns["label"] == ["NA", "None", "nan", "007", "1e3"]


def test_parquet_columns_keep_integers_and_missing_values(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"index": [2, 0], "label": pandas.array([1, None], dtype="Int64"), "kind": ["a", None]})
    frame["kind"] = frame["kind"].astype("category")
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    assert dict(read_table(tmp_path / "x.parquet").columns) == {
        "index": ["2", "0"],
        "label": ["1", ""],
        "kind": ["a", ""],
    }


def test_class_names_of_a_parquet_file_replace_its_integers(tmp_path: Path) -> None:
    metadata = {"huggingface": '{"info": {"features": {"label": {"names": ["dog", "cat"]}}}}'}
    table = pyarrow.table({"label": [0, 1, -1, None]}).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").columns["label"] == ["dog", "cat", "", ""]


NAMES = ("cat/1.png", "cat/2.png", "dog/2.png", "dog/caf\u00e9.png")


def match(column: str, cells: list[str], names: tuple[str, ...] = NAMES) -> list[int]:
    table = LabelTable(Path("labels.csv"), {column: cells, "label": ["x"] * len(cells)}, tuple(range(2, 9)))
    return match_rows(table, len(names), names).rows.tolist()


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (["dog/2.png", "cat/1.png"], [2, 0]),
        (["1.png", "1", "./cat/1.png", "/data/train/cat/1.png", "cat\\1.png", "cat/1"], [0] * 6),
        (["dog/cafe\u0301.png", "caf\u00e9"], [3, 3]),
    ],
)
def test_file_names_match_with_or_without_folders_and_suffixes(cells: list[str], rows: list[int]) -> None:
    assert match("Image Path", cells) == rows


def test_names_of_examples_without_suffixes_match_file_names() -> None:
    assert match("filename", ["scans/b.nii.gz", "a.png"], ("a", "b")) == [1, 0]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2.png"], "line 2: `2.png` may be `cat/2.png` and `dog/2.png`; write the folder"),
        (["cat/1.png", "cow/9.png"], "line 3: .* have no file `cow/9.png`; .*1 of 2 rows name unknown files"),
        (["cat/1.jpg"], "no file `cat/1.jpg`; did you mean `1.png`"),
        (["bird/1.png"], "no file `bird/1.png`"),
    ],
)
def test_file_names_that_are_not_clear_are_refused(cells: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match("file", cells)


def test_files_of_the_test_split_never_label_training_examples() -> None:
    table = LabelTable(Path("x.csv"), {"file": ["test/cat/1.png", "train/cat/1.png"], "label": ["a", "b"]}, (2, 3))
    found = match_rows(table, 4, NAMES)
    assert found.rows.tolist() == [-1, 0]
    assert [note.kind for note in found.notes] == ["test_files"]


@pytest.mark.parametrize("cell", ["0.9", "1e30", "-1", "x", "4", "1e0", "0x1", "\u0661"])
def test_an_index_is_an_exact_row_of_the_source(cell: str) -> None:
    with pytest.raises(UserError, match="line 3: "):
        match("index", ["0", cell])


def test_an_index_that_contradicts_the_file_is_refused() -> None:
    columns = {"index": ["0", "1"], "file": ["cat/1.png", "dog/2.png"], "label": ["a", "b"]}
    with pytest.raises(UserError, match=r"line 3: names the file `dog/2\.png`, but the index 1 is `cat/2\.png`"):
        match_rows(LabelTable(Path("x.csv"), columns, (2, 3)), 4, NAMES)


@given(st.permutations(range(12)))
def test_the_order_of_rows_never_matters(order: list[int]) -> None:
    names = tuple(f"{row % 3}/{row:02}.png" for row in range(12))
    assert match("file", [names[row] for row in order], names) == order


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["dog", "cat ", ""], ("cat", "dog"), [1, 0, -2]),
        (["1", "0.0", "1.0"], ("cat", "dog"), [1, 0, 1]),
        (["10", "2", "1"], ("1", "2", "10"), [2, 1, 0]),
        (["1", "3", "2.0"], ("001", "002", "003"), [0, 2, 1]),
        (["001", "003"], ("001", "002", "003"), [0, 2]),
        (["1.0", "2.0"], ("1.0", "1.5", "2.0"), [0, 2]),
        (["cafe\u0301"], ("caf\u00e9", "x"), [0]),
        (["None", "nan"], ("None", "nan"), [0, 1]),
        (["'-x", "y"], ("-x", "y"), [0, 1]),
    ],
)
def test_labels_are_class_names_first(values: list[str], names: tuple[str, ...], expected: list[int]) -> None:
    assert class_indices(values, names, "labels.csv")[0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (["0.9", "1"], ("cat", "dog"), "entry 0: the label is '0.9'"),
        (["0.99999994"], ("cat", "dog"), "the label is '0.99999994'"),
        (["1e30"], ("cat", "dog"), "the label is '1e30'"),
        (["2"], ("cat", "dog"), "the label 2 is none of the 2 classes .cat, dog. nor of their indices, 0 to 1"),
        (["-1"], ("cat", "dog"), "set noise.unlabeled=-1"),
        (["Cat"], ("cat", "dog"), "`Cat` .* did you mean `cat`"),
        (["cat", "1"], ("cat", "dog"), "entry 1: the label `1` is none"),
        (
            ["1", "2"],
            ("1", "2", "3"),
            "the label 1 is the name of class 0 and the index of class `2`; set noise.integer",
        ),
        (["1"], ("1", "cat"), "the label 1 is the name of class 0 and the index of class `cat`"),
    ],
)
def test_labels_with_no_or_two_meanings_are_refused(values: list[str], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_indices(values, names, "labels.csv")


def test_declared_values_mean_no_label() -> None:
    assert class_indices(["-1", "1", "-1.0"], ("cat", "dog"), "x", ("-1",))[0].tolist() == [-2, 1, -2]
    assert class_indices(["unknown", "dog"], ("cat", "dog"), "x", ("unknown",))[0].tolist() == [-2, 1]
    with pytest.raises(UserError, match="no label of x is `unkown`; did you mean `unknown`"):
        class_indices(["unknown", "dog"], ("cat", "dog"), "x", ("unkown",))
    with pytest.raises(UserError, match="`cat` is a class"):
        class_indices(["cat"], ("cat", "dog"), "x", ("cat",))


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "idx", "row"])
def test_rows_in_another_order_than_their_numbers_are_refused(name: str, tmp_path: Path) -> None:
    # As `frame.sort_values("label").to_csv("labels.csv")` writes them.
    path = tmp_path / "labels.csv"
    path.write_text(f"{name},label\n2,cat\n0,cat\n1,dog\n")
    with pytest.raises(
        UserError, match=r"line 2: the column .* numbers the rows in another order \(2 where 0 follows\)"
    ):
        match_rows(read_table(path), 3, ("a.png", "b.png", "c.png"))
    path.write_text(f"{name},label\n1,cat\n2,cat\n3,dog\n")
    assert match_rows(read_table(path), 3, ()).rows.tolist() == [0, 1, 2]


def test_labels_of_few_rows_do_not_number_them() -> None:
    table = LabelTable(Path("labels.csv"), {"observed": ["1", "0"]}, (2, 3))
    assert match_rows(table, 2, (), label_columns=("observed",)).rows.tolist() == [0, 1]


def test_numbers_of_files_may_have_passed_through_floating_point() -> None:
    table = LabelTable(Path("labels.csv"), {"id": ["12.0", "7.0"], "label": ["cat", "dog"]}, (2, 3))
    assert match_rows(table, 2, ("cat/7.jpg", "dog/12.jpg")).rows.tolist() == [1, 0]

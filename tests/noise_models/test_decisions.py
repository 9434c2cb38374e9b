"""Decisions of people about labels: the changes made by a table, and its refusals."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError

CLASSES = ("cat", "dog", "owl")
COLUMNS = ("index", "file", "split", "label", "suggested", "decision", "new_label")
IMAGES = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8), dtype=np.uint8)


def split(*rows: int) -> Split:
    return Split(IMAGES[list(rows)], np.array(rows) % 3, np.array(rows))


NAMES = tuple(f"{CLASSES[row % 3]}/{row:02}.png" for row in range(12))
DATA = Dataset("toy", split(7, 0, 1, 2, 3, 4), split(5, 6), split(8, 9, 10, 11), CLASSES, 12, source_names=NAMES)


def row(number: int, decision: str = "", new_label: str = "", suggested: str = "", **cells: Any) -> dict[str, Any]:
    """Return a row about an example; the suggestion is the next class by default."""
    label = CLASSES[number % 3]
    suggested = suggested or CLASSES[(number + 1) % 3]
    values = (
        number,
        NAMES[number],
        "test" if number in DATA.test.index else "train",
        label,
        suggested,
        decision,
        new_label,
    )
    return dict(zip(COLUMNS, values, strict=True)) | cells


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def model(path: Path, **parameters: Any) -> Any:
    return get_entry("noise_models", "from_file").load_class()(path=path, **parameters)


def make(folder: Path, rows: list[dict[str, Any]], data: Dataset = DATA, **parameters: Any) -> LabelSet:
    labels: LabelSet = model(write(folder / "decisions.csv", rows), **parameters).apply(data)
    return labels


ROWS = [
    row(1, "accept", "owl"), row(3, "relabel", "owl"), row(4, "keep", "dog"), row(7, "exclude"), row(2, "unsure"), row(0),
    row(5, "Accept"), row(8, "accept", "cat"), row(9, "exclude"), row(6, "", "dog"),
]  # fmt: skip


def test_each_decision_changes_what_it_says(tmp_path: Path) -> None:
    labels = make(tmp_path, ROWS)
    assert labels.observed("train").tolist() == [UNKNOWN_TARGET, 0, 2, 2, 2, 1]
    assert labels.observed("validation").tolist() == [0, 1]
    counts = {name: labels.manifest["verification"][name] for name in ("train", "validation", "test")}
    assert counts["train"] == {"verified": 3, "incorrect": 2, "excluded": 1}
    assert counts["validation"] == {"verified": 2, "incorrect": 2, "excluded": 0}
    assert counts["test"] == {"verified": 1, "incorrect": 1, "excluded": 1}
    assert {note.kind: note.count for note in labels.notes} == {"unsure": 1, "unlabeled": 1}


def test_verified_labels_are_the_clean_ones_and_all_others_are_unknown(tmp_path: Path) -> None:
    applied = make(tmp_path, ROWS).apply_to(DATA)
    assert dict(zip(applied.train.index.tolist(), applied.train.targets.tolist(), strict=True)) == {
        0: UNKNOWN_TARGET, 1: 2, 2: UNKNOWN_TARGET, 3: 2, 4: 1,
    }  # fmt: skip
    assert applied.validation.targets.tolist() == [0, 1]
    assert applied.test.index.tolist() == [8, 10, 11], "the excluded example has left"
    assert applied.test.targets.tolist() == [0, 1, 2], "others keep their class, because a score needs one"


def test_given_labels_have_the_noise_rate_that_people_found(tmp_path: Path) -> None:
    verified, given = make(tmp_path, ROWS), make(tmp_path, ROWS, use="given")
    assert verified.manifest["actual_noise_rate"] == 0.0
    assert given.manifest["actual_noise_rate"] == pytest.approx(2 / 3)
    assert given.observed("train").tolist() == [UNKNOWN_TARGET, 0, 1, 2, 0, 1], "the excluded example stays out"
    assert given.hash != verified.hash


def test_a_dataset_with_noisy_labels_keeps_its_clean_targets_elsewhere(tmp_path: Path) -> None:
    noisy = (DATA.train.targets + 1) % 3
    data = replace(DATA, train=replace(DATA.train, noisy_targets=noisy))
    labels = make(tmp_path, [row(1, "relabel", "cat", label="owl")], data)
    assert labels.apply_to(data).train.targets.tolist() == [1, 0, 0, 2, 0, 1]
    assert labels.observed("train").tolist() == [2, 1, 0, 0, 1, 2]


def test_rows_are_found_by_file_name_alone(tmp_path: Path) -> None:
    rows = [{name: cell for name, cell in each.items() if name not in ("index", "split")} for each in ROWS]
    assert make(tmp_path, rows[::-1]).hash == make(tmp_path, ROWS).hash
    bare = [{"file": Path(NAMES[1]).name, "new_label": "owl"}]
    assert make(tmp_path, bare).observed("train").tolist() == [1, 0, 2, 2, 0, 1]


def test_a_stored_label_set_comes_back_with_its_decisions(tmp_path: Path) -> None:
    labels = make(tmp_path, ROWS)
    folder = label_files.save(labels, DATA, tmp_path / "set")
    loaded = model(folder).apply(DATA)
    assert loaded.hash == labels.hash
    assert loaded.manifest["verification"] == labels.manifest["verification"]
    np.testing.assert_array_equal(loaded.apply_to(DATA).train.targets, labels.apply_to(DATA).train.targets)
    assert model(folder, use="given").apply(DATA).hash == make(tmp_path, ROWS, use="given").hash


def test_changed_decisions_of_a_label_set_are_found(tmp_path: Path) -> None:
    folder = label_files.save(make(tmp_path, ROWS), DATA, tmp_path / "set")
    other = label_files.save(make(tmp_path, ROWS[1:]), DATA, tmp_path / "other")
    (folder / "verified.parquet").write_bytes((other / "verified.parquet").read_bytes())
    with pytest.raises(UserError, match="do not match their manifest"):
        label_files.load(folder)


def test_a_second_round_keeps_the_first_given_label(tmp_path: Path) -> None:
    first = make(tmp_path, ROWS)
    second = model(write(tmp_path / "second.csv", [row(1, "relabel", "cat", label="owl"), row(2, "keep")]))
    second.base = first
    labels = second.apply(DATA)
    assert labels.observed("train").tolist() == [UNKNOWN_TARGET, 0, 0, 2, 2, 1]
    rows = labels.verification.rows["train"]
    assert dict(zip(rows.index.tolist(), rows.given.tolist(), strict=True)) == {1: 1, 2: 2, 3: 0, 4: 1, 7: 1}
    assert labels.manifest["noise"]["details"]["given"]["sha256"] == first.hash


def test_an_own_test_split_has_rows_of_its_own(tmp_path: Path) -> None:
    data = replace(
        DATA, test=Split(IMAGES[:2], np.array([0, 1]), np.arange(2)), test_source_size=2, test_names=("cat/a.png", "dog/b.png")
    )  # fmt: skip
    labels = make(tmp_path, [row(1, "accept"), row(1, "accept", "cat", "cat", split="test", file="dog/b.png")], data)
    assert labels.apply_to(data).test.targets.tolist() == [0, 0]
    assert labels.observed("train")[2] == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, "accept", "cat")], "line 2: accepts the suggestion, but `new_label` is another class"),
        ([row(1, "accpt")], "unknown decision `accpt`; did you mean `accept`?"),
        ([row(1, "relabel")], "relabels, but has no class"),
        ([row(1, "relabel", "dog")], "relabels to the class that the example has; write keep"),
        ([row(1, "keep", "cat")], "keeps the label, but `new_label` is another class"),
        ([row(1, "exclude", "cat")], "has the decision exclude, but also a `new_label`"),
        ([row(1, "unsure", "cat")], "has the decision unsure, but also a `new_label`"),
        ([row(1, "relabel", "wolf")], "the label `wolf` is none of the 3 classes"),
        ([row(1, "keep"), row(1, "keep")], "line 3: labels the same example as line 2"),
        ([row(1, "keep"), row(2, "keep", index="", file="cat/99.png")], "the index must be an integer"),
        ([{"file": "cat/99.png", "decision": "exclude"}], "have no file `cat/99.png`"),
        ([row(1, "keep", index=4)], "names the file"),
        ([row(1, "keep", label="owl")], "decides about the label `owl`, but the dataset has `dog`"),
        ([row(1), row(2)], "has no decision; fill in `decision`"),
        ([row(1), row(2, "unsure")], "has no decision but `unsure`, which changes nothing; fill in `decision`"),
        ([row(1, "keep", "cat"), row(2, "nonsense")], "1 more rows likewise"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_one_message(rows: list[dict[str, Any]], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        make(tmp_path, rows)
    assert len(error.value.problems) == 1
    assert expected in str(error.value), str(error.value)

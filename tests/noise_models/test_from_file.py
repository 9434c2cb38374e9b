"""Labels of the user: corrections, examples without a label, votes of annotators, soft labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisybench.audit.scores import COLUMNS
from noisybench.config.noise_seeds import with_noise_seeds
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.labels.votes import make_votes
from noisybench.data.lazy import MemmapImages
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run

CLASSES = ("cat", "dog", "owl")
SIZE = 24


def dataset() -> Dataset:
    """Twelve training, six validation and six test examples in mixed rows of the source; the class is the row modulo 3."""
    images = np.random.default_rng(0).integers(0, 255, (SIZE, 3, 8, 8), dtype=np.uint8)

    def split(rows: np.ndarray) -> Split:
        return Split(images[rows], rows % 3, rows)

    order = np.arange(SIZE) * 5 % SIZE
    parts = [split(np.sort(order[first:last])) for first, last in ((0, 12), (12, 18), (18, 24))]
    names = tuple(f"{CLASSES[row % 3]}/{row:02}.png" for row in range(SIZE))
    return Dataset("toy", *parts, CLASSES, SIZE, source_names=names)


DATA = dataset()
TRUTH = np.arange(SIZE) % 3


def make(folder: Path, lines: list[str], **parameters: Any) -> LabelSet:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    labels: LabelSet = (
        get_entry("noise_models", "from_file").load_class()(path=str(folder / "labels.csv"), **parameters).apply(DATA)
    )
    return labels


def refusal(folder: Path, lines: list[str], **parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        make(folder, lines, **parameters)
    return str(error.value)


def notes(labels: LabelSet) -> dict[str, int]:
    return {note.kind: note.count for note in labels.notes}


def name(row: int) -> str:
    return CLASSES[row % 3]


def by_row(labels: LabelSet) -> np.ndarray:
    """Observed labels by source row, -9 for rows of the test split."""
    found = np.full(SIZE, -9)
    for split in ("train", "validation"):
        found[getattr(DATA, split).index] = labels.observed(split)
    return found


USED = np.sort(np.concatenate([DATA.train.index, DATA.validation.index]))


def test_examples_without_a_label_are_not_trained_on(tmp_path: Path) -> None:
    empty = {int(DATA.train.index[2]), int(DATA.train.index[7]), int(DATA.validation.index[0])}
    lines = ["file,observed", *(f"{row:02}.png,{'' if row in empty else name(row)}" for row in range(SIZE))]
    labels = make(tmp_path, lines)
    assert labels.manifest["unlabeled"] == {"train": 2, "validation": 1}
    assert labels.manifest["actual_noise_rate"] == 0
    assert notes(labels)["unlabeled"] == 3
    applied = labels.apply_to(DATA)
    assert not empty & {*applied.train.index.tolist(), *applied.validation.index.tolist()}
    np.testing.assert_array_equal(applied.train.targets, labels.train)
    np.testing.assert_array_equal(
        applied.train.inputs, DATA.train.inputs[np.isin(DATA.train.index, applied.train.index)]
    )
    stored = label_files.load(label_files.save(labels, DATA, tmp_path / "set"))
    assert stored.hash == labels.hash
    np.testing.assert_array_equal(stored.observed("train"), labels.observed("train"))
    frozen = get_entry("noise_models", "from_file").load_class()(path=str(tmp_path / "set")).apply(DATA)
    assert frozen.hash == labels.hash
    assert frozen.manifest["unlabeled"] == {"train": 2, "validation": 1}


def test_another_set_of_unlabeled_examples_has_another_hash(tmp_path: Path) -> None:
    rows = DATA.train.index[:2].tolist()
    made = [
        make(tmp_path, ["index,observed", *(f"{row},{'' if row == empty else 'cat'}" for row in range(SIZE))])
        for empty in rows
    ]
    assert made[0].hash != made[1].hash


def test_a_run_trains_without_unlabeled_examples(tmp_path: Path) -> None:
    digits = resolve({"dataset": "digits"}).dataset.build().load()
    observed = np.zeros(digits.source_size, dtype=int)
    for split in (digits.train, digits.validation):
        observed[split.index] = split.targets
    observed[digits.train.index[:5]] = -1
    (tmp_path / "labels.csv").write_text("observed\n" + "\n".join(map(str, observed)))
    noise = {"name": "from_file", "path": str(tmp_path / "labels.csv"), "unlabeled": -1}
    prepared = prepare_run(resolve({"dataset": "digits", "noise": noise}), digits)
    assert len(prepared.dataset.train) == len(prepared.labels.train) == len(digits.train) - 5
    np.testing.assert_array_equal(prepared.labels.train, prepared.dataset.train.targets)


def test_a_table_without_any_training_label_is_refused(tmp_path: Path) -> None:
    labeled = set(DATA.train.index.tolist())
    lines = ["index,observed", *(f"{row},{'' if row in labeled else 'cat'}" for row in range(SIZE))]
    assert "no training example has a label" in refusal(tmp_path, lines)


def suspects(rows: list[int], new: dict[int, str], label: dict[int, str] | None = None) -> list[str]:
    lines = [",".join(COLUMNS)]
    for rank, row in enumerate(rows, 1):
        earlier = (label or {}).get(row, name(row))
        lines.append(f"{rank},{row},{DATA.source_names[row]},train,{earlier},owl,,{new.get(row, '')},0.9,0.8")
    return lines


def test_filled_rows_of_an_audit_change_and_all_others_keep_their_label(tmp_path: Path) -> None:
    rows = [int(row) for row in USED[[3, 9, 1]]]
    labels = make(tmp_path, suspects(rows, {rows[0]: "owl", rows[2]: "cat"}))
    expected = np.where(np.isin(np.arange(SIZE), USED), TRUTH, -9)
    expected[rows[0]], expected[rows[2]] = 2, 0
    np.testing.assert_array_equal(by_row(labels), expected)
    assert (
        labels.manifest["verification"]["train"]["incorrect"]
        + labels.manifest["verification"]["validation"]["incorrect"]
        == 2
    )


def test_corrections_of_test_examples_are_kept(tmp_path: Path) -> None:
    row = int(DATA.test.index[0])
    labels = make(tmp_path, suspects([row], {row: "owl"}))
    assert labels.apply_to(DATA).test.targets[0] == 2


def test_corrections_of_other_labels_are_refused(tmp_path: Path) -> None:
    row = int(USED[4])
    other = CLASSES[(row + 1) % 3]
    message = refusal(tmp_path, suspects([row], {row: "owl"}, {row: other}))
    assert f"line 2: decides about the label `{other}`, but the dataset has `{name(row)}`" in message


def test_a_table_of_some_examples_needs_the_word(tmp_path: Path) -> None:
    row = int(USED[5])
    lines = ["file,label", f"{row:02},{CLASSES[(row + 1) % 3]}"]
    assert "noise.partial=true" in refusal(tmp_path, lines)
    labels = make(tmp_path, lines, partial=True)
    assert [int(each) for each in np.flatnonzero(by_row(labels)[USED] != TRUTH[USED])] == [5]
    assert notes(labels) == {"label_column": 1, "kept_labels": len(USED) - 1}


VOTES = {row: [name(row), name(row), CLASSES[(row + 1) % 3]] for row in range(SIZE)}


def long_table() -> list[str]:
    rows = [f"{DATA.source_names[row]},ann{who},{vote}" for row in VOTES for who, vote in enumerate(VOTES[row])]
    return ["image,annotator,label", *rows[::-1]]


def wide_table() -> list[str]:
    return ["index,annotator_0,annotator_1,annotator_2", *(f"{row},{','.join(VOTES[row])}" for row in VOTES)]


def count_table() -> list[str]:
    return [
        f"index,{','.join(CLASSES)}",
        *(f"{row},{','.join(str(VOTES[row].count(each)) for each in CLASSES)}" for row in VOTES),
    ]


@pytest.mark.parametrize("table", [long_table(), wide_table(), count_table()], ids=["long", "wide", "counts"])
def test_votes_give_the_majority_and_are_kept(table: list[str], tmp_path: Path) -> None:
    labels = make(tmp_path, table)
    np.testing.assert_array_equal(by_row(labels)[USED], TRUTH[USED])
    agreement = labels.manifest["noise"]["details"]["agreement"]
    assert agreement["votes"] == 3 * len(USED)
    assert agreement["pairwise_agreement"] == pytest.approx(1 / 3)
    assert notes(labels)["votes"] == 3 * len(USED)
    stored = label_files.load(label_files.save(labels, DATA, tmp_path / "set"))
    assert stored.votes is not None
    assert labels.votes is not None
    assert stored.votes.hash == labels.votes.hash
    frozen = get_entry("noise_models", "from_file").load_class()(path=str(tmp_path / "set")).apply(DATA)
    assert frozen.manifest["votes_sha256"] == labels.manifest["votes_sha256"]


def test_changed_votes_of_a_label_set_are_found(tmp_path: Path) -> None:
    folder = label_files.save(make(tmp_path, wide_table()), DATA, tmp_path / "set")
    other = label_files.save(
        make(tmp_path, [line.replace("owl", "cat") for line in wide_table()]), DATA, tmp_path / "b"
    )
    (folder / "votes.parquet").write_bytes((other / "votes.parquet").read_bytes())
    with pytest.raises(UserError, match="does not match the manifest"):
        label_files.load(folder)


def test_one_annotator_or_a_draw_of_the_votes(tmp_path: Path) -> None:
    labels = make(tmp_path, long_table(), annotators="ann2")
    np.testing.assert_array_equal(by_row(labels)[USED], (TRUTH[USED] + 1) % 3)
    drawn = [make(tmp_path, long_table(), annotators="draw", seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].hash == drawn[1].hash != drawn[2].hash
    assert set((by_row(drawn[0])[USED] - TRUTH[USED]) % 3) == {0, 1}
    assert "no annotator `ann9`; did you mean" in refusal(tmp_path, long_table(), annotators="ann9")
    assert "no labels of several annotators" in refusal(
        tmp_path, ["observed", *map(name, range(SIZE))], annotators="majority"
    )


def test_examples_that_an_annotator_has_not_labeled_have_no_label(tmp_path: Path) -> None:
    missing = int(DATA.train.index[0])
    table = [line for line in long_table() if not line.startswith(f"{DATA.source_names[missing]},ann2")]
    labels = make(tmp_path, table, annotators="ann2")
    assert labels.manifest["unlabeled"] == {"train": 1, "validation": 0}
    assert notes(labels)["unlabeled"] == 1


def test_ties_follow_the_declared_rule(tmp_path: Path) -> None:
    tied = int(DATA.train.index[3])
    table = [line for line in long_table() if not line.startswith(f"{DATA.source_names[tied]},ann1")]
    drawn = make(tmp_path, table)
    assert notes(drawn)["tied_votes"] == 1
    assert by_row(drawn)[tied] in (tied % 3, (tied + 1) % 3)
    assert make(tmp_path, table, ties="unlabeled").manifest["unlabeled"] == {"train": 1, "validation": 0}
    assert f"the first is {DATA.source_names[tied]}" in refusal(tmp_path, table, ties="refuse")


def test_two_labels_of_one_annotator_are_refused(tmp_path: Path) -> None:
    table = long_table()
    assert "labels the same example as in line 2" in refusal(tmp_path, [*table, table[1]])


def test_a_label_beside_columns_of_annotators_needs_a_choice(tmp_path: Path) -> None:
    header, *rows = wide_table()
    table = [f"{header},label", *(f"{line},owl" for line in rows)]
    assert "set noise.column=label or noise.annotators=majority" in refusal(tmp_path, table)
    np.testing.assert_array_equal(by_row(make(tmp_path, table, annotators="majority"))[USED], TRUTH[USED])
    assert set(by_row(make(tmp_path, table, column="label"))[USED]) == {2}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=40, unique=True)
)
def test_agreement_is_that_of_all_pairs_of_votes(rows: list[tuple[int, int, int]]) -> None:
    unique = {(index, who): label for index, who, label in rows}
    index, who, label = (np.array(column) for column in zip(*((i, w, v) for (i, w), v in unique.items()), strict=True))
    found = make_votes(tuple("abcd"), index, who, label).agreement(3)
    shares, coincidences = [], np.zeros((3, 3))
    for example in set(index):
        votes = label[index == example]
        if len(votes) > 1:
            pairs = [(a, b) for i, a in enumerate(votes) for j, b in enumerate(votes) if i != j]
            shares.append(np.mean([a == b for a, b in pairs]))
            for a, b in pairs:
                coincidences[a, b] += 1 / (len(votes) - 1)
    assert found["pairwise_agreement"] == (pytest.approx(np.mean(shares)) if shares else None)
    sizes, total = coincidences.sum(axis=0), coincidences.sum()
    expected = total**2 - (sizes**2).sum()
    if total and expected > 1e-9:
        alpha = 1 - (total - np.trace(coincidences)) * (total - 1) / expected
        assert found["krippendorff_alpha"] == pytest.approx(alpha)
    else:
        assert found["krippendorff_alpha"] is None


PROBABILITIES = [f"{row},{','.join('0.8' if each == row % 3 else '0.1' for each in range(3))}" for row in range(SIZE)]


def test_soft_labels_need_the_word(tmp_path: Path) -> None:
    table = [f"index,{','.join(CLASSES)}", *PROBABILITIES]
    assert "set noise.soft_labels=argmax" in refusal(tmp_path, table)
    labels = make(tmp_path, table, soft_labels="argmax")
    np.testing.assert_array_equal(by_row(labels)[USED], TRUTH[USED])
    assert notes(labels)["soft_labels"] == SIZE


def test_arrays_hold_labels_votes_or_probabilities_in_the_order_of_the_source(tmp_path: Path) -> None:
    build = get_entry("noise_models", "from_file").load_class()
    counts = np.eye(3, dtype=np.int64)[TRUTH] * 4 + 1
    arrays = {"labels": TRUTH, "names": np.array([name(row) for row in range(SIZE)]), "votes": counts}
    for title, array in {**arrays, "soft": counts / counts.sum(axis=1, keepdims=True)}.items():
        np.save(tmp_path / f"{title}.npy", array)
        made = build(path=str(tmp_path / f"{title}.npy"), soft_labels="argmax").apply(DATA)
        np.testing.assert_array_equal(by_row(made)[USED], TRUTH[USED])
    np.save(tmp_path / "narrow.npy", counts[:, :2])
    with pytest.raises(UserError, match="has 2 columns, but there are 3 classes"):
        build(path=str(tmp_path / "narrow.npy")).apply(DATA)


def test_numbers_of_votes_are_whole(tmp_path: Path) -> None:
    table = [f"index,{','.join(CLASSES)}", *(f"{row},2.5,0,1" for row in range(SIZE))]
    assert "numbers of votes are whole" in refusal(tmp_path, table, annotators="majority")
    assert "neither one-hot nor probabilities" in refusal(tmp_path, table)


def test_only_a_draw_of_votes_depends_on_the_seed() -> None:
    settings = [{"noise": {"name": "from_file"}}, {"noise": {"name": "from_file", "annotators": "draw"}}]
    assert len(with_noise_seeds(settings, [0, 1])) == 3


def test_file_names_need_a_dataset_of_files(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("file,label\na.png,cat\n")
    bare = dataclasses.replace(DATA, source_names=())
    with pytest.raises(UserError, match="examples of this dataset are no files; add a column `index`"):
        get_entry("noise_models", "from_file").load_class()(path=str(tmp_path / "x.csv")).apply(bare)


def test_a_label_of_no_class_is_shown_with_its_line(tmp_path: Path) -> None:
    table = wide_table()
    table[4] = table[4].rpartition(",")[0] + ",cats"
    assert "line 5: the label `cats` is none of the 3 classes; did you mean `cat`" in refusal(tmp_path, table)


def test_columns_of_annotators_may_have_any_name(tmp_path: Path) -> None:
    table = ["index,alice,bob,carol", *wide_table()[1:]]
    assert "needs a column `observed`, but has index, alice, bob, carol" in refusal(tmp_path, table)
    made = make(tmp_path, table, column=["alice", "bob", "carol"])
    np.testing.assert_array_equal(by_row(made)[USED], TRUTH[USED])
    assert made.votes is not None
    assert made.votes.annotators == ("alice", "bob", "carol")


def test_uploaded_files_are_found_by_their_names_alone(tmp_path: Path) -> None:
    lines = ["image,choice", *(f"/data/upload/1/0a1b2c3d-{row:02}.png,{name(row)}" for row in range(SIZE))]
    made = make(tmp_path, lines)
    np.testing.assert_array_equal(by_row(made)[USED], TRUTH[USED])
    assert notes(made)["other_folders"] == SIZE
    mixed = [*lines[:-1], f"{DATA.source_names[SIZE - 1]},owl"]
    assert "have no file `/data/upload/1/0a1b2c3d-00.png`" in refusal(tmp_path, mixed)


def test_a_table_without_decisions_is_refused(tmp_path: Path) -> None:
    assert "has no decision; fill in `decision`" in refusal(tmp_path, suspects([int(USED[0])], {}))


def test_images_on_disk_stay_there_without_unlabeled_examples(tmp_path: Path) -> None:
    on_disk = MemmapImages(DATA.train.inputs[:], np.arange(len(DATA.train)))
    data = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, inputs=on_disk))
    empty = int(data.train.index[2])
    labels = make(tmp_path, ["index,observed", *(f"{row},{'' if row == empty else name(row)}" for row in range(SIZE))])
    images = labels.apply_to(data).train.inputs
    assert isinstance(images, MemmapImages)
    np.testing.assert_array_equal(images[:], np.delete(DATA.train.inputs[:], 2, axis=0))


def test_the_files_of_a_table_and_of_a_label_set_are_known(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("observed\n0\n")
    (tmp_path / "manifest.json").write_text("{}")
    cls = get_entry("noise_models", "from_file").load_class()
    assert dict(cls(path=tmp_path / "labels.csv").data_files()) == {"path": tmp_path / "labels.csv"}
    assert dict(cls(path=tmp_path).data_files()) == {
        "manifest.json": tmp_path / "manifest.json", "labels.csv": tmp_path / "labels.csv"
    }  # fmt: skip

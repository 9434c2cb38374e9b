"""Splits: groups and copies never cross them, classes are matched by name, and draws without groups stay as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset, RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.splits.duplicates import conflicting, content_ids
from noisybench.data.splits.splits import stratified_groups
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

IMAGES = (Stream("split tests").uniform(60, 1, 8, 8) * 256).astype(np.uint8)


class Given(DatasetSource):
    """Source of given splits."""

    own_files = True
    splits: tuple[RawSplit, RawSplit | None, tuple[str, ...]]

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Return the splits."""
        return self.splits

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Return nothing; the class is for these tests."""
        return {}


def load(
    train: RawSplit, test: RawSplit | None = None, names: tuple[str, ...] = ("cat", "dog"), **values: Any
) -> Dataset:
    source = Given(**values)
    source.splits = train, test, names
    return source.load()


def groups_of(split: Any, groups: NDArray[np.str_]) -> set[str]:
    return set(groups[split.index].tolist())


def test_drawn_splits_share_no_group_and_keep_the_class_proportions() -> None:
    groups = np.array([f"p{row // 4}" for row in range(60)])
    labels = (np.arange(60) % 2).astype(np.int64)
    found = load(RawSplit(IMAGES, labels, groups=groups), validation_fraction=0.2)
    parts = [groups_of(split, groups) for split in (found.train, found.validation, found.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 15
    assert 12 <= len(found.test) <= 18
    for split in (found.train, found.validation, found.test):
        assert np.ptp(np.bincount(split.targets)) == 0


def test_ranges_of_a_set_with_groups_share_no_group() -> None:
    groups = np.array([f"p{row // 5}" for row in range(60)])
    train = RawSplit(IMAGES, np.arange(60) % 2, groups=groups)
    halves = [load(train, subset_range=span, validation_fraction=0.0) for span in ([0.0, 0.5], [0.5, 1.0])]
    rows = [np.concatenate([half.train.index, half.test.index]) for half in halves]
    assert sorted(np.concatenate(rows).tolist()) == list(range(60))
    assert not set(groups[rows[0]]) & set(groups[rows[1]])


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_mixed_sizes_come_close_to_the_share(seed: int) -> None:
    stream = Stream("group test", seed)
    groups = np.repeat(np.arange(40), (stream.uniform(40) * 12).astype(int) + 1)
    targets = (stream.uniform(len(groups)) * 3).astype(np.int64)
    chosen = stratified_groups(targets, groups, len(groups) // 4, stream)
    assert not set(groups[chosen]) & set(groups[~chosen])
    assert np.abs(np.bincount(targets[chosen]) / np.bincount(targets) - 0.25).max() < 0.06


def test_a_class_of_one_group_stays_in_training() -> None:
    groups, labels = np.repeat(np.arange(6), 10).astype(str), np.repeat([0, 0, 0, 0, 0, 1], 10)
    found = load(RawSplit(IMAGES, labels, groups=groups), validation_fraction=0.0)
    assert set(found.train.targets) == {0, 1}


def test_a_group_in_two_splits_of_the_source_is_refused_by_name() -> None:
    train = RawSplit(IMAGES[:40], np.arange(40) % 2, groups=np.array([f"p{row}" for row in range(40)]))
    test = RawSplit(IMAGES[40:], np.arange(20) % 2, groups=np.array(["p3", "p7", *["q"] * 18]))
    with pytest.raises(UserError, match=r"2 groups occur in the training and in the test split \(`p3`, `p7`\)"):
        load(train, test)
    assert len(load(train, test, allow_shared_groups=True).test) == 20


def test_groups_come_from_file_names(tmp_path: Path) -> None:
    from PIL import Image

    for row in range(60):
        file = tmp_path / ("cat", "dog")[row % 2] / f"patient{row // 10}_{row}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(IMAGES[row, 0]).save(file)
    source = get_entry("datasets", "image_folder").load_class()
    found = source(root=tmp_path, group_pattern="patient[0-9]+", validation_fraction=0.2).load()
    patients = [
        {found.source_names[row].split("/")[1].split("_")[0] for row in split.index}
        for split in (found.train, found.validation, found.test)
    ]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    with pytest.raises(UserError, match=r"finds nothing in 60 names: cat/patient0_0.png"):
        source(root=tmp_path, group_pattern="case[0-9]+").load()


def test_copies_of_training_examples_are_left_out_of_test_and_reported() -> None:
    train = RawSplit(IMAGES[:40], np.arange(40) % 2)
    test = RawSplit(np.concatenate([IMAGES[40:], IMAGES[[3, 5]]]), np.arange(22) % 2, names=tuple(map(str, range(22))))
    found = load(train, test)
    assert found.test.index.tolist() == list(range(20))
    assert [(note.kind, note.count, note.names) for note in found.notes] == [
        ("copies_left_out_of_test", 2, ("20", "21")),
        ("copies_with_other_labels", 1, ("20",)),
    ]
    assert len(load(train, test, duplicates="keep").test) == 22


def test_drawn_splits_do_not_separate_copies() -> None:
    images = np.concatenate([IMAGES[:30], IMAGES[:30]])
    labels = np.concatenate([np.arange(30) % 2, np.arange(30) % 2])
    labels[33] = 0
    found = load(RawSplit(images, labels), validation_fraction=0.2)
    parts = [set((split.index % 30).tolist()) for split in (found.train, found.validation, found.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    kinds = {note.kind: (note.count, note.names) for note in found.notes}
    assert kinds["copies"][0] == 30
    assert kinds["copies_with_other_labels"] == (2, ("row 3", "row 33"))


def test_a_test_split_of_copies_alone_is_refused() -> None:
    split = RawSplit(IMAGES, np.arange(60) % 2)
    with pytest.raises(UserError, match="all 60 test examples are exact copies"):
        load(split, split)


def test_classes_of_copies_of_one_image_are_divided_and_reported() -> None:
    labels = np.arange(20) % 2
    found = load(RawSplit(IMAGES[labels], labels))
    assert len(found.train) + len(found.validation) + len(found.test) == 20
    assert "only_copies" in {note.kind for note in found.notes}
    with pytest.raises(UserError, match="without dividing a group"):
        load(RawSplit(IMAGES[labels], labels), duplicates="drop_from_test")


def test_published_sets_keep_their_test_splits() -> None:
    digits = get_entry("datasets", "digits").load_class()
    assert not digits.own_files
    assert len(digits().load().test) == 449


def test_images_of_one_color_are_no_copies() -> None:
    blank = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    assert content_ids(blank, blank)[1].tolist() == [3, 4, 5]


@pytest.mark.parametrize("shape", [(3, 1, 2), (1, 8, 8), (3, 40, 41)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equal_contents_and_no_others_have_equal_numbers(shape: tuple[int, ...], dtype: Any) -> None:
    first = (Stream("contents", shape).uniform(50, *shape) * 250).astype(dtype)
    second = first[::-1].copy()
    second[0].flat[-1] += 1
    ids = content_ids(first, second)
    assert ids[0].tolist() == list(range(50))
    assert ids[1].tolist() == [50, *range(48, -1, -1)]


def test_masks_of_copies_are_compared_whole() -> None:
    masks = np.zeros((3, 4, 4), dtype=np.uint8)
    masks[1, 3, 3] = 1
    assert conflicting(np.array([0, 0, 2]), masks).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("labels", "test_labels", "message"),
    [
        ([0, 1, 0], [0, 2], r"the test split has the class `horse` \(1 example\), .* its classes are `cat`, `dog`"),
        ([1, 1, 1], [1], "has the one class `dog`: all 3 training examples"),
    ],
)
def test_classes_that_cannot_be_learned_are_named(labels: list[int], test_labels: list[int], message: str) -> None:
    train = RawSplit(IMAGES[: len(labels)], np.array(labels))
    test = RawSplit(IMAGES[10 : 10 + len(test_labels)], np.array(test_labels))
    with pytest.raises(UserError, match=message):
        load(train, test, ("cat", "dog", "horse"))


def test_a_class_without_test_examples_is_a_note() -> None:
    train, test = RawSplit(IMAGES[:30], np.arange(30) % 3), RawSplit(IMAGES[30:40], np.arange(10) % 2)
    notes = load(train, test, ("cat", "dog", "horse")).notes
    assert [(note.kind, note.names) for note in notes] == [("classes_without_test_examples", ("horse",))]


def test_a_single_class_name_is_named() -> None:
    with pytest.raises(UserError, match="has the one class `cat`, but at least two"):
        load(RawSplit(IMAGES, np.zeros(60, dtype=np.int64)), None, ("cat",))


def test_groups_too_large_for_a_validation_split_are_a_note() -> None:
    groups = np.repeat(np.arange(4), 15).astype(str)
    found = load(RawSplit(IMAGES, np.arange(60) % 2, groups=groups))
    assert len(found.validation) == 0
    assert [note.kind for note in found.notes] == ["groups", "no_validation"]


@pytest.mark.parametrize(("num_classes", "size", "count"), [(300, 4, 120), (400, 2, 200), (3, 100, 2)])
def test_one_copy_does_not_shrink_the_splits_of_many_small_classes(num_classes: int, size: int, count: int) -> None:
    targets, groups = np.repeat(np.arange(num_classes), size), np.arange(num_classes * size)
    groups[1] = 0
    chosen = np.bincount(targets[stratified_groups(targets, groups, count, Stream("small"))], minlength=num_classes)
    assert chosen.sum() == count
    assert chosen.max() == 1

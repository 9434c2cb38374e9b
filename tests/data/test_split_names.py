"""Names of splits in the spellings of common exports."""

from __future__ import annotations

import pytest

from noisybench.data.splits.names import find_splits, split_role
from noisybench.errors import UserError


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", "train Train TRAIN training Training_Set train2017 train-00000-of-00002 trn trainval train_0"),
        ("validation", "val valid Valid validation VALIDATION dev val2017 validation-00000-of-00001 valid_set"),
        ("test", "test Test testing TestSet test_data eval evaluation test-0"),
        (None, "trains tested unlabeled extra train_station latest devices value test1234 0 train.tar vale"),
    ],
)
def test_usual_spellings_have_a_role_and_similar_words_have_none(role: str | None, names: str) -> None:
    assert {name: split_role(name) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_words_inside_of_names_count_only_where_names_differ_in_them_alone() -> None:
    found = find_splits(["seg_pred", "seg_test", "seg_train"], "root")
    assert dict(found.names) == {"train": ("seg_train",), "test": ("seg_test",)}
    assert found.others == ("seg_pred",)
    assert not find_splits(["bullet_train", "bus", "crash_test"], "root")


@pytest.mark.parametrize("names", [["val", "valid"], ["Train", "train"], ["test", "eval"], ["val", "dev", "train"]])
def test_two_spellings_of_one_split_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"root: `\w+` and `\w+` both stand for the \w+ split"):
        find_splits(names, "root")


def test_shards_of_one_spelling_belong_together() -> None:
    found = find_splits(["train-00000-of-00002", "train-00001-of-00002", "train_extra"], "root")
    assert dict(found.names) == {"train": ("train-00000-of-00002", "train-00001-of-00002")}
    assert found.others == ("train_extra",)

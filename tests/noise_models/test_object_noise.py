"""Noise of objects on instance masks, and the truth about every object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.masks.objects import MISSING, UNCHANGED, compare_objects
from noisybench.errors import UserError
from noisybench.noise_models._regions import find_objects
from noisybench.noise_models.object_noise import ObjectNoise
from noisybench.noise_models.omission import Omission
from noisybench.tasks.datasets.scenes import Scenes

NOTHING = {"drop": 0.0, "shift": 0.0, "merge": 0.0, "mislabel": 0.0, "add": 0.0}


def crowded(**values: Any) -> Dataset:
    return Scenes(
        **{"size": 64, "train_images": 20, "validation_images": 2, "test_images": 1, "instances": True, **values}
    ).load()


def fates(**rates: float) -> dict[str, int]:
    counts: dict[str, int] = ObjectNoise(**{**NOTHING, **rates}).apply(crowded()).manifest["objects"]
    return counts


def test_the_truth_counts_what_the_noise_did() -> None:
    whole = fates()
    assert whole["unchanged"] == whole["objects"] > 60
    total = whole["objects"]
    assert fates(drop=1.0) == {**whole, "unchanged": 0, "missing": total}
    assert fates(mislabel=1.0)["class"] == total
    shifted = fates(shift=1.0)
    assert shifted["outline"] > 0.8 * total
    assert shifted["outline"] + shifted["missing"] == total, "no shifted object stays in its place"
    assert fates(merge=1.0)["merged"] > 0.3 * total
    added = fates(add=1.0)
    assert added["unchanged"] + added["outline"] == total
    assert 0.8 * total < added["added"] <= total


def test_a_rate_is_the_probability_of_an_object() -> None:
    dataset = crowded(train_images=200)
    counts = ObjectNoise(**{**NOTHING, "drop": 0.3}).apply(dataset).manifest["objects"]
    assert counts["missing"] / counts["objects"] == pytest.approx(0.3, abs=0.04)
    assert counts["missing"] + counts["unchanged"] == counts["objects"]


def test_a_high_severity_keeps_the_proportions_of_the_kinds() -> None:
    counts = fates(drop=0.25, mislabel=0.25, severity=8.0)
    assert counts["missing"] + counts["class"] == counts["objects"]
    assert counts["missing"] / counts["objects"] == pytest.approx(0.5, abs=0.15)
    ObjectNoise(**{**NOTHING, "drop": 0.05, "shift": 0.55, "merge": 0.3, "mislabel": 0.1}).apply(crowded())


def test_instances_that_touch_are_objects_of_their_own() -> None:
    mask = np.array([[1, 1, 1, 1, 0]], dtype=np.uint8)
    numbers = np.array([[2, 2, 1, 1, 0]], dtype=np.uint16)
    assert [item.left for item in find_objects(mask, numbers)] == [0, 2]
    dataset = crowded()
    instances = dataset.train.instances
    assert instances is not None
    changes = compare_objects(instances, dataset.train.targets, Omission(rates=[0.5]).apply(dataset).train)
    assert set(changes.status.tolist()) == {UNCHANGED, MISSING}, "whole instances vanish"
    components = sum(len(list(find_objects(mask))) for mask in dataset.train.targets)
    assert components < len(changes.status)


def test_a_merged_pair_and_a_false_object_by_hand() -> None:
    clean = np.array([[[1, 0, 1, 0, 0, 2, 0, 0]]], dtype=np.uint8)
    numbers = np.array([[[1, 0, 2, 0, 0, 3, 0, 0]]], dtype=np.uint16)
    observed = np.array([[[1, 1, 1, 0, 0, 1, 0, 2]]], dtype=np.uint8)
    changes = compare_objects(numbers, clean, observed)
    assert changes.statistics() == {
        "objects": 3, "unchanged": 0, "outline": 2, "class": 1, "missing": 0, "merged": 2, "added": 1,
    }  # fmt: skip
    assert changes.observed.tolist() == [1, 1, 1]
    assert changes.kept.tolist() == [1.0, 1.0, 0.0]


def test_a_numbered_background_is_no_object() -> None:
    clean, numbers = np.array([[[0, 0, 1]]], dtype=np.uint8), np.array([[[1, 1, 2]]], dtype=np.uint16)
    assert [item.label for item in find_objects(clean[0], numbers[0])] == [1]
    assert compare_objects(numbers, clean, clean).statistics()["objects"] == 1
    assert compare_objects(numbers, clean, clean, has_background=False).statistics()["objects"] == 2


def test_stored_labels_keep_the_truth(tmp_path: Path) -> None:
    labels = ObjectNoise().apply(crowded())
    label_files.save(labels, crowded(), tmp_path)
    assert label_files.load(tmp_path).manifest["objects"] == labels.manifest["objects"]
    assert "objects" not in ObjectNoise().apply(crowded(instances=False)).manifest


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(UserError, match=r"their sum must be at most 1, but is 1\.2"):
        ObjectNoise(**{**NOTHING, "drop": 0.6, "shift": 0.6}).apply(crowded())
    dataset = crowded()
    one = Dataset("one", dataset.train, dataset.validation, dataset.test, ("background", "disc"), dataset.source_size)
    with pytest.raises(UserError, match=r"noise\.mislabel: there is one class of objects"):
        ObjectNoise().apply(one)

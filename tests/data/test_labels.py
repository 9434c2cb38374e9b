"""Label sets on disk: files that match their manifest are read, all others are rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.label_sets import label_files as labels
from noisybench.data.targets import ClassTargets
from noisybench.errors import UserError
from tests.data.manifests import sign_manifest
from tests.helpers import toy_dataset, toy_labels


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_label_set_survives_the_disk(format: Literal["parquet", "csv"], tmp_path: Path) -> None:
    dataset = toy_dataset()
    made = toy_labels(dataset)
    found = labels.load(labels.save(made, dataset, tmp_path / "set", format))
    assert found.manifest == json.loads(json.dumps(made.manifest))
    np.testing.assert_array_equal(found.train, made.train)
    np.testing.assert_array_equal(found.validation, made.validation)
    used = get_entry("noise_models", "from_file").load_class()(path=str(tmp_path / "set")).apply(dataset)
    assert used.hash == made.hash, "a frozen label set used in a run keeps its hash, so its cells stay the same"


def test_one_changed_label_is_refused(tmp_path: Path) -> None:
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set", "csv")
    lines = (folder / "labels.csv").read_text().splitlines()
    split, index, clean, observed = lines[5].split(",")
    lines[5] = ",".join([split, index, clean, str((int(observed) + 1) % 10)])
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError, match="the labels do not match their manifest"):
        labels.load(folder)


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set", "parquet")
    data = (folder / "labels.parquet").read_bytes()
    refused = 0
    for place in range(4, len(data) - 8, 97):
        changed = bytearray(data)
        changed[place] ^= 0x10
        (folder / "labels.parquet").write_bytes(bytes(changed))
        try:
            found = labels.load(folder)
        except UserError:
            refused += 1
        else:  # a byte that carries no label, such as a statistic or padding
            np.testing.assert_array_equal(found.train, toy_labels(toy_dataset()).train)
    assert refused > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest.update(actual_noise_rate=0.1),
            "actual_noise_rate does not follow from the labels",
        ),
        (
            lambda manifest: manifest["transition_counts"][0].__setitem__(0, 1),
            "transition_counts does not follow",
        ),
        (lambda manifest: manifest.update(masks={"miou": 1.0, "iou": [1.0] * 10, "area_bias": 0.0}), "masks does not"),
        (lambda manifest: manifest.update(label_status={"clean": 120}), "label_status does not follow"),
        (lambda manifest: manifest["dataset"]["sizes"].update(train=121), "has 120 labels, but the manifest has 121"),
        (lambda manifest: manifest.pop("sha256"), "not a manifest of a label set"),
        (lambda manifest: manifest["dataset"].update(sha256="0" * 64), "do not match their manifest"),
        (lambda manifest: manifest.update(error_spans_sha256="0" * 64), "error spans do not match"),
        (lambda manifest: manifest.update(traces_sha256="0" * 64), "does not match the manifest"),
    ],
)
def test_a_changed_manifest_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set")
    sign_manifest(folder, change)
    with pytest.raises(UserError, match=message):
        labels.load(folder)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a label set \(manifest\.json is missing\)"):
        labels.load(tmp_path)
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set")
    (folder / "labels.parquet").unlink()
    with pytest.raises(UserError, match=r"labels\.parquet or labels\.csv is missing"):
        labels.load(folder)


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set")
    with pytest.raises(UserError, match="belongs to the dataset"):
        get_entry("noise_models", "from_file").load_class()(path=str(folder)).apply(toy_dataset(size=110))


def test_a_label_set_is_not_overwritten_by_another(tmp_path: Path) -> None:
    dataset = toy_dataset()
    labels.save(toy_labels(dataset), dataset, tmp_path / "set")
    labels.save(toy_labels(dataset), dataset, tmp_path / "set")
    with pytest.raises(UserError, match="already contains a different label set"):
        labels.save(toy_labels(dataset, wrong_every=3), dataset, tmp_path / "set")


def test_transition_counts_against_sklearn() -> None:
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    clean, observed = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    np.testing.assert_array_equal(
        ClassTargets().transition_counts(clean, observed, 5), confusion_matrix(clean, observed)
    )

"""Tests on CIFAR-10 and CIFAR-10N, if present: `NOISYBENCH_DATA=folder` with cifar10/train.parquet,
cifar10/test.parquet and cifar10/CIFAR-10_human.pt below it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError

FOLDER = Path(os.environ.get("NOISYBENCH_DATA", "nowhere")).absolute() / "cifar10"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

pytestmark = pytest.mark.skipif(
    not (FOLDER / "train.parquet").is_file(), reason="CIFAR-10 is not here; set NOISYBENCH_DATA to its folder"
)


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    source = get_entry("datasets", "parquet").load_class()(
        train=str(FOLDER / "train.parquet"),
        test=str(FOLDER / "test.parquet"),
        class_names=CLASSES,
        validation_fraction=0,
    )
    loaded: Dataset = source.load()
    return loaded


def test_the_whole_set_is_read(cifar10: Dataset) -> None:
    assert cifar10.train.inputs.shape == (50_000, 3, 32, 32)
    assert cifar10.test.inputs.shape == (10_000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(cifar10.train.targets), [5000] * 10)
    # Means of the training images per channel, as commonly used: 0.4914, 0.4822, 0.4465.
    means = cifar10.train.inputs[:].mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.003)


@pytest.mark.parametrize(
    ("labels", "rate"),
    [
        ("aggre_label", 0.0901),
        ("random_label1", 0.1723),
        ("random_label2", 0.1812),
        ("random_label3", 0.1764),
        ("worse_label", 0.4021),
    ],
)
def test_human_labels_have_their_published_rates(cifar10: Dataset, labels: str, rate: float) -> None:
    made = (
        get_entry("noise_models", "human")
        .load_class()(labels=labels, path=str(FOLDER / "CIFAR-10_human.pt"))
        .apply(cifar10)
    )
    assert made.manifest["actual_noise_rate"] == pytest.approx(rate, abs=6e-5)


def test_the_five_class_map_corrupts_a_fifth(cifar10: Dataset) -> None:
    made = get_entry("noise_models", "asymmetric").load_class()(rate=0.4).apply(cifar10)
    assert made.manifest["actual_noise_rate"] == pytest.approx(0.2, abs=0.005)


@pytest.mark.skipif(not (FOLDER.parent / "ood32" / "train.parquet").is_file(), reason="ood32/train.parquet is not here")
def test_photographs_of_other_things_under_cifar10s_labels(cifar10: Dataset) -> None:
    source = {"source": "parquet", "path": str(FOLDER.parent / "ood32" / "train.parquet")}
    made = (
        get_entry("noise_models", "web")
        .load_class()(**source, out_of_distribution=0.3, in_distribution=0.2)
        .apply(cifar10)
    )
    states = made.manifest["label_status"]
    assert states["out_of_distribution"] / 50_000 == pytest.approx(0.3, abs=0.01)
    assert states["in_distribution"] / 50_000 == pytest.approx(0.18, abs=0.01)
    assert made.manifest["noise"]["details"]["source"]["size"] == 17_028
    drawn = made.replaced["train"].images
    assert len({each.tobytes() for each in drawn}) > 0.99 * len(drawn), "no crop is drawn twice; few look alike"
    with pytest.raises(UserError, match="but the source `parquet` has 17028"):
        get_entry("noise_models", "web").load_class()(**source, out_of_distribution=0.5).apply(cifar10)

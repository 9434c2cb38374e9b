"""Noise models for classes against the codes that published them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset, Split
from noisybench.noise_models.asymmetric_superclass_uniform import SUPERCLASSES
from noisybench.noise_models.instance_dependent import WEIGHT_GRID, InstanceDependent, wrong_class_probabilities
from noisybench.noise_models.web import Web
from tests.golden.vectors import load_golden

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def matrix(name: str, rate: float, class_names: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the transition matrix of a noise model."""
    dataset: Any = SimpleNamespace(class_names=class_names, num_classes=len(class_names))
    made: NDArray[np.float64] = get_entry("noise_models", name).load_class()(rate=rate).matrix(dataset)
    return made


@pytest.mark.parametrize(("name", "function"), [("symmetric_exclusive", "symmetric"), ("pair_flip", "pairflip")])
@pytest.mark.parametrize("case", range(4))
def test_matrices_of_co_teaching(name: str, function: str, case: int) -> None:
    golden = load_golden("co_teaching_noise")
    classes, rate = golden["cases"][case]
    names = tuple(map(str, range(int(classes))))
    np.testing.assert_allclose(matrix(name, float(rate), names), golden[f"{function}_{case}"], rtol=0, atol=1e-15)


@pytest.mark.parametrize("position", range(2))
def test_matrices_of_loss_correction(position: int) -> None:
    golden = load_golden("loss_correction_noise")
    rate = float(golden["rates"][position])
    for name, classes, key in (
        ("asymmetric", tuple("0123456789"), "mnist"),
        ("asymmetric", CIFAR10, "cifar10"),
        ("asymmetric_index_block5", tuple(map(str, range(100))), "cifar100"),
    ):
        np.testing.assert_allclose(matrix(name, rate, classes), golden[f"{key}_{position}"], rtol=0, atol=1e-15)


@pytest.mark.parametrize("position", range(3))
def test_counts_of_elr_fit_the_matrix_of_symmetric_inclusive_noise(position: int) -> None:
    golden = load_golden("elr_noise")
    rate, counts = float(golden["rates"][position]), golden[f"symmetric_{position}"]
    expected = matrix("symmetric_inclusive", rate, CIFAR10) * counts.sum(1, keepdims=True)
    assert stats.chisquare(counts.ravel(), expected.ravel(), ddof=9).pvalue > 0.01
    exclusive = matrix("symmetric_exclusive", rate, CIFAR10) * counts.sum(1, keepdims=True)
    assert stats.chisquare(counts.ravel(), exclusive.ravel(), ddof=9).pvalue < 1e-10, (
        "the other convention does not fit"
    )


@pytest.mark.parametrize("position", [0, 1])
def test_counts_of_elr_are_the_matrix_of_asymmetric_noise(position: int) -> None:
    golden = load_golden("elr_noise")
    rate, counts = float(golden["rates"][position]), golden[f"asymmetric_{position}"]
    # Its code corrupts exactly this share of a class; dogs that were cats a moment ago are corrupted again.
    rows = [row for row in range(10) if row not in (3, 5)]
    np.testing.assert_allclose(matrix("asymmetric", rate, CIFAR10)[rows], (counts / 6000)[rows], rtol=0, atol=1e-3)


def test_superclasses_are_those_of_c2d() -> None:
    superclass = load_golden("c2d_noise")["superclass"]
    names = tuple(sorted(SUPERCLASSES.replace("|", " ").split()))
    siblings = matrix("asymmetric_superclass_uniform", 0.4, names) > 0
    np.testing.assert_array_equal(siblings, superclass[:, None] == superclass[None, :])


def test_probabilities_of_part_dependent_noise() -> None:
    golden = load_golden("part_dependent_noise")
    images, labels, flip_rates = golden["images"], golden["labels"], golden["flip_rates"]
    made = np.empty_like(golden["probabilities"])
    for row, (image, label, flip) in enumerate(zip(images, labels, flip_rates, strict=True)):
        projection = np.rint(golden["projections"][label] * WEIGHT_GRID)
        made[row] = flip * wrong_class_probabilities(image[None], projection, int(label))[0]
        made[row, label] = 1 - flip
    np.testing.assert_allclose(made, golden["probabilities"], rtol=0, atol=1e-5)


def test_flip_rates_of_part_dependent_noise_have_the_published_distribution() -> None:
    found = InstanceDependent(rate=0.3, rate_meaning="location")._flip_probability((np.arange(1000) + 0.5) / 1000)
    assert stats.ks_2samp(load_golden("part_dependent_noise")["flip_rates"], found).pvalue > 0.05


@pytest.mark.parametrize("position", range(4))
def test_published_label_sets_of_sncf(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_golden("sncf_noise")
    out_of_distribution, in_distribution = map(float, golden["settings"][position])
    targets = golden["targets"].astype(np.int64)
    train = Split(np.zeros((300, 2, 1, 1), np.uint8), targets, np.arange(300))
    empty = Split(train.inputs[:0], targets[:0], train.index[:0])
    dataset = Dataset("cifar", train, empty, train, tuple(map(str, range(100))), 300)
    noise = Web(out_of_distribution=out_of_distribution, in_distribution=in_distribution, sampling="published")
    # Source image n has the color n, in two channels.
    sources = np.stack([np.arange(400) // 256, np.arange(400) % 256], 1).astype(np.uint8)[:, :, None, None]
    monkeypatch.setattr(noise, "_images", lambda dataset, needed: sources)
    labels = noise.apply(dataset)
    np.testing.assert_array_equal(labels.train, golden[f"labels_{position}"])
    source = np.full(300, -1)
    if out_of_distribution:
        replaced = labels.replaced["train"]
        source[replaced.rows] = replaced.images[:, 0, 0, 0].astype(np.int64) * 256 + replaced.images[:, 1, 0, 0]
    np.testing.assert_array_equal(source, golden[f"source_{position}"])

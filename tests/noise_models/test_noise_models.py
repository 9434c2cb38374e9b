"""Special properties of each noise model, and statistical properties beyond single examples."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.lazy import MemmapImages
from noisybench.data.noise_model import sample_transitions
from noisybench.errors import UserError
from noisybench.noise_models.asymmetric_superclass_uniform import SUPERCLASSES
from noisybench.noise_models.instance_dependent import solve_location
from noisybench.utils.seeds import Stream
from tests.helpers import toy_dataset

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def model(name: str, **parameters: Any) -> Any:
    return get_entry("noise_models", name).load_class()(**parameters)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(count))


@given(
    classes=st.integers(2, 30),
    rate=st.integers(0, 1000).map(lambda each: each / 1000),
    count=st.integers(0, 400),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_symmetric_noise_of_any_shape_and_rate(classes: int, rate: float, count: int, seed: int) -> None:
    dataset = toy_dataset(names(classes), size=count + 1, held_out=count // 3 + 1)
    inclusive = model("symmetric_inclusive", rate=rate, seed=seed).apply(dataset)
    assert inclusive.train.shape == dataset.train.targets.shape
    assert set(inclusive.train) <= set(range(classes))
    if rate <= 1 - 1 / classes and rate < 1:
        exclusive = model("symmetric_exclusive", rate=rate, seed=seed).apply(dataset)
        wrong = int((exclusive.train != dataset.train.targets).sum())
        assert stats.binomtest(wrong, count + 1, rate).pvalue > 1e-8


@given(rows=st.integers(2, 8), seed=st.integers(0, 10**6))
@example(rows=6, seed=1662)
@settings(deadline=None, max_examples=40)
def test_sampling_follows_any_matrix(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.dirichlet(np.full(rows, 0.7), size=rows)
    matrix[rng.random((rows, rows)) < 0.2] = 0
    matrix += np.eye(rows) * 1e-3
    matrix /= matrix.sum(axis=1, keepdims=True)
    targets = np.arange(3000 * rows) % rows
    observed = sample_transitions(matrix, targets, Stream("test", seed).uniform(len(targets)))
    for row in range(rows):
        counts = np.bincount(observed[targets == row], minlength=rows)
        assert not counts[matrix[row] == 0].any()
        # Exact, cell by cell: of cells in which next to nothing is expected a chi-square test is none.
        for count, probability in zip(counts, matrix[row], strict=True):
            assert stats.binomtest(int(count), int(counts.sum()), min(float(probability), 1.0)).pvalue > 1e-9


def test_sampling_at_the_ends_of_the_interval() -> None:
    matrix = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    ends = np.array([0.0, 1 - 2.0**-32])
    for row in range(3):
        observed = sample_transitions(matrix, np.full(2, row), ends)
        assert (matrix[row][observed] > 0).all()


@pytest.mark.parametrize("name", ["symmetric_exclusive", "symmetric_inclusive", "pair_flip", "asymmetric"])
def test_a_higher_rate_corrupts_a_superset(name: str) -> None:
    dataset = toy_dataset(size=3000)
    low, high = (model(name, rate=rate).apply(dataset).train for rate in (0.2, 0.45))
    clean = dataset.train.targets
    assert ((low != clean) <= (high != clean)).all()


def test_labels_are_pinned_forever() -> None:
    """These hashes hold on every machine; a change of them makes all recorded label sets incomparable."""
    dataset = toy_dataset(size=500)
    found = {
        name: model(name, rate=0.4, seed=3).apply(dataset).hash[:16]
        for name in (
            "symmetric_exclusive",
            "symmetric_inclusive",
            "pair_flip",
            "asymmetric",
            "transition_matrix",
            "instance_dependent",
        )
    }
    assert found == PINNED


PINNED = {
    "symmetric_exclusive": "3680c8ccc5fa0957",
    "symmetric_inclusive": "ef0a1d204ff6680a",
    "pair_flip": "37ae7cae84bea94e",
    "asymmetric": "132f918d2ffb2f39",
    "transition_matrix": "e3ee53bc30e542c0",
    "instance_dependent": "fea1625051fa49e8",
}


def test_stream_values_are_pinned_forever() -> None:
    stream = Stream("noise", "x", 7)
    np.testing.assert_array_equal((stream.uniform(4) * 2**32).astype(np.int64), PINNED_UNIFORM)
    np.testing.assert_array_equal(Stream("order", 0).permutation(8), PINNED_PERMUTATION)


PINNED_UNIFORM = [4136488999, 3100920828, 156893270, 2793072209]
PINNED_PERMUTATION = [4, 2, 3, 0, 1, 7, 5, 6]


def test_cifar10_map_is_the_fields() -> None:
    matrix = model("asymmetric", rate=0.4).matrix(toy_dataset(CIFAR10))
    flips = {(CIFAR10[row], CIFAR10[column]) for row, column in np.argwhere(matrix == 0.4)}
    assert flips == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("cat", "dog"),
        ("dog", "cat"),
        ("deer", "horse"),
    }


def test_own_map_takes_names_and_refuses_unknown_ones() -> None:
    dataset = toy_dataset(("cat", "dog", "cow"))
    assert model("asymmetric", rate=0.3, map={"cat": "dog"}).matrix(dataset)[0].tolist() == [0.7, 0.3, 0.0]
    with pytest.raises(UserError, match=r"unknown class `dgo`; did you mean `dog`"):
        model("asymmetric", map={"cat": "dgo"}).matrix(dataset)
    with pytest.raises(UserError, match=r"noise\.map: maps are built in for"):
        model("asymmetric").matrix(dataset)


def test_blocks_of_five_wrap_around() -> None:
    matrix = model("asymmetric_index_block5", rate=0.4).matrix(toy_dataset(names(10)))
    assert [int(row.argmax()) for row in matrix - np.eye(10)] == [1, 2, 3, 4, 0, 6, 7, 8, 9, 5]


def test_superclasses_are_twenty_of_five() -> None:
    groups = [group.split() for group in SUPERCLASSES.split("|")]
    assert [len(group) for group in groups] == [5] * 20
    assert len({name for group in groups for name in group}) == 100


def test_instance_dependent_depends_on_the_instance() -> None:
    dataset = toy_dataset(names(4), size=4000)
    made = model("instance_dependent", rate=0.3, spread=0.1).apply(dataset)
    assert abs(made.manifest["actual_noise_rate"] - 0.3) < 0.03
    # Identical images have identical wrong-class distributions; here pixels are [0, 1] times a standard normal, so
    # nearly one-hot: images with the same bright row mostly share one wrong class.
    clean, observed = dataset.train.targets, made.train
    for label in range(4):
        wrong = observed[(clean == label) & (observed != label)]
        assert np.bincount(wrong, minlength=4).max() / len(wrong) > 0.5


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.2, 0.5, 0.85])
def test_the_rate_of_instance_dependent_noise_is_the_mean_probability(rate: float, spread: float) -> None:
    location = solve_location(rate, spread)
    ends = (-location / spread, (1 - location) / spread)
    wanted = stats.truncnorm(*ends, loc=location, scale=spread)
    assert wanted.mean() == pytest.approx(rate, abs=1e-7)
    uniform = (np.arange(10_000) + 0.5) / 10_000
    found = model("instance_dependent", rate=rate, spread=spread)._flip_probability(uniform)
    np.testing.assert_allclose(found, wanted.ppf(uniform + 2.0**-33), rtol=0, atol=1e-9)
    assert found.mean() == pytest.approx(rate, abs=1e-5)


@pytest.mark.parametrize("rate", [1.01e-3, 9.9e-4, 1e-5, 1e-12, 3.5e-28, 1e-300])
def test_tiny_rates_of_instance_dependent_noise_are_means_too(rate: float) -> None:
    found = model("instance_dependent", rate=rate, spread=0.1)._flip_probability((np.arange(100_000) + 0.5) / 100_000)
    assert found.mean() == pytest.approx(rate, rel=1e-4)
    assert np.all(np.diff(found) >= 0)


def test_one_in_ten_instance_dependent_labels_is_incorrect_at_the_rate_one_in_ten() -> None:
    dataset = toy_dataset(names(4), size=20_000)
    assert model("instance_dependent", rate=0.1).apply(dataset).manifest["actual_noise_rate"] == pytest.approx(
        0.1, abs=0.006
    )
    published = model("instance_dependent", rate=0.1, rate_meaning="location").apply(dataset).manifest
    assert published["noise"]["nominal_rate"] == pytest.approx(0.12876, abs=1e-5), "the authors' truncated normal"
    assert published["actual_noise_rate"] == pytest.approx(0.12876, abs=0.007)


@pytest.mark.parametrize("name", ["symmetric_exclusive", "pair_flip", "instance_dependent", "transition_matrix"])
def test_one_class_has_no_other_class_to_confuse_it_with(name: str) -> None:
    with pytest.raises(UserError, match="incorrect labels need another class, but the dataset has one class"):
        model(name, rate=0.3).apply(toy_dataset(names(1)))


def test_images_on_disk_get_the_same_instance_dependent_labels() -> None:
    dataset = toy_dataset(size=200)
    on_disk = MemmapImages(dataset.train.inputs[:], np.arange(200))
    lazy = replace(dataset, train=replace(dataset.train, inputs=on_disk))
    noise = model("instance_dependent", rate=0.3)
    assert np.array_equal(noise.apply(lazy).train, noise.apply(dataset).train)


def test_instance_dependent_against_a_slow_reference() -> None:
    """The wrong classes follow softmax(x W_y): compared with a loop in plain Python over a few examples."""
    dataset = toy_dataset(names(3), size=60)
    noise = model("instance_dependent", rate=0.5, spread=0.05, seed=2)
    made = noise.apply(dataset)
    stream = Stream("noise", dataset.hash, "InstanceDependent", 2, "train")
    flip, spread, choice = (stream.uniform(60) for _ in range(3))
    for row in range(60):
        label = int(dataset.train.targets[row])
        rate = stats.truncnorm.ppf(spread[row] + 2**-33, -0.5 / 0.05, 0.5 / 0.05, loc=0.5, scale=0.05)
        if flip[row] >= rate:
            assert made.train[row] == label
            continue
        weights = Stream("instance_dependent", 2, dataset.hash, label).normal(64, 3)
        scores = [
            sum(
                float(x) / 255 * round(w * 2**16) / 2**16
                for x, w in zip(dataset.train.inputs[row].ravel(), weights[:, c], strict=True)
            )
            for c in range(3)
        ]
        powers = [0.0 if c == label else np.exp(score - max(scores)) for c, score in enumerate(scores)]
        below = np.cumsum(powers) / sum(powers)
        assert made.train[row] == int((choice[row] >= below).sum())


def test_instance_dependent_scores_are_exact_integers() -> None:
    """Their sums are bit-identical in any order, which makes the labels portable."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 3072)).astype(np.float64)
    weights = np.rint(Stream("x").normal(3072, 10) * 2**16)
    order = np.random.default_rng(1).permutation(3072)
    np.testing.assert_array_equal(pixels @ weights, pixels[:, order] @ weights[order])


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".json"])
def test_a_given_matrix_is_used(suffix: str, tmp_path: Path) -> None:
    matrix = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.0, 0.0, 1.0]])
    path = tmp_path / f"matrix{suffix}"
    {
        ".csv": lambda: np.savetxt(path, matrix, delimiter=","),
        ".npy": lambda: np.save(path, matrix),
        ".json": lambda: path.write_text(json.dumps(matrix.tolist())),
    }[suffix]()
    np.testing.assert_allclose(model("transition_matrix", path=str(path)).matrix(toy_dataset(names(3))), matrix)


@given(rate=st.floats(0, 0.75), concentration=st.floats(1e-3, 100), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_generated_matrices_have_the_rate(rate: float, concentration: float, seed: int) -> None:
    matrix = model("transition_matrix", rate=rate, concentration=concentration, seed=seed).matrix(toy_dataset(names(4)))
    np.testing.assert_allclose(np.diag(matrix), 1 - rate)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix >= 0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5,0.5\n0.5,0.5\n", r"has shape \(2, 2\), but 3 classes need \(3, 3\)"),
        ("1,0,0\n0,0.5,0.4\n0,0,1\n", r"row 1 of .* must contain probabilities that sum to 1, but sums to 0\.9"),
        ("1,0,0\n0,-1,2\n0,0,1\n", "row 1"),
        ("a,b\n", "cannot be read as a matrix"),
    ],
)
def test_bad_matrices_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        model("transition_matrix", path=str(tmp_path / "m.csv")).matrix(toy_dataset(names(3)))


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("symmetric_exclusive", 0.95, r"must be in \[0, 0\.9\] for 10 classes"),
        ("instance_dependent", 0.95, r"must be in \[0, 0\.9\] for 10 classes"),
        ("pair_flip", 0.6, r"must be in \[0, 0\.5\]"),
        ("asymmetric", 0.6, r"must be in \[0, 0\.5\]"),
        ("symmetric_inclusive", 1.2, "less than or equal to 1"),
    ],
)
def test_rates_beyond_the_convention_are_refused(name: str, rate: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(name, rate=rate).apply(toy_dataset())


class Arms:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("fired"),))


def test_human_files_run_no_code(tmp_path: Path) -> None:
    import torch

    torch.save({"clean_label": Arms()}, tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(UserError, match="not a readable file of CIFAR-N labels"):
        model("human", path=str(tmp_path / "evil.pt")).apply(toy_dataset())
    assert not Path("fired").exists()


def test_human_labels_must_belong_to_the_dataset(tmp_path: Path) -> None:
    import torch

    dataset = toy_dataset()
    clean = np.concatenate([dataset.train.targets, dataset.validation.targets])
    for content, message in (
        (
            {"clean_label": np.roll(clean, 1), "worse_label": clean},
            "the clean labels in .* differ from the dataset's",
        ),
        (
            {"clean_label": clean[:-1], "worse_label": clean[:-1]},
            "has 159 labels, but the dataset's source has 160",
        ),
        ({"clean_label": clean}, r"noise\.labels: .* has no `worse_label`"),
        ({"worse_label": clean}, "has no `clean_label`"),
    ):
        torch.save(content, tmp_path / "human.pt")
        with pytest.raises(UserError, match=message):
            model("human", path=str(tmp_path / "human.pt")).apply(dataset)


def test_human_labels_are_fetched_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from noisybench.noise_models import human

    dataset = toy_dataset()
    get_entry("noise_models", "human").load_class().example(dataset, tmp_path)
    checksum = hashlib.sha256((tmp_path / "human.pt").read_bytes()).hexdigest()
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(human, "SOURCE", tmp_path.as_uri() + "/")
    monkeypatch.setattr(human, "PUBLISHED", {10: ("human.pt", "0" * 64)})
    with pytest.raises(UserError, match="not the published file"):
        model("human").apply(dataset)
    monkeypatch.setattr(human, "PUBLISHED", {10: ("human.pt", checksum)})
    first = model("human").apply(dataset)
    monkeypatch.setattr(human, "SOURCE", "file:///nowhere/")
    assert model("human").apply(dataset).hash == first.hash
    monkeypatch.setattr(human, "PUBLISHED", {10: ("other.pt", checksum)})
    with pytest.raises(UserError, match=r"cannot be downloaded .* put it at .*other\.pt"):
        model("human").apply(dataset)


def write_table(path: Path, observed: list[Any], index: list[int] | None = None) -> str:
    rows = [f"{value}" if index is None else f"{place},{value}" for place, value in enumerate(observed)]
    if index is not None:
        rows = [f"{i},{value}" for i, value in zip(index, observed, strict=True)]
    path.write_text("\n".join([("index," if index is not None else "") + "observed", *rows, ""]))
    return str(path)


def test_own_labels_by_index_or_by_name(tmp_path: Path) -> None:
    dataset = toy_dataset(("cat", "dog"))
    everything = list(range(dataset.source_size))
    by_name = ["dog" if i % 3 else "cat" for i in everything]
    made = model("from_file", path=write_table(tmp_path / "a.csv", by_name[::-1], everything[::-1])).apply(dataset)
    np.testing.assert_array_equal(made.train, [int(i % 3 > 0) for i in range(120)])


@pytest.mark.parametrize(
    ("observed", "index", "message"),
    [
        ([0] * 159, None, "has 159 labels, but the dataset's source has 160 training examples"),
        ([0] * 161, None, "has 161 labels"),
        ([0] * 100, list(range(100)), "has labels of 100 examples, but none for 100 .* noise.partial=true"),
        ([0] * 160, [0] * 160, "line 3: labels the same example as line 2"),
        ([7] * 160, None, "line 2: the label 7 is none of the 2 classes .cat, dog. nor of their indices, 0 to 1"),
        (["cow"] * 160, None, "line 2: the label `cow` is none of the 2 classes; known: cat, dog"),
    ],
)
def test_bad_label_files_are_refused(
    observed: list[Any], index: list[int] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        model("from_file", path=write_table(tmp_path / "bad.csv", observed, index)).apply(toy_dataset(("cat", "dog")))


def test_an_empty_dataset_class_is_no_obstacle() -> None:
    dataset = toy_dataset(size=200)
    keep = dataset.train.targets != 4
    part = type(dataset.train)(dataset.train.inputs[keep], dataset.train.targets[keep], dataset.train.index[keep])
    gap = Dataset("gap", part, dataset.validation, dataset.test, dataset.class_names, dataset.source_size)
    for name in ("instance_dependent", "pair_flip", "symmetric_exclusive"):
        assert len(model(name, rate=0.2).apply(gap).train) == keep.sum()

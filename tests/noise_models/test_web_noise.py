"""Out-of-distribution images: the noise model, its sources, and metrics."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files as labels
from noisybench.data.targets import (
    CLEAN,
    IN_DISTRIBUTION,
    OOD_TARGET,
    OUT_OF_DISTRIBUTION,
    UNKNOWN_STATUS,
    UNKNOWN_TARGET,
    ClassTargets,
)
from noisybench.errors import UserError
from noisybench.evaluation import metrics
from noisybench.evaluation.detectors import correlation, score_detector
from noisybench.noise_models._ood_sources import pixel_permuted, read_imagenet32, synthetic_patterns
from noisybench.utils.seeds import Stream
from tests.helpers import prepared_toy, toy_dataset, train_toy


def web(**parameters: Any) -> Any:
    return get_entry("noise_models", "web").load_class()(**parameters)


def test_patterns_take_little_more_memory_than_their_images() -> None:
    tracemalloc.start()
    images = synthetic_patterns(8000, (1, 16, 16), Stream("test"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * images.nbytes
    # Images do not depend on how many are drawn, nor on how many are drawn at a time.
    assert (synthetic_patterns(600, (1, 16, 16), Stream("test")) == images[:600]).all()


def states_of(dataset: Dataset, **parameters: Any) -> np.ndarray[Any, Any]:
    made = web(**parameters).apply(dataset)
    return ClassTargets().label_status(made.apply_to(dataset).train.targets, made.train)


@given(out=st.integers(0, 100), inside=st.integers(0, 100), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_shares_are_hit_and_states_partition_the_set(out: int, inside: int, seed: int) -> None:
    dataset, (r_out, r_in) = toy_dataset(size=600, held_out=60), (out / 100, inside / 100)
    if r_out + r_in > 1:
        with pytest.raises(UserError, match="must be at most 1"):
            web(out_of_distribution=r_out, in_distribution=r_in).apply(dataset)
        return
    made = web(out_of_distribution=r_out, in_distribution=r_in, seed=seed).apply(dataset)
    applied = made.apply_to(dataset)
    states = ClassTargets().label_status(applied.train.targets, made.train)
    counts = np.bincount(states, minlength=4)
    assert counts.sum() == 600
    assert counts[UNKNOWN_STATUS] == 0
    # Redrawn labels come from all ten classes, so a tenth of them is right again.
    for found, rate in ((counts[OUT_OF_DISTRIBUTION], r_out), (counts[IN_DISTRIBUTION], r_in * 0.9)):
        assert stats.binomtest(int(found), 600, min(rate, 1)).pvalue > 1e-7
    outside = states == OUT_OF_DISTRIBUTION
    np.testing.assert_array_equal(made.train[outside], dataset.train.targets[outside])
    assert (applied.train.targets[outside] == OOD_TARGET).all()
    np.testing.assert_array_equal(applied.train.inputs[~outside], dataset.train.inputs[~outside])
    assert applied.test is dataset.test
    assert made.manifest["label_status"]["out_of_distribution"] == outside.sum() if outside.any() else True


def test_each_share_grows_without_disturbing_the_other() -> None:
    dataset = toy_dataset(size=500)
    small, large = (states_of(dataset, out_of_distribution=out, in_distribution=0.2) for out in (0.2, 0.6))
    assert set(np.flatnonzero(small == OUT_OF_DISTRIBUTION)) < set(np.flatnonzero(large == OUT_OF_DISTRIBUTION))
    np.testing.assert_array_equal(small == IN_DISTRIBUTION, large == IN_DISTRIBUTION)
    other = states_of(dataset, out_of_distribution=0.2, in_distribution=0.2, source="pixel_permuted")
    np.testing.assert_array_equal(small, other)


def test_training_and_validation_share_no_ood_image() -> None:
    dataset = toy_dataset(size=300, held_out=100)
    made = web(out_of_distribution=0.5).apply(dataset)
    train, validation = ({each.tobytes() for each in made.replaced[name].images} for name in ("train", "validation"))
    assert len(train) == len(made.replaced["train"].rows)
    assert not train & validation


def test_sources_of_the_dataset_itself() -> None:
    dataset = toy_dataset(size=200, held_out=50)
    drawn = synthetic_patterns(40, (3, 8, 8), Stream("a"))
    np.testing.assert_array_equal(drawn[:8], synthetic_patterns(8, (3, 8, 8), Stream("a")))
    assert len({each.tobytes() for each in drawn}) == 40
    assert drawn.std((1, 2, 3)).min() > 1, "no image is blank"
    moved = pixel_permuted(dataset.train.inputs[:], Stream("b"))
    np.testing.assert_array_equal(np.sort(moved.reshape(200, -1)), np.sort(dataset.train.inputs[:].reshape(200, -1)))
    assert (moved != dataset.train.inputs[:]).any((1, 2, 3)).all()


def test_images_of_ood_classes_replace_images() -> None:
    source = get_entry("datasets", "digits").load_class()
    whole = source().load()
    dataset = source(ood_classes=[7, 8, 9]).load()
    assert dataset.class_names == tuple("0123456")
    assert dataset.ood_images is not None
    assert len(dataset.ood_images) == 174 + 180 + 179
    assert set(dataset.test.targets) == set(range(7))
    assert whole.hash != dataset.hash
    made = web(source="ood_classes", out_of_distribution=0.3).apply(dataset)
    known = {each.tobytes() for each in dataset.ood_images[:]}
    assert {each.tobytes() for each in made.replaced["train"].images} <= known
    with pytest.raises(UserError, match=r"\d+ out-of-distribution images are needed, but the source .* has 533"):
        web(source="ood_classes", out_of_distribution=0.9).apply(dataset)
    with pytest.raises(UserError, match="needs classes that are excluded"):
        web(source="ood_classes").apply(whole)
    with pytest.raises(UserError, match="leave at least two classes"):
        source(ood_classes=[0, 11]).load()


def write_photographs(folder: Path, count: int, size: tuple[int, int] = (8, 8)) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def write_imagenet32(folder: Path, count: int) -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3072)).astype(np.uint8)
    for number in (1, 2):
        batch = {"data": pixels[number - 1 :: 2], "labels": [1] * (count // 2)}
        (folder / f"train_data_batch_{number}").write_bytes(pickle.dumps(batch))
    return folder


def test_sources_on_disk(tmp_path: Path) -> None:
    gray = toy_dataset(size=40, held_out=10)
    photographs = write_photographs(tmp_path / "photographs", 60)
    with pytest.raises(UserError, match=r"have 3x8x8 values .* the dataset's have 1x8x8; set noise.resize=true"):
        web(source="image_folder", path=str(photographs)).apply(gray)
    made = web(source="image_folder", path=str(photographs), resize=True).apply(gray)
    chosen = made.replaced["train"].images
    expected = {np.asarray(Image.open(file).convert("L"))[None].tobytes() for file in photographs.iterdir()}
    near = np.array([np.frombuffer(each, np.uint8).reshape(1, 8, 8) for each in expected], dtype=int)
    assert all(np.abs(near - each).max((1, 2, 3)).min() <= 1 for each in chosen.astype(int))
    assert made.manifest["noise"]["details"]["source"]["size"] == 60

    batches = write_imagenet32(tmp_path / "imagenet32", 60)
    pixels = read_imagenet32(batches)
    assert pixels.shape == (60, 3, 32, 32)
    first = pickle.loads((batches / "train_data_batch_1").read_bytes())["data"][0]
    np.testing.assert_array_equal(pixels[0], first.reshape(3, 32, 32))
    assert len(web(source="imagenet32", path=str(batches), resize=True).apply(gray).replaced["train"].rows)

    places = write_photographs(tmp_path / "places", 60, (30, 40))
    color = get_entry("datasets", "parquet").load_class()
    parameters = color.example(tmp_path)
    made = web(source="places365", path=str(places)).apply(color(**parameters).load())
    assert made.replaced["train"].images.shape[1:] == (3, 8, 8), "photographs are brought to the dataset's size"
    other = web(source="parquet", path=parameters["test"], out_of_distribution=0.1).apply(color(**parameters).load())
    assert (
        other.manifest["noise"]["details"]["source"]["sha256"] != made.manifest["noise"]["details"]["source"]["sha256"]
    )


@pytest.mark.parametrize(("r_out", "r_in", "seed"), [(0.4, 0.2, 0), (0.2, 0.2, 1), (0.0, 0.5, 2), (0.6, 0.0, 0)])
def test_the_published_sets_are_drawn_number_by_number(r_out: float, r_in: float, seed: int, tmp_path: Path) -> None:
    dataset = toy_dataset(size=80, held_out=0)
    source = np.stack([np.full((1, 8, 8), number, np.uint8) for number in range(100)])
    batches = tmp_path / "sources"
    batches.mkdir()
    for number, picture in enumerate(source):
        Image.fromarray(np.repeat(picture.transpose(1, 2, 0), 3, 2)).save(batches / f"{number:03}.png")
    made = web(
        out_of_distribution=r_out, in_distribution=r_in, seed=seed, source="image_folder", path=str(batches), resize=True,
        sampling="published",
    ).apply(dataset)  # fmt: skip

    # One number after the other from the old global generator, as the sets were made.
    rng = np.random.RandomState([2718, 1414, 3142][seed])
    images, labels_, outside = dataset.train.inputs[:].copy(), dataset.train.targets.copy(), []
    if r_out > 0:
        outside = [index for index in range(80) if rng.uniform() < r_out]
        order = rng.permutation(100)
        for place, index in enumerate(outside):
            images[index] = source[order[place]]
    noisy = [index for index in range(80) if index not in set(outside) and rng.uniform() < r_in / (1 - r_out)]
    for index in noisy:
        labels_[index] = int(10 * rng.uniform())
    np.testing.assert_array_equal(made.train, labels_)
    np.testing.assert_array_equal(made.apply_to(dataset).train.inputs, images)


def test_the_published_sets_need_the_whole_training_part() -> None:
    with pytest.raises(UserError, match=r"set dataset\.validation_fraction=0"):
        web(sampling="published").apply(toy_dataset())
    with pytest.raises(UserError, match="have the seeds 0 to 2, but got 5"):
        web(sampling="published", seed=5).apply(toy_dataset(held_out=0))


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    dataset = toy_dataset()
    with pytest.raises(UserError, match=r"`imagenet32` needs noise\.path"):
        web(source="imagenet32").apply(dataset)
    with pytest.raises(UserError, match=r"`patterns` does not use noise\.path"):
        web(path="x").apply(dataset)
    with pytest.raises(UserError, match="folder not found"):
        web(source="image_folder", path="nowhere").apply(dataset)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no images"):
        web(source="places365", path=str(tmp_path / "empty")).apply(dataset)
    with pytest.raises(UserError, match="expected the folder of ImageNet32"):
        web(source="imagenet32", path=str(tmp_path / "empty")).apply(dataset)
    folder = write_imagenet32(tmp_path / "damaged", 4)
    (folder / "train_data_batch_2").write_bytes(b"\x80\x04\x95")
    with pytest.raises(UserError, match="train_data_batch_2 is damaged"):
        web(source="imagenet32", path=str(folder)).apply(dataset)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    folder = write_imagenet32(tmp_path / "evil", 4)
    (folder / "train_data_batch_1").write_bytes(b"cos\nsystem\n(S'touch evil-was-here'\ntR.")
    with pytest.raises(UserError, match="which is not an array"):
        web(source="imagenet32", path=str(folder), resize=True).apply(toy_dataset())
    assert not Path("evil-was-here").exists()


def test_a_changed_image_of_a_frozen_set_is_refused(tmp_path: Path) -> None:
    dataset = toy_dataset()
    made = web(out_of_distribution=0.3, in_distribution=0.1).apply(dataset)
    folder = labels.save(made, dataset, tmp_path / "set")
    assert labels.load(folder).hash == made.hash
    with np.load(folder / "images.npz") as archive:
        arrays = dict(archive)
    arrays["train_images"][0, 0, 0, 0] ^= 1
    np.savez(folder / "images.npz", **arrays)
    with pytest.raises(UserError, match="do not match their manifest"):
        labels.load(folder)
    (folder / "images.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"images\.npz: damaged"):
        labels.load(folder)


def test_images_on_disk_are_replaced_without_reading_them_all() -> None:
    from noisybench.data.lazy import MemmapImages

    dataset = toy_dataset(size=50)
    lazy = MemmapImages(dataset.train.inputs[:], np.arange(50))
    changed = lazy.with_images(np.array([3, 40]), np.full((2, 1, 8, 8), 7, np.uint8))
    wanted = dataset.train.inputs[:].copy()
    wanted[[3, 40]] = 7
    np.testing.assert_array_equal(changed[:], wanted)
    np.testing.assert_array_equal(changed[np.array([40, 1, 3])], wanted[[40, 1, 3]])
    np.testing.assert_array_equal(lazy[:], dataset.train.inputs[:])


def test_other_noise_models_refuse_labels_that_are_noisy_already() -> None:
    real_world = get_entry("noise_models", "real_world").load_class()
    dataset = real_world.example_dataset(toy_dataset())
    with pytest.raises(UserError, match="use noise=real_world"):
        get_entry("noise_models", "symmetric_exclusive").load_class()(rate=0.2).apply(dataset)
    made = real_world().apply(dataset)
    assert made.manifest["label_status"]["unknown"] == (dataset.train.targets == UNKNOWN_TARGET).sum()
    known = dataset.train.targets != UNKNOWN_TARGET
    assert made.manifest["actual_noise_rate"] == np.mean((made.train != dataset.train.targets)[known])
    with pytest.raises(UserError, match="toy has no noisy labels of its own"):
        real_world().apply(toy_dataset())


def test_metrics_compare_each_kind_with_correct_labels() -> None:
    states = np.array([CLEAN, CLEAN, IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, UNKNOWN_STATUS, CLEAN])
    score = np.array([0.1, 0.5, 0.4, 0.9, 1.0, 0.2])
    found = score_detector(score, score > 0.3, states)
    assert found["noise_auroc"] == pytest.approx(5 / 6)
    assert found["id_noise_auroc"] == pytest.approx(2 / 3)
    assert found["ood_auroc"] == 1.0
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["ood_balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["flagged_fraction"] == pytest.approx(4 / 6)
    assert score_detector(score[:2], score[:2] > 0.3, states[:2])["noise_auroc"] is None


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=20)
def test_correlation_and_roc_curve_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random(40) < 0.4, rng.random(40) < 0.5
    a, b, c, d = (int((x & y).sum()) for x in (first, ~first) for y in (second, ~second))
    if min(first.sum(), second.sum(), (~first).sum(), (~second).sum()):
        by_hand = (a * d - b * c) / np.sqrt(float((a + b) * (c + d) * (a + c) * (b + d)))
        assert correlation(first, second) == pytest.approx(by_hand, abs=1e-12)
    score, states = rng.normal(size=40), rng.integers(0, 3, 40)
    curve = metrics.roc_curve(score, states)
    assert curve is not None
    assert (np.diff(curve) >= -1e-6).all()
    wrong = score[states > 0]
    for false, true in zip(metrics.ROC_GRID[1:-1], curve[1:-1], strict=True):
        # The true-positive rate lies between those of the neighboring thresholds.
        right = np.sort(score[states == 0])[::-1]
        above = right[min(int(np.ceil(false * len(right))), len(right) - 1)]
        below = right[int(np.floor(false * len(right))) - 1] if false * len(right) >= 1 else np.inf
        assert (wrong > below).mean() - 1e-6 <= true <= (wrong >= above).mean() + 1e-6


def test_a_run_on_web_noise_records_every_kind(tmp_path: Path) -> None:
    dataset = toy_dataset(size=160)
    made = web(out_of_distribution=0.3, in_distribution=0.2).apply(dataset)
    recorder = train_toy(prepared_toy({"name": "lsa", "warmup_steps": 1}, dataset, made), tmp_path)
    row = recorder.rows[-1]
    states = ClassTargets().label_status(made.apply_to(dataset).train.targets, made.train)
    samples = recorder.evaluator.samples()
    assert set(samples.clean[states == OUT_OF_DISTRIBUTION]) == {OOD_TARGET}
    again = metrics.auroc_by_kind(-samples.label_quality, states)
    assert (row.noise_auroc, row.id_noise_auroc, row.ood_auroc) == pytest.approx(
        (again["noise_auroc"], again["id_noise_auroc"], again["ood_auroc"])
    )
    assert set(row.detectors) == {
        "loss", "linear", "hybrid", "loss_with_linear", "loss_with_hybrid", "linear_with_hybrid",
    }  # fmt: skip
    for name in ("loss", "linear", "hybrid"):
        again = score_detector(samples.detectors[name], samples.detectors[f"{name}_flagged"], states)
        assert row.detectors[name] == again, "what the row says follows from the stored scores"
    wrong = states != CLEAN
    assert row.memorized_fraction == np.mean((samples.prediction == samples.observed)[wrong])
    inside = states == IN_DISTRIBUTION
    assert row.recovered_fraction == np.mean((samples.prediction == samples.clean)[inside])
    assert row.diagnostics["corrected_fraction"] == np.mean((samples.corrected_labels == samples.clean)[inside])
    record = recorder.record({})
    recorder.write(record, tmp_path / "diagnostics")
    assert (tmp_path / "diagnostics" / "detectors.png").stat().st_size > 10_000
    import pandas

    stored = pandas.read_parquet(tmp_path / "diagnostics" / "samples.parquet")
    assert {"detector_loss", "detector_linear_flagged", "clean"} <= set(stored.columns)

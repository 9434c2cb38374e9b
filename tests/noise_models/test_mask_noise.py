"""Noise models for masks: invariants of all of them, and the effect of each."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets import label_files as labels
from noisybench.data.label_sets.statistics import mask_statistics
from noisybench.data.targets import IGNORED, MaskTargets
from noisybench.errors import UserError
from noisybench.noise_models._contours import simplify_contours
from noisybench.noise_models._masks import MaskNoise
from noisybench.noise_models._regions import MaskObject, find_objects
from noisybench.noise_models.class_swap import ClassSwap
from noisybench.noise_models.morph_scaled import MorphScaled
from noisybench.runs.preparation import prepare_run
from tests.helpers import toy_masks

GENERATED = [
    name for name, entry in list_entries("noise_models").items() if issubclass(entry.load_class(), MaskNoise)
]  # a new one is tested by existing


KEEPS_CLASSES = (
    "morph_scaled", "morph_distance", "morph_disc", "markov_boundary", "polygon", "vertex_jitter", "omission", "annotators",
)  # fmt: skip


def scenes(count: int = 30, size: int = 48) -> Dataset:
    made: Dataset = (
        get_entry("datasets", "scenes")
        .load_class()(size=size, train_images=count, validation_images=2, test_images=1)
        .load()
    )
    return made


def model(name: str, **values: Any) -> MaskNoise:
    made: MaskNoise = get_entry("noise_models", name).load_class()(**{"corrupted_fraction": 1.0, **values})
    return made


def split_of(masks: NDArray[np.uint8], index: Sequence[int] | None = None) -> Split:
    rows = np.arange(len(masks)) if index is None else np.asarray(index)
    return Split(np.zeros((len(masks), 1, *masks.shape[1:]), dtype=np.uint8), masks, rows.astype(np.int64))


def random_masks(seed: int, count: int = 4, side: int = 24) -> NDArray[np.uint8]:
    """Blocks of random classes, with some unlabeled pixels."""
    rng = np.random.default_rng(seed)
    masks = np.kron(rng.integers(0, 4, (count, side // 4, side // 4)), np.ones((4, 4))).astype(np.uint8)
    masks[rng.random(masks.shape) < 0.05] = IGNORED
    return masks


@pytest.mark.parametrize("name", GENERATED)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_invariants_of_every_noise_model(name: str, seed: int) -> None:
    masks = random_masks(seed)
    before = masks.copy()
    noise = model(name, seed=seed)
    noisy = noise.corrupt_masks(split_of(masks), 4, 1.0)
    np.testing.assert_array_equal(masks, before), "the clean masks stay as they are"
    assert noisy.dtype == np.uint8
    np.testing.assert_array_equal(noisy == IGNORED, masks == IGNORED)
    assert noisy[noisy != IGNORED].max(initial=0) < 4
    np.testing.assert_array_equal(noise.corrupt_masks(split_of(masks), 4, 0.0), masks)
    if name in (
        "morph_scaled",
        "morph_distance",
        "morph_disc",
        "markov_boundary",
        "polygon",
        "vertex_jitter",
        "omission",
        "annotators",
    ):
        for old, new in zip(masks, noisy, strict=True):
            assert set(np.unique(new)) <= {*np.unique(old), 0}, "no class comes from nowhere"


@pytest.mark.parametrize("name", GENERATED)
def test_corruption_of_an_image_does_not_depend_on_other_images(name: str) -> None:
    if name in ("inclusion", "object_noise"):
        pytest.skip("false objects come from the other images of the split")
    masks, noise = random_masks(3), model(name)
    whole = noise.corrupt_masks(split_of(masks), 4, 1.0)
    order = [2, 0]
    some = noise.corrupt_masks(split_of(masks[order], order), 4, 1.0)
    np.testing.assert_array_equal(some, whole[order])


@pytest.mark.parametrize("name", GENERATED)
def test_higher_severity_lowers_miou_and_a_target_can_be_set(name: str) -> None:
    dataset = scenes()
    noise = model(name)
    levels = [noise._measure_miou(dataset, severity) for severity in (0.25, 1.0, 2.0)]
    assert levels[0] > levels[1] > levels[2]
    target = 0.7
    made = model(name, target_miou=target).apply(dataset)
    assert made.manifest["masks"]["miou"] == pytest.approx(target, abs=0.01)
    assert made.manifest["noise"]["details"]["severity"] > 0


def test_an_unreachable_target_is_refused() -> None:
    with pytest.raises(UserError, match=r"no severity of annotators reaches 0\.5.*Choose another target"):
        model("annotators", shares=[1.0, 0, 0, 0, 0], target_miou=0.5).apply(scenes(4))


def test_the_published_protocol_has_its_level_and_a_small_bias() -> None:
    dataset: Dataset = get_entry("datasets", "scenes").load_class()().load()
    found = MorphScaled().apply(dataset).manifest["masks"]
    assert 0.55 <= found["miou"] <= 0.66
    assert abs(found["area_bias"]) < 0.2
    assert np.argmin(found["iou"][1:]) == 2, "rings suffer most"
    eroded = MorphScaled(over=0.0).apply(dataset).manifest["masks"]
    assert eroded["area_bias"] < -0.3


def test_classes_shrink_inside_and_grow_on_background_alone() -> None:
    dataset = scenes(10)
    clean = dataset.train.targets
    for name, values in (("morph_scaled", {}), ("morph_distance", {"range": [1.0, 2.0]})):
        smaller = model(name, over=0.0, **values).corrupt_masks(dataset.train, 5, 1.0)
        assert ((smaller == clean) | (smaller == 0)).all()
        assert (smaller != clean).any()
        larger = model(name, over=1.0, **values).corrupt_masks(dataset.train, 5, 1.0)
        assert (larger == clean)[clean != 0].all()
        assert (larger != clean).any()


def test_literal_erosion_may_clear_what_the_clean_one_keeps() -> None:
    mask = np.zeros((1, 40, 40), dtype=np.uint8)
    mask[0, 10:30, 10:20], mask[0, 10:30, 20:30] = 1, 2
    ours, theirs = (
        model("morph_scaled", over=0.0, literal=each).corrupt_masks(split_of(mask), 3, 1.0)[0] for each in (False, True)
    )
    assert ((ours == mask[0]) | (ours == 0)).all()
    assert (theirs != 0).sum() <= (ours != 0).sum()


def test_a_distance_is_a_distance() -> None:
    mask = np.zeros((1, 41, 41), dtype=np.uint8)
    mask[0, 10:31, 10:31] = 1
    noisy = model("morph_distance", range=[3.0, 3.0], over=0.0).corrupt_masks(split_of(mask), 2, 1.0)[0]
    assert (noisy == 1).sum() == 15**2
    noisy = model("morph_distance", range=[3.0, 3.0], over=1.0).corrupt_masks(split_of(mask), 2, 1.0)[0]
    assert noisy[20].sum() == 27


def test_swapped_classes_follow_their_rate() -> None:
    mask = np.zeros((400, 9, 9), dtype=np.uint8)
    for number in range(9):
        mask[:, number // 3 * 3 + 1, number % 3 * 3 + 1] = 1 + number % 3
    noisy = ClassSwap(rate=0.6).corrupt_masks(split_of(mask), 4, 1.0)
    chosen = mask > 0
    kept = (noisy == mask)[chosen].mean()
    count = chosen.sum()
    wanted = 1 - 0.6 + 0.6 / 3
    assert abs(kept - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / count)
    grouped = ClassSwap(rate=1.0, groups=[[1, 2], [3]]).corrupt_masks(split_of(mask), 4, 1.0)
    assert (grouped[mask == 3] == 3).all()
    assert set(np.unique(grouped[mask == 1])) == {1, 2}
    with pytest.raises(UserError, match="may be in one group only"):
        ClassSwap(groups=[[1, 7]]).corrupt_masks(split_of(mask), 4, 1.0)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_as_many_objects_are_missing_as_the_share_says(seed: int, rate: float) -> None:
    mask = np.zeros((1, 16, 16), dtype=np.uint8)
    mask[0, 1::4, 1::4] = np.arange(16).reshape(4, 4) % 3 + 1
    noisy = model("omission", rates=[rate], seed=seed).corrupt_masks(split_of(mask), 4, 1.0)
    assert len(list(find_objects(noisy[0]))) == 16 - round(16 * rate)


def test_objects_are_components_of_eight_neighbors() -> None:
    mask = np.zeros((6, 6), dtype=np.uint8)
    mask[0, 0], mask[1, 1], mask[4, 4] = 1, 1, 1
    mask[0, 1] = 2
    found = [(each.label, int(each.pixels.sum()), each.top, each.left) for each in find_objects(mask)]
    assert found == [(1, 2, 0, 0), (1, 1, 4, 4), (2, 1, 0, 1)]


def test_pixels_flip_by_their_matrix() -> None:
    noise = get_entry("noise_models", "pixel_flip").load_class()
    mask = np.random.default_rng(0).integers(0, 4, (20, 100, 100)).astype(np.uint8)
    for kind in ("symmetric", "pair", "foreground"):
        made = noise(rate=0.3, kind=kind)
        counts = MaskTargets().transition_counts(mask, made.corrupt_masks(split_of(mask), 4, 1.0), 4)
        shares = counts / counts.sum(1, keepdims=True)
        np.testing.assert_allclose(shares, made.transitions(4, 0.3), atol=0.012)


def test_faithful_annotators_change_nothing_and_blank_ones_leave_nothing() -> None:
    masks = random_masks(0)
    faithful = model("annotators", shares=[1.0, 0, 0, 0, 0]).corrupt_masks(split_of(masks), 4, 1.0)
    np.testing.assert_array_equal(faithful, masks)
    blank = model("annotators", shares=[0, 0, 0, 0, 1.0]).corrupt_masks(split_of(masks), 4, 1.0)
    assert set(np.unique(blank)) <= {0, IGNORED}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("morph_scaled", {"iterations": []}, "needs integers from 0"),
        ("morph_distance", {"range": [5.0, 2.0]}, "two distances from 0 in increasing order"),
        ("morph_disc", {"radius": [0.0, 2.0]}, "two radii above 0 in increasing order"),
        ("omission", {"rates": [1.5]}, "fractions from 0 to 1"),
        ("annotators", {"shares": [1.0]}, "needs 5 fractions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(name, **values).apply(toy_masks())


def test_masks_of_a_label_set_are_kept_and_a_changed_pixel_is_found(tmp_path: Path) -> None:
    dataset = toy_masks()
    made = MorphScaled().apply(dataset)
    folder = labels.save(made, dataset, tmp_path / "set")
    stored = labels.load(folder)
    assert stored.hash == made.hash
    np.testing.assert_array_equal(stored.train, made.train)
    with np.load(folder / "masks.npz") as archive:
        arrays = dict(archive)
    arrays["train_observed"][0, 5, 5] ^= 1
    np.savez_compressed(folder / "masks.npz", **arrays)
    with pytest.raises(UserError, match="the files have changed"):
        labels.load(folder)
    (folder / "masks.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=r"masks\.npz: damaged"):
        labels.load(folder)


def test_mask_statistics_by_hand() -> None:
    found = mask_statistics(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert found["iou"] == [6 / 9, 3 / 6, None]
    assert found["miou"] == 0.5
    assert found["area_bias"] == pytest.approx(5 / 4 - 1)


def test_noise_for_classes_does_not_serve_masks_and_the_reverse() -> None:
    with pytest.raises(UserError, match="noise: supports the tasks classification, but the task is segmentation"):
        prepare_run(
            resolve(
                {"task": "segmentation", "dataset": "scenes", "noise": "pair_flip", "budget": {"network": "unet:4"}}
            )
        )
    with pytest.raises(UserError, match="noise: supports the tasks segmentation, but the task is classification"):
        prepare_run(resolve({"noise": "polygon"}))


@pytest.mark.parametrize("name", ["markov_boundary", "morph_distance", "morph_disc", "polygon", "vertex_jitter"])
def test_every_preset_is_its_settings_by_hand_and_refuses_others(name: str) -> None:
    module = importlib.import_module(f"noisybench.noise_models.{name}")
    kind = get_entry("noise_models", name).load_class()
    allowed = typing.get_args(typing.get_type_hints(kind)["preset"])
    assert allowed == ("default", *module.PRESETS)
    masks = np.zeros((1, 96, 96), dtype=np.uint8)
    masks[0, 20:70, 30:80] = 1
    for preset, values in module.PRESETS.items():
        by_hand = model(name, **values)
        if name == "vertex_jitter":
            by_hand = model(name, **values, spacing=0.0)
        np.testing.assert_array_equal(
            model(name, preset=preset).corrupt_masks(split_of(masks), 2, 1.0),
            by_hand.corrupt_masks(split_of(masks), 2, 1.0),
        )
        model(name, preset=preset, **values).corrupt_masks(split_of(masks), 2, 1.0)
        own = {
            "markov_boundary": {"steps": 7},
            "morph_distance": {"range": [1.0, 2.0]},
            "morph_disc": {"radius": [1, 2]},
        }
        other = own.get(name, {next(iter(values)): 2.5})
        parameter = next(iter(other))
        with pytest.raises(UserError, match=rf"noise\.{parameter}: preset={preset} sets {parameter} to .* Remove one"):
            model(name, preset=preset, **other).corrupt_masks(split_of(masks), 2, 1.0)


def test_a_simplified_object_fills_its_box() -> None:
    pixels = np.zeros((9, 12), dtype=np.uint8)
    pixels[2:7, 3:11], pixels[2, 3] = 1, 0
    changed = simplify_contours(MaskObject(1, pixels, 5, 6), tolerance=1.5)
    assert (changed.top, changed.left) == (7, 9)
    assert changed.pixels.shape == (5, 8)
    assert all(edge.any() for edge in (*changed.pixels[[0, -1]], *changed.pixels[:, [0, -1]].T))


@pytest.mark.parametrize(
    ("changed", "stated"),
    [({}, 0.3), ({"severity": 2.0}, None), ({"corrupted_fraction": 0.5}, None), ({"target_miou": 0.8}, None),
     ({"severity": 0.5, "corrupted_fraction": 0.5}, None)],
)  # fmt: skip
def test_the_rate_of_pixel_flips_is_stated_if_nothing_else_changes_it(
    changed: dict[str, float], stated: float | None
) -> None:
    # Numbers of a configuration are equal to the defaults and not the same objects.
    values = {"rate": 0.3, "severity": float("1.0"), "corrupted_fraction": float("1.0"), **changed}
    assert model("pixel_flip", **values).nominal_rate(scenes(2)) == stated


@pytest.mark.parametrize(("side", "included"), [(5, True), (6, False), (8, False)])
def test_no_false_object_covers_half_of_a_mask(side: int, included: bool) -> None:
    masks = np.zeros((2, 8, 8), dtype=np.uint8)
    masks[0, :side, :side] = masks[1, 8 - side :, 8 - side :] = 1
    noisy = model("inclusion", count=6.0).corrupt_masks(split_of(masks), 2, 1.0)
    assert (noisy != masks).any() == included


def test_a_severity_is_searched_until_it_is_within_a_quarter_of_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    found, measured = model("pixel_flip", target_miou=0.5), list[float]()

    def measure(dataset: Dataset, severity: float) -> float:
        measured.append(severity)
        return 1 / (1 + severity / 5)  # 0.5 at 5

    monkeypatch.setattr(found, "_measure_miou", measure)
    severity = found._calibrate(scenes(2), 0.5)
    assert measured == [1, 2, 4, 8, 6, 5]
    assert severity == 5


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", ["symmetric", "pair", "foreground"])
def test_pixels_flip_to_every_class_that_their_kind_allows(kind: str, classes: int) -> None:
    rate, wanted = 0.3, np.zeros((classes, classes))
    for clean in range(classes):
        others = [label for label in range(classes) if label != clean]
        reached = {
            "symmetric": others,
            "pair": [(clean + 1) % classes],
            "foreground": others if clean == 0 else [0],
        }[kind]
        wanted[clean, clean] = 1 - rate
        wanted[clean, reached] = rate / len(reached)
    found = get_entry("noise_models", "pixel_flip").load_class()(kind=kind, rate=rate).transitions(classes, rate)
    np.testing.assert_allclose(found, wanted, atol=1e-12)

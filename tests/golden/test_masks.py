"""Noise models for masks against the code or the published masks of their authors, and against SciPy."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.noise_models._masks import MaskContext
from noisybench.noise_models._regions import find_objects, paste, transform
from noisybench.noise_models.affine_shift import AffineShift
from noisybench.noise_models.annotators import Annotators
from noisybench.noise_models.elastic import Elastic
from noisybench.noise_models.inclusion import Inclusion
from noisybench.noise_models.morph_disc import MorphDisc
from noisybench.noise_models.morph_scaled import MorphScaled
from noisybench.noise_models.omission import Omission
from noisybench.noise_models.pixel_flip import PixelFlip
from tests.golden.replay import NumpyStream, unpack
from tests.golden.vectors import Golden, load_golden
from tests.noise_models.test_mask_noise import split_of

Masks = NDArray[np.uint8]


def areas(masks: Masks) -> NDArray[np.int64]:
    return np.asarray((masks > 0).sum(axis=(-2, -1)))


def mean_iou(first: Masks, second: Masks) -> float:
    return float(np.mean(areas(first & second) / areas(first | second)))


# morph_scaled: deterministic once the mode and the number of iterations are given.


@pytest.mark.parametrize(("mode", "iterations"), list(product(range(2), range(3))))
def test_organs_grow_and_shrink_as_in_the_code_of_adele(mode: int, iterations: int) -> None:
    golden = load_golden("morph_scaled")
    model = MorphScaled(iterations=[2 + iterations], over=float(mode), literal=True, class_order=[1, 3, 4, 2])
    noisy = model.corrupt_masks(split_of(golden["masks"]), 5, 1.0)
    np.testing.assert_array_equal(noisy, golden["results"][mode, iterations])


def test_modes_and_iterations_are_drawn_equally_often_as_in_the_code_of_adele() -> None:
    golden = load_golden("morph_scaled")
    count = 100
    noisy = MorphScaled(literal=True, class_order=[1, 3, 4, 2]).corrupt_masks(
        split_of(np.repeat(golden["masks"], count, axis=0)), 5, 1.0
    )
    results = golden["results"].reshape(6, len(golden["masks"]), 64, 64)
    matches = (noisy.reshape(len(golden["masks"]), count, 64, 64)[:, :, None] == results.swapaxes(0, 1)[:, None]).all(
        axis=(-2, -1)
    )
    assert matches.any(axis=2).all(), "each result is one of the six of the authors"
    shares = matches.mean(axis=(0, 1))
    np.testing.assert_allclose(shares, 1 / 6, atol=4 * np.sqrt(5 / 36 / (count * len(golden["masks"]))))


# pixel_flip: distributions.


def test_pixels_flip_by_the_probabilities_of_the_code_of_adele() -> None:
    golden = load_golden("pixel_flip")
    for rate, counts in zip(golden["rates"].tolist(), golden["counts"], strict=True):
        wanted, totals = PixelFlip(rate=rate, kind="foreground").transitions(5, rate), counts.sum(axis=1, keepdims=True)
        assert (abs(counts / totals - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / totals)).all()


# morph_disc: deterministic once the kind, the radius, and the discs of an edge are given.


@pytest.mark.parametrize(("result", "kind"), [("dilated", 0), ("eroded", 1)])
def test_discs_dilate_and_erode_as_in_the_code_of_the_authors(result: str, kind: int) -> None:
    golden = load_golden("morph_disc")
    masks, radii = unpack(golden["masks"], golden["shape"]), golden["radii"].tolist()
    expected = unpack(golden[result], np.array([len(radii), *golden["shape"]]))
    for radius, wanted in zip(radii, expected, strict=True):
        model = MorphDisc(radius=[radius, radius])
        for mask, theirs in zip(masks, wanted, strict=True):
            # One number for the kind, one for the radius, and one that rounds it.
            context = MaskContext(NumpyStream(0, before=((kind + 0.5) / 3, 0.0, 0.0)), 1.0, 2, masks)
            np.testing.assert_array_equal(model.corrupt_mask(mask, context), theirs)


def test_the_same_discs_make_the_edge_of_the_authors() -> None:
    golden = load_golden("morph_disc")
    masks, ragged, chosen = (unpack(golden[name], golden["shape"]) for name in ("masks", "ragged", "chosen"))
    for position, mask in enumerate(masks):
        drawn = chosen[position][cv2.Canny(mask * np.uint8(255), 64, 200) > 0] > 0
        radii, coins = (golden[name][position][: drawn.sum()] for name in ("ragged_radii", "coins"))
        numbers = (
            5 / 6, 0.0, *np.where(drawn, 0.25, 0.75), *((radii + 0.5) / 4), *np.where(coins == 1, 0.25, 0.75)
        )  # fmt: skip
        context = MaskContext(NumpyStream(0, before=numbers), 1.0, 2, masks)
        np.testing.assert_array_equal(MorphDisc(radius=[4, 4]).corrupt_mask(mask, context), ragged[position])


def test_kinds_and_radii_are_drawn_as_often_as_by_the_authors() -> None:
    golden, count = load_golden("morph_disc"), 1500
    mask = np.zeros((41, 41), dtype=np.uint8)
    mask[10:31, 10:31] = 1
    noisy = MorphDisc(radius=[3, 5], corrupted_fraction=1.0).corrupt_masks(
        split_of(np.repeat(mask[None], count, axis=0)), 2, 1.0
    )
    by_radius = {
        kind: [
            np.flatnonzero((noisy == change(mask, disc)).all(axis=(1, 2))).size for disc in map(true_disc, (3, 4, 5))
        ]
        for kind, change in (("dilate", cv2.dilate), ("erode", cv2.erode))
    }
    for sizes in by_radius.values():
        # Each kind and radius is one of nine equally frequent outcomes, ragged edges of three radii included.
        np.testing.assert_allclose(np.array(sizes) / count, 1 / 9, atol=4 * np.sqrt(8 / 81 / count))
    ragged = count - sum(map(sum, by_radius.values()))
    shares = np.array([*(sum(sizes) for sizes in by_radius.values()), ragged]) / count
    wanted = golden["kinds"] / golden["kinds"].sum()
    error = np.sqrt(wanted * (1 - wanted) * (1 / count + 1 / golden["kinds"].sum()))
    assert (abs(shares - wanted) < 4 * error).all()


def true_disc(radius: int) -> Masks:
    """Pixels at a distance of at most the radius, one by one."""
    places = range(-radius, radius + 1)
    return np.array([[np.hypot(row, column) <= radius for column in places] for row in places], dtype=np.uint8)


# annotators: area and overlap of published masks, which were made with another library.


def annotated(habit: int, masks: Masks, **values: float) -> Masks:
    shares = [0.0] * 5
    shares[habit] = 1.0
    return Annotators(shares=shares, **values).corrupt_masks(split_of(masks), 2, 1.0)


def test_annotators_draw_too_much_and_too_little_as_the_published_ones() -> None:
    golden = load_golden("annotators")
    clean, over, under, wrong = (
        unpack(golden[name], np.array([20, 28, 28])) for name in ("clean", "over", "under", "wrong")
    )
    ratios = {name: float(np.mean(areas(masks) / areas(clean))) for name, masks in (("over", over), ("under", under))}
    assert ratios["over"] == pytest.approx(2.92, abs=0.01)
    assert ratios["under"] == pytest.approx(0.29, abs=0.01)
    drawn = annotated(1, clean, strength=2)
    assert np.mean(areas(drawn) / areas(clean)) == pytest.approx(ratios["over"], abs=0.25)
    assert mean_iou(drawn, over) > 0.85
    # Strokes are two to four pixels wide: an erosion by one pixel leaves .10 of them, the published thinning .29.
    drawn = annotated(2, clean, strength=1)
    assert 0 < np.mean(areas(drawn) / areas(clean)) < ratios["under"]
    # Cracks and too much, as the published ones: larger than the clean mask, but with holes in what `over` draws.
    drawn = annotated(3, clean, strength=1)
    assert np.mean(areas(drawn) / areas(clean)) == pytest.approx(float(np.mean(areas(wrong) / areas(clean))), abs=0.15)
    assert (areas(drawn) <= areas(annotated(1, clean, strength=1))).all()
    assert (areas(drawn) < areas(annotated(1, clean, strength=1))).any()


def test_annotators_do_not_erode_objects_at_the_edge_of_the_image() -> None:
    mask = np.zeros((1, 40, 40), dtype=np.uint8)
    mask[0, :30, 5:35] = 1
    noisy = annotated(2, mask, strength=3)
    wanted = np.zeros_like(mask)
    wanted[0, :27, 8:32] = 1
    np.testing.assert_array_equal(noisy, wanted)


# affine_shift, inclusion and omission: deterministic once the shift, the angle or the objects are given.


def building(golden: Golden) -> Masks:
    return unpack(golden["object"], np.array([64, 64]))


def test_objects_are_shifted_and_rotated_as_in_the_code_of_the_authors() -> None:
    golden = load_golden("aio2")
    item = next(find_objects(building(golden)))
    shifts = unpack(golden["shifted"], np.array([len(golden["shifts"]), 64, 64]))
    rotations = unpack(golden["rotated"], np.array([len(golden["angles"]), 64, 64]))
    moves = [(0.0, down, right) for right, down in golden["shifts"].tolist()]
    moves += [(float(angle), 0, 0) for angle in golden["angles"].tolist()]
    for (angle, down, right), wanted in zip(moves, [*shifts, *rotations], strict=True):
        drawn = np.zeros_like(wanted)
        paste(drawn, transform(item, angle, 1.0, down, right))
        np.testing.assert_array_equal(drawn, wanted)


def centroids(masks: Masks) -> NDArray[np.float64]:
    return np.array([[places.mean() for places in np.nonzero(mask)] for mask in masks])


def test_objects_are_misplaced_in_all_directions_alike() -> None:
    golden, count = load_golden("aio2"), 600
    mask = building(golden)
    noisy = AffineShift(shift=0.5).corrupt_masks(split_of(np.repeat(mask[None], count, axis=0)), 2, 1.0)
    moved = centroids(noisy) - centroids(mask[None])
    # Rounding leaves some objects in their row or column.
    oblique = moved[(moved != 0).all(axis=1)]
    quadrants = np.bincount(2 * (oblique[:, 0] > 0) + (oblique[:, 1] > 0), minlength=4) / len(oblique)
    np.testing.assert_allclose(quadrants, 0.25, atol=4 * np.sqrt(3 / 16 / len(oblique)))
    assert (abs(moved.mean(axis=0)) < 4 * moved.std(axis=0) / np.sqrt(count)).all()
    assert (abs(golden["spread"][0]) < 4 * golden["spread"][1] / np.sqrt(2000)).all()
    # Up to half of the longer side, as in the authors' code, but along a direction: their shifts fill a square.
    longer = max(next(find_objects(mask)).pixels.shape)
    assert np.hypot(*moved.T).max() <= longer / 2 + 1
    assert abs(golden["displacements"]).max() <= longer / 2
    np.testing.assert_allclose(moved.std(axis=0), longer / 2 / np.sqrt(6), rtol=0.1)
    np.testing.assert_allclose(golden["spread"][1], longer / 2 / np.sqrt(3), rtol=0.1)


def test_objects_vanish_whole_and_as_many_as_by_the_authors_or_one_more() -> None:
    golden = load_golden("aio2")
    before, after = (unpack(golden[name], np.array([4, 48, 48])) for name in ("before", "after"))
    rate = float(golden["rate"])
    for clean, theirs in zip(before, after, strict=True):
        total = len(list(find_objects(clean)))
        removed = total - len(list(find_objects(theirs)))
        noisy = Omission(rates=[rate]).corrupt_masks(split_of(np.repeat(clean[None], 200, axis=0)), 2, 1.0)
        missing = np.array([total - len(list(find_objects(mask))) for mask in noisy])
        assert set(missing) <= {removed, removed + 1}
        # The authors round down; a random rounding has the rate as its mean.
        assert missing.mean() == pytest.approx(rate * total, abs=0.15)
        whole = {(item.top, item.left, *item.pixels.shape) for item in find_objects(clean)}
        for mask in (theirs, noisy[0]):
            assert {(item.top, item.left, *item.pixels.shape) for item in find_objects(mask)} <= whole


def test_false_objects_are_rotated_objects_of_other_masks() -> None:
    mask, count = building(load_golden("aio2")), 60
    masks = np.zeros((2 * count, 64, 64), dtype=np.uint8)
    masks[count:] = mask
    noisy = Inclusion(count=1.0).corrupt_masks(split_of(masks), 2, 1.0)[:count]
    area, whole = int(mask.sum()), 0
    for drawn in noisy[areas(noisy) > 0]:
        assert drawn.sum() <= area + 12, "one object, whose area resampling changes a little"
        if not any(edge.any() for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1])):
            assert drawn.sum() >= area - 12
            whole += 1
    assert whole > 5
    # Half of the donors have an object, and none of it is drawn where the center of one is at the edge.
    assert np.mean(areas(noisy) > 0) == pytest.approx(0.5, abs=0.2)


# elastic: deterministic once the random fields are given.


@pytest.mark.parametrize("position", range(4))
def test_the_same_field_warps_a_mask_as_scipy_does(position: int) -> None:
    golden = load_golden("elastic")
    masks, warped = (unpack(golden[name], golden["shape"]) for name in ("masks", "warped"))
    amplitude, smoothness = golden["settings"][position].tolist()
    context = MaskContext(NumpyStream(position), 1.0, 2, masks)
    drawn = Elastic(amplitude=amplitude, smoothness=smoothness).corrupt_mask(masks[position], context)
    np.testing.assert_array_equal(drawn, warped[position])

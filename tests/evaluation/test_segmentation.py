"""Boundaries of masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from noisybench.data.targets import IGNORED
from noisybench.evaluation.segmentation import boundary_counts, boundary_width


def test_boundaries_are_those_of_erosion() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 2, 3):
        masks = [np.kron(rng.integers(0, 3, (2, 4, 5)), np.ones((5, 5))).astype(np.uint8) for _ in range(2)]
        masks[1][:, :2, :3] = IGNORED
        found = boundary_counts(torch.from_numpy(masks[0]), torch.from_numpy(masks[1]), 3, width).numpy()
        wanted = np.zeros((3, 3), dtype=int)
        for prediction, target in zip(*masks, strict=True):
            valid = target != IGNORED
            for label in range(3):
                edges = []
                for mask in (prediction, target):
                    # A class ends at pixels without a label, in the prediction as well as in the target.
                    own = ((mask == label) & valid).astype(np.uint8)
                    own = cv2.copyMakeBorder(own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
                    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
                    inner = cv2.erode(own, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
                    edges.append((own > inner)[1:-1, 1:-1])
                wanted[:, label] += [(edges[0] & edges[1]).sum(), edges[0].sum(), edges[1].sum()]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("size", "band"), [(128, 0), (128, 2), (256, 3), (375, 5)])
def test_a_perfect_prediction_has_boundary_iou_one_beside_bands_without_labels(size: int, band: int) -> None:
    rows, columns = np.mgrid[:size, :size] - size / 2
    distance = np.hypot(rows, columns) - size / 4
    disc = (distance < 0).astype(np.uint8)
    target = np.where(np.abs(distance) < band / 2, np.uint8(IGNORED), disc)
    prediction, width = torch.from_numpy(disc)[None].long(), boundary_width(size, size)
    in_both, predicted, observed = boundary_counts(prediction, torch.from_numpy(target)[None], 2, width)
    assert torch.equal(predicted, observed)
    assert torch.equal(in_both, observed)
    assert bool((observed > 0).all())

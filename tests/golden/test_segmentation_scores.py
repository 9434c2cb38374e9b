"""Scores of masks against the authors' code."""

from __future__ import annotations

import pytest
import torch

from noisybench.evaluation.segmentation import boundary_counts, boundary_width
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("position", range(6))
def test_boundary_counts_are_the_authors(position: int) -> None:
    golden = load_golden("boundary_iou")
    first, second = golden.tensor(f"masks_{position}")
    height, width = golden["sizes"][position].tolist()
    counts = boundary_counts(first[None].long(), second[None], 3, boundary_width(height, width))
    assert torch.equal(counts, golden.tensor(f"counts_{position}"))

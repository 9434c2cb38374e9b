"""Slices that are not square: image and mask must be brought to `size` the same way.

ACDC has 216x256, MSD Hippocampus 35x51, most MRI other sizes.
"""

from __future__ import annotations

from nifti import overlap, patient
from wild import create_labels, dataset, scratch, verdict


def main() -> None:
    root = scratch("70")
    for number in range(5):
        patient(root / "S", number, shape=(32, 64, 6), place=(6, 12, 4, 20))
    data = dataset("nifti_slices", root=root / "S", size=32)
    create_labels(
        root / "l", "scenes", "dataset=nifti_slices", f"dataset.root={root / 'S'}", "dataset.size=32", "noise=clean"
    )
    share, total = overlap(data)
    verdict(share > 0.95, f"share of labeled pixels that lie on the organ: {share:.2f} of {total} (right: 1.00)")


if __name__ == "__main__":
    main()

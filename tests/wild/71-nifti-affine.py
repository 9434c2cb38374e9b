"""A mask that another tool saved in another orientation (affine with a flipped axis).

In space both agree, as arrays they do not. Must be brought together or refused. MIC-DKFZ/nnUNet#1956, #459, #2897;
pyushkevich/itksnap#87; every checker compares affines.
"""

from __future__ import annotations

import numpy as np
from nifti import overlap, patient
from wild import create_labels, dataset, scratch, verdict


def main() -> None:
    root = scratch("71")
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 31  # world x = 31 - i
    for number in range(5):
        patient(root / "S", number, change=lambda volume, labels: (volume, labels[::-1].copy(), np.eye(4), flipped))
    status, _ = create_labels(
        root / "l", "scenes", "dataset=nifti_slices", f"dataset.root={root / 'S'}", "dataset.size=32", "noise=clean"
    )
    share, _ = overlap(dataset("nifti_slices", root=root / "S", size=32)) if status == 0 else (1, 0)
    verdict(
        status == 2 or share > 0.95,
        f"share of labeled pixels that lie on the organ: {share:.2f} (right: 1.00)" if status == 0 else "refused",
    )


if __name__ == "__main__":
    main()

"""Masks as tools export them.

Gray saved as RGB (Paint, OpenCV imwrite of 3 channels), gray with alpha, .tif, .gif (Carvana, DRIVE), .PNG, .jpg. Must
be read, or refused with what to do. HumanSignal/label-studio#3697, mdbloice/Augmentor#211.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, picture, scratch, verdict


def main() -> None:
    root = scratch("53")
    rng = np.random.default_rng(0)
    bad = []

    def build(case, suffix, mode):
        for row in range(12):
            mask = np.zeros((32, 32), np.uint8)
            mask[4:20, 4 + row % 4 : 18] = 1
            picture(root / case / "images" / f"{row:02}.png", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            array = {
                "L": mask,
                "RGB": np.dstack([mask] * 3),
                "LA": np.dstack([mask, np.full_like(mask, 255)]),
                "1": mask.astype(bool),
                "16": mask.astype(np.uint16),
                "32": mask.astype(np.int32),
            }[mode]
            picture(root / case / "masks" / f"{row:02}{suffix}", array)

    for case, suffix, mode in (
        ("gray-as-rgb", ".png", "RGB"),
        ("gray-alpha", ".png", "LA"),
        ("one-bit", ".png", "1"),
        ("sixteen", ".png", "16"),
        ("tif", ".tif", "L"),
        ("gif", ".gif", "L"),
        ("PNG", ".PNG", "L"),
        ("bmp", ".bmp", "L"),
    ):
        build(case, suffix, mode)
        print("--", case)
        status, _ = create_labels(
            root / f"l-{case}", "image_mask_folder", f"dataset.root={root / case}", "dataset.size=32", "noise=clean"
        )
        if status != 0:
            bad.append(f"{case} (status {status})")
    verdict(not bad, "not read: " + ", ".join(bad) if bad else "all read")


if __name__ == "__main__":
    main()

"""Folders named as people name them.

A comma, a hash, a number, `yes`, a colon; class names `yes` and `no` in class_names.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, picture, scratch, verdict


def main() -> None:
    root = scratch("93")
    rng = np.random.default_rng(0)
    bad = []
    for number, name in enumerate(
        (
            "cats, dogs",
            "2024",
            "1e3",
            "no",
            "photos #2",
            "a: b",
            "[new]",
            "{x}",
            "~archive",
            "with space",
            "Ünï-çødé",
            "null",
            "0x10",
            "2024-11-26",
            "12:30",
        )
    ):
        for row in range(16):
            picture(
                root / name / ("cat", "dog")[row % 2] / f"{row:02}.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            )
        status, _ = create_labels(root / f"out-{number}", "audit", "dataset=image_folder", f"dataset.root={name}")
        if status != 0:
            bad.append(f"{name!r} ({status})")
    verdict(not bad, "not read: " + ", ".join(bad) if bad else "all read")


if __name__ == "__main__":
    main()

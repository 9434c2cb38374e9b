"""Exports name the splits train/valid/test (Roboflow) or train/validation (Kaggle).

`valid` must not vanish, nor a split be redrawn. roboflow/roboflow-python#153, ultralytics/ultralytics#4310.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("08")
    rng = np.random.default_rng(0)
    results = []
    for case, parts in (
        ("train+valid", {"train": 20, "valid": 10}),
        ("train+validation", {"train": 20, "validation": 10}),
    ):
        for part, count in parts.items():
            for row in range(count):
                picture(
                    root / case / part / ("cat", "dog")[row % 2] / f"{row:02}.png",
                    rng.integers(0, 255, (16, 16, 3), dtype=np.uint8),
                )
        status, _ = create_labels(root / f"l-{case}", "audit", "dataset=image_folder", f"dataset.root={root / case}")
        data = dataset("image_folder", root=root / case, validation_fraction=0.0) if status == 0 else None
        used = None if data is None else len(data.train) + len(data.test)
        print(
            case,
            "images:",
            sum(parts.values()),
            "used:",
            used,
            "training:",
            data and len(data.train),
            "test:",
            data and len(data.test),
        )
        results.append(status == 2 or used == sum(parts.values()))
    verdict(
        all(results),
        "the second split is used or the folder refused"
        if all(results)
        else "the second split is passed over silently, and a test split is cut out of the training images",
    )


if __name__ == "__main__":
    main()

"""Images as .jfif (browsers on Windows), .gif, .avif, .heic and .jpe.

They may be unread, but must not vanish without a word.
ultralytics, fastai and Kaggle threads on .jfif; pytorch/vision IMG_EXTENSIONS.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("05")
    rng = np.random.default_rng(0)
    for row in range(20):
        name = ("cat", "dog")[row % 2]
        kind, how = [("png", {}), ("jfif", {"format": "jpeg"}), ("gif", {}), ("jpe", {"format": "jpeg"})][
            row // 2 % 4 if row % 2 else 0
        ]
        picture(root / "d" / name / f"{row:02}.{kind}", rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), **how)
    status, text = create_labels(root / "labels", "audit", "dataset=image_folder", f"dataset.root={root / 'd'}")
    data = dataset("image_folder", root=root / "d", validation_fraction=0.0)
    named = "jfif" in text
    verdict(
        data.source_size == 20 or named or status == 2,
        f"20 image files, {data.source_size} read, others named: {named}",
    )


if __name__ == "__main__":
    main()

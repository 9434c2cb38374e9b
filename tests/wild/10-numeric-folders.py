"""Class folders 0 … 11 and a table with these numbers as labels: the class of that name is meant.

GTSRB has 0 … 42, Oxford Flowers 1 … 102.
pytorch/vision ImageFolder sorts names as text, a standing complaint; GTSRB on Kaggle, oxford-102 folders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from wild import actual_rate, dataset, nb, picture, scratch, verdict


def main() -> None:
    root = scratch("10")
    rng = np.random.default_rng(0)
    for row in range(120):
        picture(root / "d" / str(row % 12) / f"{row:03}.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    data = dataset("image_folder", root=root / "d", validation_fraction=0.0, test_fraction=0.2)
    files = data.source_names  # in the source's order
    (root / "labels.csv").write_text("observed\n" + "".join(f"{Path(each).parent.name}\n" for each in files))
    status, text = nb(
        "labels",
        "import",
        root / "labels.csv",
        "audit",
        "dataset=image_folder",
        f"dataset.root={root / 'd'}",
        "dataset.validation_fraction=0",
        "--output",
        root / "l",
    )
    rate = actual_rate(text)
    verdict(status == 0 and rate == 0, f"labels that are all correct: actual rate {rate} (correct: 0.0)")


if __name__ == "__main__":
    main()

"""The audit's own scores.csv with `new_label` filled in by a person.

The way back into training labels. cleanlab Studio, fiftyone and Label Studio round trips.
"""

from __future__ import annotations

import csv

import numpy as np
from wild import SHORT, nb, picture, scratch, verdict


def main() -> None:
    root = scratch("42")
    rng = np.random.default_rng(0)
    for row in range(40):
        bright = row % 2
        picture(
            root / "d" / ("dark", "bright")[bright ^ (row % 10 == 0)] / f"{row:03}.png",
            (rng.integers(0, 60, (12, 12, 3)) + 150 * bright).astype(np.uint8),
        )
    nb("audit", root / "d", "dataset.size=12", *SHORT, "--folds", "2", "--output", root / "a")
    with (root / "a/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    for each in rows[:4]:
        each["new_label"] = each["suggested"]
    with (root / "done.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    status, _ = nb(
        "labels",
        "import",
        root / "done.csv",
        "audit",
        "dataset=image_folder",
        f"dataset.root={root / 'd'}",
        "dataset.size=12",
        "--output",
        root / "l",
    )
    verdict(
        status == 0,
        "corrected labels can be trained on"
        if status == 0
        else "no command takes what the audit asks people to fill in",
    )


if __name__ == "__main__":
    main()

"""A CSV of labels as annotation tools and spreadsheets write it.

BOM, semicolons, tabs, 1.0 for 1, an empty cell or -1 for "I don't know", file names instead of rows.
UCSC-REAL/cifar-10-100n#4, cleanlab/cleanlab#1156 (empty cells), Label Studio CSV export (image, choice).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from wild import actual_rate, dataset, nb, picture, scratch, verdict


def main() -> None:
    root = scratch("40")
    rng = np.random.default_rng(0)
    for row in range(40):
        picture(root / "d" / ("cat", "dog")[row % 2] / f"{row:03}.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    files = dataset("image_folder", root=root / "d").source_names
    names = [Path(each).parent.name for each in files]
    numbers = [("cat", "dog").index(each) for each in names]
    texts = {
        "BOM": "\ufeffobserved\n" + "".join(f"{each}\n" for each in names),
        "semicolon": "index;observed\n" + "".join(f"{row};{each}\n" for row, each in enumerate(names)),
        "tabs": "index\tobserved\n" + "".join(f"{row}\t{each}\n" for row, each in enumerate(names)),
        "floats": "observed\n" + "".join(f"{each}.0\n" for each in numbers),
        "blank after name": "observed\n" + "".join(f"{each} \n" for each in names),
        "empty cell": "index,observed\n"
        + "".join(f"{row},{'' if row == 3 else each}\n" for row, each in enumerate(numbers)),
        "minus one": "observed\n" + "".join(f"{-1 if row == 3 else each}\n" for row, each in enumerate(numbers)),
        "file names": "file,observed\n"
        + "".join(f"{file},{each}\n" for file, each in sorted(zip(files, names, strict=True), reverse=True)),
        "index float": "index,observed\n" + "".join(f"{row}.0,{each}\n" for row, each in enumerate(names)),
        "twice": "index,observed\n0,cat\n" + "".join(f"{row},{each}\n" for row, each in enumerate(names)),
    }
    bad = []
    for name, text in texts.items():
        (root / "labels.csv").write_text(text, encoding="utf-8")
        print("--", name)
        status, output = nb(
            "labels",
            "import",
            root / "labels.csv",
            "audit",
            "dataset=image_folder",
            f"dataset.root={root / 'd'}",
            "--output",
            root / name.replace(" ", "-"),
        )
        correct = status == 0 and actual_rate(output) == 0
        if status not in (0, 2) or (status == 0 and not correct):
            bad.append(f"{name}: status {status}, {'other labels accepted' if status == 0 else 'internal error'}")
        if name in ("floats", "file names", "blank after name") and not correct:
            bad.append(f"{name}: not read (status {status})")
    verdict(not bad, "; ".join(bad) or "all read or refused")


if __name__ == "__main__":
    main()

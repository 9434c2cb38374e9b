"""16-bit gray PNG (X-ray, microscopy, depth) must keep its gray values.

pytorch/vision#2218, python-pillow/Pillow#2574.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("01")
    for name, level in (("dense", 40000), ("thin", 9000)):
        for row in range(12):
            pixels = (level + 200 * np.arange(256).reshape(16, 16) / 256 * (row + 1)).astype(np.uint16)
            picture(root / "xray" / name / f"{row:02}.png", pixels)
    data = dataset("image_folder", root=root / "xray")
    values = np.unique(np.concatenate([data.train.inputs[:].ravel(), data.test.inputs[:].ravel()]))
    create_labels(root / "labels", "audit", "dataset=image_folder", f"dataset.root={root / 'xray'}")
    print("gray values after reading:", values[:8], "right: about", 9000 // 257, "to", 42400 // 257)
    verdict(
        len(values) > 5,
        "16-bit gray images keep their contrast" if len(values) > 5 else f"all pixels of all classes read as {values}",
    )


if __name__ == "__main__":
    main()

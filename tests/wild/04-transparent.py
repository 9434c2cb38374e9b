"""Drawings, logos and stickers with black strokes on transparent ground.

They must not all become black. NVIDIA/DIGITS#85, rom1504/img2dataset#67,
kohya-ss/sd-scripts#1269, pytorch/vision#5510.
"""

from __future__ import annotations

import numpy as np
from wild import dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("04")
    for row in range(20):
        name = ("circle", "cross")[row % 2]
        alpha = np.zeros((16, 16), np.uint8)
        y, x = np.mgrid[:16, :16]
        alpha[(np.hypot(y - 8, x - 8) < 5) if row % 2 == 0 else (abs(y - x) < 2)] = 255
        rgba = np.zeros((16, 16, 4), np.uint8)
        rgba[..., 3] = alpha
        picture(root / "d" / name / f"{row:02}.png", rgba)
    data = dataset("image_folder", root=root / "d")
    images = data.train.inputs[:]
    verdict(
        len(np.unique(images)) > 1,
        f"{len(np.unique(images.reshape(len(images), -1), axis=0))} different images of 2 shapes; values {np.unique(images)[:4]}",
    )


if __name__ == "__main__":
    main()

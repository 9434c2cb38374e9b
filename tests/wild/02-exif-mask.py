"""A phone photograph with an EXIF orientation and a mask drawn as viewers show it.

Annotation tools (LabelMe, CVAT, Label Studio) and huggingface/datasets (pull 6739), facebookresearch/detectron2#262
turn the image; open-edge-platform/datumaro#1756.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("02")
    for row in range(16):
        shown = np.full((32, 32, 3), 30, np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        top = 2 + row % 8
        shown[top : top + 8, 4:20] = 220
        mask[top : top + 8, 4:20] = 1  # as people see it
        stored = np.rot90(shown, 1).copy()  # as the sensor stored it: turn by 270 to show
        exif = Image.Exif()
        exif[0x0112] = 6  # 6: rotate 90 clockwise to show
        picture(root / "p/images" / f"{row:02}.png", stored, exif=exif)
        picture(root / "p/masks" / f"{row:02}.png", mask)
    data = dataset("image_mask_folder", root=root / "p")
    bright = data.train.inputs[:][:, 0] > 128
    overlap = (bright & (data.train.targets == 1)).sum() / (data.train.targets == 1).sum()
    create_labels(root / "labels", "image_mask_folder", f"dataset.root={root / 'p'}", "dataset.size=32", "noise=clean")
    verdict(overlap > 0.95, f"share of object pixels of the mask that lie on the object: {overlap:.2f} (right: 1.00)")


if __name__ == "__main__":
    main()

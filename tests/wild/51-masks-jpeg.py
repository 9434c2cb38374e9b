"""A mask that was once a JPEG has every gray near 0 and 255, which are not 200 classes.

romi/plant-3d-vision#140, mantasu/glasses-detector#23,
MIC-DKFZ/nnUNet#2404 ("Found 0 1 2 3 4 …").
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("51")
    rng = np.random.default_rng(0)
    for row in range(16):
        pixels = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        y, x = np.mgrid[:32, :32]
        inside = np.hypot(y - 14 - row % 4, x - 15) < 9
        pixels[inside] += 150
        mask[inside] = 255
        data = io.BytesIO()
        Image.fromarray(mask).save(data, "jpeg", quality=75)
        picture(root / "p/images" / f"{row:02}.png", pixels)
        picture(root / "p/masks" / f"{row:02}.png", np.asarray(Image.open(data)))
    bad = []
    for more in ((), ("dataset.values={255: 1}",)):
        status, _ = create_labels(
            root / f"l{len(more)}",
            "image_mask_folder",
            f"dataset.root={root / 'p'}",
            "dataset.size=32",
            "noise=clean",
            *more,
        )
        if status == 0:
            data = dataset("image_mask_folder", root=root / "p", size=32, **({"values": {255: 1}} if more else {}))
            print("classes made:", data.num_classes)
            if data.num_classes > 2:
                bad.append(data.num_classes)
    verdict(not bad, f"classes made of two: {bad}" if bad else "refused or read as two")


if __name__ == "__main__":
    main()

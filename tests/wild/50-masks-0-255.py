"""Binary masks of 0 and 255 (Carvana, ISIC, Kvasir, crack sets), where 255 is the object.

Read as "no label" it leaves nothing but background, which must be refused or reported, not trained.
MIC-DKFZ/nnUNet#1777 ("Expected [0, 1], Found [0, 255]"), #1678, qubvel/segmentation_models.pytorch threads.
"""

from __future__ import annotations

import numpy as np
from wild import nb, picture, scratch, verdict


def main() -> None:
    root = scratch("50")
    rng = np.random.default_rng(0)
    for row in range(16):
        pixels = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        pixels[8:20, 8:20] += 150
        mask[8:20, 8:20] = 255
        picture(root / "p/images" / f"{row:02}.png", pixels)
        picture(root / "p/masks" / f"{row:02}.png", mask)
    status, text = nb(
        "run",
        "image_mask_folder",
        f"dataset.root={root / 'p'}",
        "dataset.size=32",
        "noise=clean",
        "budget.network=unet:8",
        "budget.epochs=1",
    )
    reported = status == 2 or "value 255" in text
    verdict(reported, "reported or refused" if reported else "trains on background alone")


if __name__ == "__main__":
    main()

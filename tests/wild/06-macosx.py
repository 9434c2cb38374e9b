"""An archive made by a Mac.

It has `__MACOSX/` beside the classes, `._NAME` beside each file, `.ipynb_checkpoints` in a class. pytorch/vision#2831, #109,
BiaPyX/BiaPy#125, OpenNeuroOrg/openneuro#2520.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, dataset, picture, scratch, verdict


def main() -> None:
    root = scratch("06")
    rng = np.random.default_rng(0)
    double = bytes.fromhex("00051607000200004d6163204f532058") + bytes(60)
    for row in range(20):
        place = root / "d" / ("cat", "dog")[row % 2] / f"{row:02}.png"
        picture(place, rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        place.with_name("._" + place.name).write_bytes(double)
        other = root / "d" / "__MACOSX" / place.parent.name / ("._" + place.name)
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(double)
    status, _ = create_labels(root / "labels", "audit", "dataset=image_folder", f"dataset.root={root / 'd'}")
    good = status == 0
    if good:
        data = dataset("image_folder", root=root / "d", validation_fraction=0.0)
        good = data.class_names == ("cat", "dog") and data.source_size == 20
    skip, _ = create_labels(
        root / "labels2", "audit", "dataset=image_folder", f"dataset.root={root / 'd'}", "dataset.on_error=skip"
    )
    if skip == 0:
        print(
            "with on_error=skip the classes are", dataset("image_folder", root=root / "d", on_error="skip").class_names
        )
    verdict(
        good,
        "20 images of cat and dog are read"
        if good
        else "what the Mac left is taken for damaged images, or for a class",
    )


if __name__ == "__main__":
    main()

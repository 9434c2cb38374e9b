"""Labels in .npz, which must be read as meant or be refused.

Soft or rounded floats, text, one-hot, multi-label (MedMNIST/MedMNIST#46, #53: ChestMNIST is (N, 14)), one-based:
none may become another class.
"""

from __future__ import annotations

import numpy as np
from wild import create_labels, scratch, verdict


def main() -> None:
    root = scratch("30")
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    n = np.arange(60)
    kinds = {
        "soft": np.where(n % 2, 0.9, 0.2),
        "float near": np.array([0, 0.99999994, 2.0])[n % 3],
        "nan": np.where(n == 3, np.nan, n % 2),
        "text": np.array(["cat", "dog"])[n % 2],
        "one-hot": np.eye(2, dtype=np.int64)[n % 2],
        "column": (n % 2)[:, None],
        "multi-label": np.random.default_rng(1).integers(0, 2, (60, 14)),
        "uint8 255 none": np.where(n == 3, 255, n % 2).astype(np.uint8),
        "one-based": 1 + n % 2,
        "bool": (n % 2).astype(bool),
    }
    bad = []
    for name, labels in kinds.items():
        np.savez(root / "t.npz", images=images, labels=labels)
        print("--", name)
        status, _ = create_labels(
            root / name.replace(" ", "-"), "audit", "dataset=npz", f"dataset.path={root / 't.npz'}"
        )
        if status not in (0, 2):
            bad.append(f"{name}: internal error")
        if status == 0 and name in ("soft", "float near", "nan", "uint8 255 none"):
            bad.append(f"{name}: taken as classes")
        if status == 0 and name == "one-based":
            bad.append("one-based: an empty class 0, silently")
    verdict(not bad, "; ".join(bad) or "all read or refused")


if __name__ == "__main__":
    main()

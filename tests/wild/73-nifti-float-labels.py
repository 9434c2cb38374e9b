"""Labels stored as floats, or scaled by scl_slope, that miss integers by rounding (2.9999998 for 3).

They must be 3, or be refused. TorchIO-project/torchio#220 (0.9882, 2.0235, 3.0118 …), MIC-DKFZ/nnUNet#2868, #1183 (10.92).
"""

from __future__ import annotations

import numpy as np
from nifti import patient
from wild import create_labels, dataset, scratch, verdict


def main() -> None:
    root = scratch("73")
    bad = []
    for name, change in (
        ("just below", lambda mask: np.where(mask > 0, np.float32(2.9999998), 0).astype(np.float32)),
        ("resampled", lambda mask: np.where(mask > 0, 2.6, 0).astype(np.float32)),
        ("nan", lambda mask: np.where(mask > 0, 3, np.nan).astype(np.float32)),
    ):
        for number in range(5):
            patient(
                root / name.replace(" ", "-"),
                number,
                change=lambda volume, labels, change=change: (volume, change(labels), None, None),
            )
        print("--", name)
        status, _ = create_labels(
            root / f"l-{name.replace(' ', '-')}",
            "scenes",
            "dataset=nifti_slices",
            f"dataset.root={root / name.replace(' ', '-')}",
            "dataset.size=32",
            "noise=clean",
        )
        if status == 0:
            seen = np.unique(dataset("nifti_slices", root=root / name.replace(" ", "-"), size=32).train.targets)
            print("classes read:", seen)
            if name != "just below" or 3 not in seen:
                bad.append(f"{name}: read as {seen.tolist()}")
        elif status != 2:
            bad.append(f"{name}: status {status}")
    verdict(not bad, "; ".join(bad) or "read as 3 or refused")


if __name__ == "__main__":
    main()

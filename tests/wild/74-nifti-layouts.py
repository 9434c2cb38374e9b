"""(x, y, z, 1) volumes, plain .nii files, and the layout of nnU-Net and the Decathlon (imagesTr/, labelsTr/).

Project-MONAI/MONAI#7185, MIC-DKFZ/nnUNet#2925, #508.
"""

from __future__ import annotations

import shutil

from nifti import patient
from wild import create_labels, scratch, verdict


def main() -> None:
    root = scratch("74")
    bad = []
    for number in range(5):
        patient(root / "four", number, change=lambda volume, labels: (volume[..., None], labels[..., None], None, None))
    for number in range(5):
        patient(root / "nii", number, suffix=".nii")
    for number in range(5):
        patient(root / "tmp", number)
        for kind, file in (("imagesTr", f"case_{number:03}_0000.nii.gz"), ("labelsTr", f"case_{number:03}.nii.gz")):
            (root / "nnunet" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(
                root / "tmp" / f"P{number}" / ("GT.nii.gz" if kind == "labelsTr" else f"P{number}.nii.gz"),
                root / "nnunet" / kind / file,
            )
    for name in ("four", "nii", "nnunet"):
        status, _ = create_labels(
            root / f"l-{name}",
            "scenes",
            "dataset=nifti_slices",
            f"dataset.root={root / name}",
            "dataset.size=32",
            "noise=clean",
        )
        if status != 0:
            bad.append(f"{name} (status {status})")
    verdict(not bad, "not read: " + ", ".join(bad) if bad else "all read")


if __name__ == "__main__":
    main()

"""Slices of medical volumes in NIfTI files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks import resize_mask
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

SEGTHOR = ("background", "oesophagus", "heart", "trachea", "aorta")

Slices = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(N, 1, H, W) images and (N, H, W) masks of one patient."""


class NiftiSlices(DatasetSource):
    """Slices of NIfTI volumes with masks in the layout of SegTHOR: `root/PATIENT/PATIENT.nii.gz`, `root/PATIENT/GT.nii.gz`.

    Slices along the last axis that show an object (or all slices) are clipped to an intensity window and resized to `size`
    (images bilinear, masks nearest neighbor). Splits are by patient, so no patient is in two of them: either named
    patients, or fractions drawn by `split_seed`. Needs nibabel: `pip install nibabel`.
    """

    own_files = True
    tasks = ("segmentation",)

    root: Path | None = parameter(None, help="Folder of patients, or the folder that contains it as `train`")
    size: int = parameter(256, ge=16, help="Side of the slices in pixels", always_in_label=True)
    window: list[float] = parameter(
        [-200.0, 300.0], help="Lowest and highest intensity of the window (Hounsfield units for CT)"
    )
    every_slice: bool = parameter(False, help="Use slices without objects as well")
    test_patients: list[str] | None = parameter(
        None, help="Names of the test patients (default: drawn by `test_fraction`)", access="value"
    )
    validation_patients: list[str] | None = parameter(
        None, help="Names of the validation patients (default: drawn by `validation_fraction`)", access="value"
    )
    class_names: list[str] | None = parameter(
        None, help="Names of the classes, background first (default: those of SegTHOR)", access="value"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the volumes and masks of all patients."""
        return {} if self.root is None else {"patients": FileTree(self._folder, (".nii.gz",))}

    @property
    def _folder(self) -> Path:
        """Folder of patients."""
        assert self.root is not None
        root = expand_user(self.root)
        return root / "train" if (root / "train").is_dir() else root

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read every volume."""
        if self.root is None or not expand_user(self.root).is_dir():
            raise UserError(
                f"dataset.root: must be the folder of patients, e.g. dataset.root=SegTHOR, but got {self.root}"
            )
        if len(self.window) != 2 or self.window[0] >= self.window[1]:
            raise UserError(f"dataset.window: needs a lower and a higher intensity, but got {self.window}")
        root = self._folder
        # Sorted, because the order of a folder depends on the file system, and splits are drawn by position.
        patients = sorted(folder.name for folder in root.iterdir() if _is_patient(folder))
        if len(patients) < 3:
            raise UserError(f"dataset.root: {root} has {len(patients)} patients with a GT.nii.gz, but needs three")
        test, validation = self._split_patients(patients)
        names = tuple(self.class_names or SEGTHOR)
        slices = {patient: self._read_slices(root / patient, len(names)) for patient in patients}
        train = [patient for patient in patients if patient not in test]
        return (
            _concatenate({patient: slices[patient] for patient in train}, [name in validation for name in train]),
            _concatenate({patient: slices[patient] for patient in sorted(test)}, None),
            names,
        )

    def _split_patients(self, patients: list[str]) -> tuple[set[str], set[str]]:
        """Return the patients of the test and the validation split."""
        order = [patients[number] for number in Stream("patients", self.split_seed).permutation(len(patients))]
        test = set(self.test_patients or order[: max(1, round(self.test_fraction * len(patients)))])
        others = [patient for patient in order if patient not in test]
        validation = set(self.validation_patients or others[: round(self.validation_fraction * len(others))])
        unknown = sorted((test | validation) - set(patients))
        if unknown:
            raise UserError(f"dataset: unknown patients {', '.join(unknown)}; known: {', '.join(patients[:6])} …")
        both = sorted(test & validation)
        if both:
            raise UserError(f"dataset: {', '.join(both)} cannot be in the test and in the validation split")
        if not set(patients) - test - validation:
            raise UserError("dataset: no patient is left for training; name fewer test or validation patients")
        return test, validation

    def _read_slices(self, folder: Path, num_classes: int) -> Slices:
        volume, labels = (_read_volume(folder / name) for name in (f"{folder.name}.nii.gz", "GT.nii.gz"))
        if volume.shape != labels.shape:
            raise UserError(f"{folder}: the volume has the shape {volume.shape}, but its mask {labels.shape}")
        # Checked before the conversion to uint8, which would wrap such values around to valid ones.
        invalid = labels[(labels < 0) | (labels >= num_classes)]
        if invalid.size:
            raise UserError(
                f"{folder / 'GT.nii.gz'}: contains the value {invalid[0]:g}, but classes range from 0 to {num_classes - 1}"
            )
        numbers = [number for number in range(labels.shape[2]) if self.every_slice or (labels[:, :, number] > 0).any()]
        if not numbers:
            raise UserError(f"{folder / 'GT.nii.gz'}: no slice contains an object; remove the patient")
        images = np.stack([self._to_image(volume[:, :, number]) for number in numbers])
        shape = (self.size, self.size)
        masks = np.stack([resize_mask(labels[:, :, number].astype(np.uint8), shape) for number in numbers])
        return images[:, None], masks

    def _to_image(self, intensities: NDArray[Any]) -> NDArray[np.uint8]:
        """Return one slice, clipped to the window and resized."""
        from PIL import Image

        low, high = self.window
        scaled = np.rint(255 * (np.clip(intensities, low, high) - low) / (high - low)).astype(np.uint8)
        return np.asarray(Image.fromarray(scaled).resize((self.size, self.size), Image.Resampling.BILINEAR))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write four patients with small volumes."""
        import nibabel

        for number in range(4):
            stream = Stream("nifti example", number)
            volume, labels = stream.uniform(20, 20, 12) * 300 - 150, np.zeros((20, 20, 12), dtype=np.uint8)
            labels[5:15, 5:15, 1:], volume[5:15, 5:15, 1:] = 1 + number % 4, 200
            patient = folder / f"Patient_{number:02}"
            patient.mkdir()
            for name, array in ((patient.name, volume.astype(np.float32)), ("GT", labels)):
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), patient / f"{name}.nii.gz")  # type: ignore[no-untyped-call]
        return {"root": str(folder), "size": 16, "validation_fraction": 0.4}


def _is_patient(folder: Path) -> bool:
    # Hidden folders are left behind by tools.
    return folder.name[0] != "." and (folder / "GT.nii.gz").is_file()


def _read_volume(file: Path) -> NDArray[Any]:
    """Return the (X, Y, Z) values of a NIfTI file."""
    try:
        import nibabel
    except ImportError:
        raise UserError("dataset: nibabel is not installed; run `python -m pip install nibabel`") from None
    try:
        # `dataobj` keeps the stored type where it can; `get_fdata` would convert every volume to float64.
        return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
    except Exception as error:  # nibabel raises many types for damaged files
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{file}: missing, damaged or not a NIfTI volume ({reason}); replace it") from None


def _concatenate(slices: dict[str, Slices], is_validation: list[bool] | None) -> RawSplit:
    """Return the slices of all patients, named by patient and number."""
    images, masks = (np.concatenate(arrays) for arrays in zip(*slices.values(), strict=True))
    sizes = [len(patient_masks) for _, patient_masks in slices.values()]
    names = tuple(f"{patient}_{row:04}" for patient, size in zip(slices, sizes, strict=True) for row in range(size))
    validation_mask = None if is_validation is None else np.repeat(is_validation, sizes)
    return RawSplit(images, masks, validation_mask=validation_mask, names=names)

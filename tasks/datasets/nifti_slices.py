"""Slices of medical volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.masks import resize_mask
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

SEGTHOR = ("background", "oesophagus", "heart", "trachea", "aorta")


class NiftiSlices(DatasetSource):
    """Slices of NIfTI volumes with masks, laid out as SegTHOR is: `root/PATIENT/PATIENT.nii.gz` with `root/PATIENT/GT.nii.gz`.

    Slices along the last axis with any object are used (or all), clipped to a window of intensities, brought to `size` (images
    linear, masks nearest). Splits are by patient, so that no patient is in two of them: named ones, or shares of them
    by the seed of the splits. Needs nibabel: `pip install nibabel`.
    """

    tasks = ("segmentation",)

    root: Path | None = parameter(None, help="the folder of patients; with a folder `train` in it, that one")
    size: int = parameter(256, ge=16, help="side of the slices in pixels", always_in_label=True)
    window: list[float] = parameter([-200.0, 300.0], help="lowest and highest intensity kept (Hounsfield units for CT)")
    every_slice: bool = parameter(False, help="use slices without any object as well")
    test_patients: list[str] | None = parameter(None, help="names; without it, a share of `test_fraction`")
    validation_patients: list[str] | None = parameter(None, help="names; without it, a share of `validation_fraction`")
    class_names: list[str] | None = parameter(None, help="from the background on; by default those of SegTHOR")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read every volume."""
        if self.root is None or not self.root.expanduser().is_dir():
            raise UserError(
                f"dataset.root: give the folder of patients, e.g. dataset.root=SegTHOR, but got {self.root}"
            )
        if len(self.window) != 2 or self.window[0] >= self.window[1]:
            raise UserError(f"dataset.window: needs a lower and a higher intensity, but got {self.window}")
        root = self.root.expanduser()
        root = root / "train" if (root / "train").is_dir() else root
        patients = sorted(each.name for each in root.iterdir() if (each / "GT.nii.gz").is_file())
        if len(patients) < 3:
            raise UserError(f"dataset.root: {root} has {len(patients)} patients with a GT.nii.gz, but three are needed")
        test, validation = self._chosen(patients)
        names = tuple(self.class_names or SEGTHOR)
        slices = {each: self._slices(root / each, len(names)) for each in patients}
        train = [each for each in patients if each not in test]
        examples = _joined({each: slices[each] for each in train}, [each in validation for each in train])
        return examples, _joined({each: slices[each] for each in sorted(test)}, None), names

    def _chosen(self, patients: list[str]) -> tuple[set[str], set[str]]:
        """Patients for testing and for validation."""
        order = [patients[each] for each in Stream("patients", self.split_seed).permutation(len(patients))]
        test = set(self.test_patients or order[: max(1, round(self.test_fraction * len(patients)))])
        rest = [each for each in order if each not in test]
        validation = set(self.validation_patients or rest[: round(self.validation_fraction * len(rest))])
        unknown = sorted((test | validation) - set(patients))
        if unknown:
            raise UserError(
                f"dataset: there are no patients {', '.join(unknown)}; there are {', '.join(patients[:6])} …"
            )
        both = sorted(test & validation)
        if both:
            raise UserError(f"dataset: {', '.join(both)} cannot be in the test and in the validation split")
        if not set(patients) - test - validation:
            raise UserError("dataset: no patient is left for training")
        return test, validation

    def _slices(self, folder: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(N, 1, H, W) images and (N, H, W) masks of one patient."""
        from PIL import Image

        volume, labels = (_volume(folder / name) for name in (f"{folder.name}.nii.gz", "GT.nii.gz"))
        if volume.shape != labels.shape:
            raise UserError(f"{folder}: the volume is {volume.shape}, but its mask {labels.shape}")
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.size:
            raise UserError(
                f"{folder / 'GT.nii.gz'}: holds the value {wrong[0]:g}, but classes go from 0 to {classes - 1}"
            )
        low, high = self.window
        chosen = [each for each in range(labels.shape[2]) if self.every_slice or (labels[:, :, each] > 0).any()]
        if not chosen:
            raise UserError(f"{folder / 'GT.nii.gz'}: no slice has an object; leave the patient out")
        images = np.empty((len(chosen), 1, self.size, self.size), dtype=np.uint8)
        masks = np.empty((len(chosen), self.size, self.size), dtype=np.uint8)
        for row, each in enumerate(chosen):
            scaled = np.rint(255 * (np.clip(volume[:, :, each], low, high) - low) / (high - low)).astype(np.uint8)
            picture = Image.fromarray(scaled).resize((self.size, self.size), Image.Resampling.BILINEAR)
            images[row, 0] = np.asarray(picture)
            masks[row] = resize_mask(labels[:, :, each].astype(np.uint8), (self.size, self.size))
        return images, masks

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Four patients with small volumes."""
        import nibabel

        for number in range(4):
            stream = Stream("nifti example", number)
            volume, labels = stream.uniform(20, 20, 12) * 300 - 150, np.zeros((20, 20, 12), dtype=np.uint8)
            labels[5:15, 5:15, 1:], volume[5:15, 5:15, 1:] = 1 + number % 4, 200
            place = folder / f"Patient_{number:02}"
            place.mkdir()
            for name, array in ((place.name, volume.astype(np.float32)), ("GT", labels)):
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), place / f"{name}.nii.gz")  # type: ignore[no-untyped-call]
        return {"root": str(folder), "size": 16, "validation_fraction": 0.4}


def _volume(file: Path) -> NDArray[Any]:
    """(X, Y, Z) numbers of a NIfTI file."""
    try:
        import nibabel
    except ImportError:
        raise UserError("dataset: nibabel is not installed; `python -m pip install nibabel`") from None
    try:
        return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
    except Exception as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{file}: missing, damaged or not a NIfTI volume ({reason}); replace it") from None


def _joined(slices: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]], held_out: list[bool] | None) -> RawSplit:
    """All patients' slices one after the other; each has its patient's name and its number."""
    images, masks = (np.concatenate(each) for each in zip(*slices.values(), strict=True))
    names = tuple(f"{patient}_{row:04}" for patient, (_, own) in slices.items() for row in range(len(own)))
    marks = None
    if held_out is not None:
        marks = np.repeat(held_out, [len(own) for _, own in slices.values()])
    return RawSplit(images, masks, validation_mask=marks, names=names)

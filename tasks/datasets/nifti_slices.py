"""Slices of medical volumes in NIfTI files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.geometry import geometry_notes, parse_geometry
from noisybench.data.images.cache import problem_list
from noisybench.data.masks.layout import MaskLayout
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.source import DatasetSource
from noisybench.data.targets import IGNORED
from noisybench.data.volumes.layouts import LAYOUTS, PatientFiles, VolumeFolder, find_patients, is_nnunet
from noisybench.data.volumes.slices import (
    PatientSlices,
    count_labels,
    cut_slices,
    describe_slices,
    patient_copies,
    to_classes,
)
from noisybench.data.volumes.volumes import VOLUME_SUFFIXES, read_labeled_volume
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

SEGTHOR = ("background", "oesophagus", "heart", "trachea", "aorta")

MAX_PROPOSED = 12
"""Largest number of values for which a message proposes a mapping."""


class NiftiSlices(DatasetSource):
    """Slices of NIfTI volumes with masks: SegTHOR, nnU-Net, Medical Segmentation Decathlon, or your own.

    `root` contains one folder per patient, `PATIENT/PATIENT.nii.gz` and `PATIENT/GT.nii.gz`, or `imagesTr` and `labelsTr`,
    with `dataset.json` for the names of the classes. Volumes and masks are turned to the canonical axes by their affines,
    and must have the same geometry. Slices that show an object (or all slices) are clipped to an intensity window and
    resized to `size` by `resize_mode` (images bilinear, masks nearest neighbor). No patient is in two splits: splits are
    the folder's own (`labelsTs`, `test`), named patients, or fractions drawn by `split_seed`. Needs nibabel:
    `pip install nibabel`.
    """

    license = License("not applicable", access="own files")
    own_files = True
    tasks = ("segmentation",)

    root: Path | None = parameter(None, help="Folder of patients, or the folder that contains it as `train`")
    size: int | list[int] = parameter(
        256, help="Side of square slices, or height and width such as 256x512, in pixels", always_in_label=True
    )
    resize_mode: Literal["resize", "letterbox", "crop", "tile"] = parameter(
        "resize",
        help="Treatment of slices of another shape: stretch them, pad them (without labels), crop them at the center, or cut "
        "them into padded tiles",
    )
    window: list[float] = parameter(
        [-200.0, 300.0], help="Lowest and highest intensity of the window (Hounsfield units for CT)"
    )
    plane: Literal["axial", "coronal", "sagittal"] = parameter(
        "axial", help="Plane of the slices, after volumes are turned to the canonical axes"
    )
    channel: int | None = parameter(
        None, ge=0, help="Channel to read, if volumes have several (`CASE_0001.nii.gz` or a fourth axis), from 0"
    )
    values: dict[int, int] | None = parameter(
        None, help="Class of each value in the masks, such as {0: 0, 4: 1}; 255 as a class means no label"
    )
    allow_unequal_geometry: bool = parameter(
        False, help="Match voxels by position where the affines of volume and mask differ"
    )
    every_slice: bool = parameter(False, help="Use slices without objects as well")
    test_patients: list[str] | None = parameter(
        None, help="Names of the test patients (default: drawn by `test_fraction`)", access="value"
    )
    validation_patients: list[str] | None = parameter(
        None, help="Names of the validation patients (default: drawn by `validation_fraction`)", access="value"
    )
    class_names: list[str] | None = parameter(
        None, help="Names of the classes, background first (default: of `dataset.json`, or of SegTHOR)", access="value"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the volumes, masks and descriptions of all patients."""
        return (
            {}
            if self.root is None
            else {"patients": FileTree(expand_user(self.root), (*VOLUME_SUFFIXES, "dataset.json"))}
        )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read every volume."""
        if self.root is None or not expand_user(self.root).is_dir():
            raise UserError(
                f"dataset.root: must be the folder of patients, e.g. dataset.root=SegTHOR, but got {self.root}"
            )
        if len(self.window) != 2 or not self.window[0] < self.window[1]:
            raise UserError(f"dataset.window: needs a lower and a higher intensity, but got {self.window}")
        root = expand_user(self.root)
        folder = find_patients(root, self.channel)
        files = {**folder.train, **folder.validation, **folder.test}
        if len(files) < 3:
            raise UserError(
                f"dataset.root: {root} has {len(files)} patients with a mask (GT.nii.gz), but needs three; {LAYOUTS}"
            )
        self._check_named_patients(folder)
        table, names = self._class_table(folder, root)
        patients, counts = self._read_patients(files, table, root)
        names = names or _numbered_names(counts, root)
        copies = patient_copies(patients)
        test, validation = self._split_patients(folder, copies)
        notes = folder.notes + describe_slices(patients, copies) + self._unused_classes(counts, table, names)
        train = [patient for patient in sorted(files) if patient not in test]
        is_validation = [name in validation for name in train]
        return (
            self._join({patient: patients[patient] for patient in train}, is_validation, notes),
            self._join({patient: patients[patient] for patient in sorted(test)}, None, ()),
            names,
        )

    def _check_named_patients(self, folder: VolumeFolder) -> None:
        """Refuse named patients that do not exist, are in two splits, or in splits that the folder has itself.

        Raises:
            UserError: describes the problem.
        """
        for split, own, named in (
            ("test", folder.test, self.test_patients), ("validation", folder.validation, self.validation_patients),
        ):  # fmt: skip
            if own and named:
                raise UserError(
                    f"dataset.{split}_patients: the folder has a {split} split of its own; remove the parameter"
                )
        test, validation = set(self.test_patients or ()), set(self.validation_patients or ())
        unknown = sorted((test | validation) - set(folder.train))
        if unknown:
            known = sorted(folder.train)
            raise UserError(f"dataset: unknown patients {', '.join(unknown)}; known: {', '.join(known[:6])} …")
        both = sorted(test & validation)
        if both:
            raise UserError(f"dataset: {', '.join(both)} cannot be in the test and in the validation split")

    def _split_patients(self, folder: VolumeFolder, copies: Mapping[str, set[str]]) -> tuple[set[str], set[str]]:
        """Return the patients of the test and the validation split; drawn splits do not separate copies."""
        # Sorted, because the order of a folder depends on the file system, and splits are drawn by position.
        drawn = sorted(folder.train)
        order = [drawn[number] for number in Stream("patients", self.split_seed).permutation(len(drawn))]
        test = set(folder.test or self.test_patients or ())
        reserved = set(folder.validation or self.validation_patients or ())
        if not test:
            free = [patient for patient in order if patient not in reserved]
            test = _with_copies(free[: max(1, round(self.test_fraction * len(drawn)))], copies) - reserved
        others = [patient for patient in order if patient not in test]
        validation = reserved
        for patient in others[: 0 if reserved else round(self.validation_fraction * len(others))]:
            further = validation | (copies[patient] & set(others))
            validation = further if further < set(others) else validation
        if not set(drawn) - test - validation:
            raise UserError(
                "dataset: no patient is left for training; add patients with other volumes, or name fewer test or validation "
                "patients"
            )
        return test, validation

    def _class_table(self, folder: VolumeFolder, root: Path) -> tuple[dict[int, int], tuple[str, ...] | None]:
        """Return the class of each value, and the names of the classes (None if only the masks show their number)."""
        given = None if self.class_names is None else tuple(self.class_names)
        if self.values is not None:
            table = {0: 0} | {int(value): int(target) for value, target in self.values.items()}
            targets = {target for target in table.values() if target != IGNORED}
            if min(targets) < 0 or max(targets) > IGNORED:
                raise UserError(
                    f"dataset.values: classes range from 0 to 254, and 255 means no label, but got {self.values}"
                )
            return table, given or _numbers(max(targets) + 1)
        if folder.class_names is not None:
            table = {value: number for number, value in enumerate(folder.class_names)}
            names = given or tuple(folder.class_names.values())
            if len(names) != len(table):
                raise UserError(
                    f"dataset.class_names: has {len(names)} names, but dataset.json declares {len(table)} classes"
                )
            return table | ({} if folder.ignored is None else {folder.ignored: IGNORED}), names
        names_or_none = given or (None if is_nnunet(root) else SEGTHOR)
        return {value: value for value in range(len(names_or_none or range(IGNORED)))}, names_or_none

    def _read_patients(
        self, files: Mapping[str, PatientFiles], table: Mapping[int, int], root: Path
    ) -> tuple[dict[str, PatientSlices], dict[int, int]]:
        """Return the slices of each patient, and the number of voxels of each value in the masks.

        Raises:
            UserError: lists all files that cannot be used.
        """
        patients: dict[str, PatientSlices] = {}
        counts: dict[int, int] = {}
        problems, undeclared = [], []
        for name, each in files.items():
            try:
                volume = read_labeled_volume(each.volume, each.labels, each.channel, self.allow_unequal_geometry)
                found = count_labels(volume.labels)
                counts = {value: counts.get(value, 0) + found.get(value, 0) for value in sorted({*counts, *found})}
                if not set(found) <= set(table):
                    undeclared.append(each.labels)
                    continue
                low, high = self.window
                slices = cut_slices(volume, to_classes(volume.labels, table), self.plane, self.every_slice, (low, high))
                patients[name] = _check_slices(slices, each, self.window)
            except UserError as error:
                problems.append(str(error))
        if undeclared:
            problems.append(_undeclared_values(undeclared, counts, table))
        if problems:
            raise problem_list(problems)
        if all(table[value] in (0, IGNORED) for value in counts):
            raise UserError(f"dataset.root: the masks of {root} contain nothing but background; check their values")
        return patients, counts

    def _unused_classes(
        self, counts: Mapping[int, int], table: Mapping[int, int], names: tuple[str, ...]
    ) -> tuple[ReadingNote, ...]:
        used = {table[value] for value in counts}
        unused = [name for number, name in enumerate(names) if number not in used]
        return reading_note("unused_classes", "Classes do not occur in any mask", unused)

    def _join(
        self, patients: Mapping[str, PatientSlices], is_validation: list[bool] | None, notes: tuple[ReadingNote, ...]
    ) -> RawSplit:
        """Return the resized slices of patients, named by patient and number."""
        geometry = parse_geometry(self.size, self.resize_mode)
        slices = [
            (number, f"{name}_{row:04}", image, mask)
            for number, (name, each) in enumerate(patients.items())
            for row, (image, mask) in enumerate(zip(each.images, each.masks, strict=True))
        ]
        placed = [
            (number, name, place, place.image(image[None]), place.mask(mask))
            for number, name, image, mask in slices
            for place in geometry.placements((mask.shape[0], mask.shape[1]))
        ]
        # The part that a crop or a tile shows may have no label.
        placed = [example for example in placed if (example[4] != IGNORED).any()]
        if not placed:
            raise UserError(f"dataset.resize_mode: {self.resize_mode} leaves no labeled pixel; choose another mode")
        numbers, names, placements, images, masks = zip(*placed, strict=True)
        layout = MaskLayout(names, placements)
        return RawSplit(
            np.stack(images),
            np.stack(masks),
            validation_mask=None if is_validation is None else np.array(is_validation)[list(numbers)],
            names=layout.example_names,
            notes=notes + geometry_notes(geometry, placements, names),
            groups=np.array(list(patients), dtype=np.str_)[list(numbers)],
            mask_layout=layout,
        )

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write four patients with small volumes."""
        import nibabel

        for number in range(4):
            stream = Stream("nifti example", number)
            volume, labels = stream.uniform(20, 20, 12) * 150 - 150, np.zeros((20, 20, 12), dtype=np.uint8)
            labels[5:15, 5:15, 1:], volume[5:15, 5:15, 1:] = 1 + number % 4, 200
            patient = folder / f"Patient_{number:02}"
            patient.mkdir()
            for name, array in ((patient.name, volume.astype(np.float32)), ("GT", labels)):
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), patient / f"{name}.nii.gz")  # type: ignore[no-untyped-call]
        return {"root": str(folder), "size": 16, "validation_fraction": 0.4}


def _with_copies(patients: list[str], copies: Mapping[str, set[str]]) -> set[str]:
    return {copy for patient in patients for copy in copies[patient]}


def _check_slices(slices: PatientSlices, files: PatientFiles, window: list[float]) -> PatientSlices:
    """Refuse a patient whose slices show nothing.

    Raises:
        UserError: there are no slices, or all pixels have one value.
    """
    if not len(slices.masks):
        raise UserError(f"{files.labels}: no slice contains an object; remove the patient")
    value = int(slices.images.flat[0])
    if value in (0, 255) and (slices.images == value).all():
        side = "below" if value == 0 else "above"
        raise UserError(
            f"{files.volume}: every intensity is {side} dataset.window={window}; set the window to the range of these volumes"
        )
    return slices


def _undeclared_values(files: list[Path], counts: Mapping[int, int], table: Mapping[int, int]) -> str:
    """Return the message about values that stand for no class."""
    unknown = [value for value in counts if value not in table]
    listed = ", ".join(f"{value} ({counts[value]} voxels)" for value in unknown[:5]) + (
        " …" if len(unknown) > 5 else ""
    )
    known = sorted(value for value in table)
    allowed = f"from 0 to {known[-1]}" if known == list(range(len(known))) else ", ".join(map(str, known))
    proposal = ""
    if len(counts) <= MAX_PROPOSED and min(counts) >= 0:
        mapping = ", ".join(f"{value}: {number}" for number, value in enumerate(sorted({0, *counts})))
        proposal = f", such as dataset.values='{{{mapping}}}'"
    return (
        f"{files[0]}: contains undeclared values; {len(files)} masks contain {listed}, but values are {allowed}; declare the "
        f"class of each value{proposal}"
    )


def _numbers(count: int) -> tuple[str, ...]:
    return ("background", *(f"class {number}" for number in range(1, count)))


def _numbered_names(counts: Mapping[int, int], root: Path) -> tuple[str, ...]:
    """Return names for the values from 0 to the largest one.

    Raises:
        UserError: most of these values do not occur, so they are no class indices.
    """
    count = max(counts) + 1
    if count - len(counts) > max(4, len(counts)):
        mapping = ", ".join(f"{value}: {number}" for number, value in enumerate(sorted({0, *counts})))
        raise UserError(
            f"dataset.root: the masks of {root} have {len(counts)} values up to {max(counts)}, and no dataset.json names them; "
            f"declare the class of each value, such as dataset.values='{{{mapping}}}'"
        )
    return _numbers(count)

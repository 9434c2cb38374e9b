"""Folder layouts of medical volumes with masks: one folder per patient (SegTHOR), or nnU-Net and Medical Decathlon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.splits.names import find_splits
from noisybench.data.targets import IGNORED
from noisybench.data.volumes.volumes import VOLUME_SUFFIXES
from noisybench.errors import UserError
from noisybench.utils.file_listing import is_hidden
from noisybench.utils.places import read_text

LAYOUTS = (
    "expected PATIENT/PATIENT.nii.gz with PATIENT/GT.nii.gz, or the folders imagesTr and labelsTr of nnU-Net and the Medical "
    "Segmentation Decathlon"
)


@dataclass(frozen=True)
class PatientFiles:
    """Files of one patient.

    Attributes:
        volume: intensities.
        labels: mask.
        channel: channel to choose inside of the volume; None if it has one.
    """

    volume: Path
    labels: Path
    channel: int | None = None


@dataclass(frozen=True)
class VolumeFolder:
    """Patients of a folder by name.

    Attributes:
        train: patients of the training split, or all of them.
        validation: patients of the folder's own validation split.
        test: patients of the folder's own test split.
        class_names: names of the classes by value, if the folder declares them.
        ignored: value of voxels without a label, if the folder declares one.
        notes: facts about files that are not read.
    """

    train: Mapping[str, PatientFiles]
    validation: Mapping[str, PatientFiles] = field(default_factory=dict)
    test: Mapping[str, PatientFiles] = field(default_factory=dict)
    class_names: Mapping[int, str] | None = None
    ignored: int | None = None
    notes: tuple[ReadingNote, ...] = ()


def is_nnunet(root: Path) -> bool:
    """Return True if a folder has the layout of nnU-Net and the Medical Segmentation Decathlon."""
    return (root / "imagesTr").is_dir() or (root / "labelsTr").is_dir()


def find_patients(root: Path, channel: int | None) -> VolumeFolder:
    """Return the files of all patients.

    Args:
        root: folder in one of the layouts.
        channel: channel of patients with several.

    Raises:
        UserError: files are missing, or two of them stand for one volume.
    """
    if is_nnunet(root):
        return _read_nnunet(root, channel)
    folders = [folder.name for folder in root.iterdir() if folder.is_dir() and not is_hidden(folder.name)]
    # A patient called `test` is a patient.
    splits = find_splits((name for name in folders if not _volumes(root / name)), f"dataset.root: {root}")
    if not splits:
        return _merge({"train": root}, channel)
    if beside := [name for name in sorted(folders) if "GT" in _volumes(root / name)]:
        names = ", ".join(name for members in splits.names.values() for name in members)
        raise UserError(
            f"dataset.root: {root} has the patient {beside[0]} beside the splits {names}; move it into one of them"
        )
    return _merge({role: root / name for role, names in splits.names.items() for name in names}, channel)


def _merge(folders: Mapping[str, Path], channel: int | None) -> VolumeFolder:
    """Return the patients of the folders of all splits."""
    patients = {role: _read_folders(folder, channel) for role, folder in folders.items()}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if both := sorted(set(patients.get(first, {})) & set(patients.get(second, {}))):
            raise UserError(
                f"dataset.root: the patient {both[0]} is in {folders[first]} and in {folders[second]}; remove one"
            )
    read = {file for files in patients.values() for each in files.values() for file in (each.volume, each.labels)}
    unread, unlabeled = [], []
    for folder in folders.values():
        for patient in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)):
            files = _volumes(patient).values()
            if read.isdisjoint(files) and files:
                unlabeled.append(patient.name)
            unread += [
                f"{patient.name}/{file.name}" for file in files if file not in read and not read.isdisjoint(files)
            ]
        unread += [file.name for file in _volumes(folder).values()]
    notes = reading_note("unlabeled_volumes", "Patients without a mask GT were not read", unlabeled)
    notes += reading_note(
        "unread_volumes", "NIfTI files that are neither a patient's volume nor its mask were not read", unread
    )
    return VolumeFolder(
        patients.get("train", {}), patients.get("validation", {}), patients.get("test", {}), notes=notes
    )


def _read_folders(root: Path, channel: int | None) -> dict[str, PatientFiles]:
    """Return the patients that have a mask, from one folder for each."""
    patients = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not is_hidden(entry.name)):
        volumes = _volumes(folder)
        if "GT" not in volumes:
            continue
        if folder.name not in volumes:
            raise UserError(f"{folder}: has a mask, but {folder.name}.nii.gz or {folder.name}.nii is missing; add it")
        patients[folder.name] = PatientFiles(volumes[folder.name], volumes["GT"], channel)
    return patients


def _read_nnunet(root: Path, channel: int | None) -> VolumeFolder:
    """Return the patients of imagesTr and labelsTr, and of imagesTs if there is a folder labelsTs."""
    names, ignored = _read_description(root / "dataset.json")
    labels = root / "labelsTr"
    others = sorted(file.name for file in labels.iterdir() if not is_hidden(file.name)) if labels.is_dir() else []
    if others and not _volumes(labels):
        raise UserError(
            f"dataset.root: {labels} contains no NIfTI files, but {others[0]}; convert them, or for images of two dimensions use "
            "the dataset image_mask_folder: images/NAME.png (without the channel _0000) and masks/NAME.png"
        )
    train, notes = _pairs(root, "Tr", channel)
    test: dict[str, PatientFiles] = {}
    if (root / "labelsTs").is_dir() and _volumes(root / "labelsTs"):
        test, further_notes = _pairs(root, "Ts", channel)
        notes += further_notes
    elif (root / "imagesTs").is_dir():
        unlabeled = (f"imagesTs/{file.name}" for file in _volumes(root / "imagesTs").values())
        notes += reading_note("unlabeled_volumes", "Volumes without a mask were not read", unlabeled)
    if both := sorted(set(train) & set(test)):
        raise UserError(f"dataset.root: {both[0]} is in labelsTr and in labelsTs of {root}; remove one")
    return VolumeFolder(train, {}, test, names, ignored, notes)


def _pairs(root: Path, split: str, channel: int | None) -> tuple[dict[str, PatientFiles], tuple[ReadingNote, ...]]:
    """Return the patients of one split, and notes about volumes without a mask."""
    images, labels = (_volumes(root / f"{kind}{split}") for kind in ("images", "labels"))
    by_patient: dict[str, dict[int, str]] = {}
    for stem in images:
        if match := re.fullmatch(r"(.+)_(\d{4})", stem, re.ASCII):
            by_patient.setdefault(match[1], {})[int(match[2])] = stem
    patients, used = {}, set()
    for name, labels_file in sorted(labels.items()):
        channels = by_patient.get(name, {})
        if name in images and channels:
            _refuse_both(images[name], images[min(channels.values())])
        used |= {name, *channels.values()}
        if not channels:
            if name not in images:
                raise UserError(
                    f"{labels_file}: has no volume {name}_0000.nii.gz or {name}.nii.gz in {root / f'images{split}'}; add it"
                )
            patients[name] = PatientFiles(images[name], labels_file, channel)
            continue
        if len(channels) > 1 and channel is None:
            listed = ", ".join(images[stem].name for _, stem in sorted(channels.items()))
            raise UserError(
                f"dataset.channel: {name} has {len(channels)} channels ({listed}); choose one, such as dataset.channel="
                f"{min(channels)}"
            )
        number = min(channels) if channel is None else channel
        if number not in channels:
            raise UserError(
                f"dataset.channel: {name} has no channel {number}, but has {', '.join(map(str, sorted(channels)))}"
            )
        patients[name] = PatientFiles(images[channels[number]], labels_file)
    unlabeled = (f"images{split}/{images[stem].name}" for stem in sorted(set(images) - used))
    return patients, reading_note("unlabeled_volumes", "Volumes without a mask were not read", unlabeled)


def _volumes(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by name without suffix; hidden files are left behind by tools.

    Raises:
        UserError: two files have one name.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in VOLUME_SUFFIXES if file.name.lower().endswith(suffix)), None)
        if suffix is None or is_hidden(file.name):
            continue
        name = file.name[: -len(suffix)]
        if name in found:
            _refuse_both(found[name], file)
        found[name] = file
    return found


def _refuse_both(first: Path, second: Path) -> NoReturn:
    raise UserError(f"{first} and {second.name} stand for the same volume; remove one of them")


def _read_description(file: Path) -> tuple[dict[int, str] | None, int | None]:
    """Return names of classes by value and the value of voxels without a label from `dataset.json`.

    Raises:
        UserError: it is no JSON, or its labels have no values of their own, as those of nested regions.
    """
    if not file.is_file():
        return None, None
    try:
        content = json.loads(read_text(file, "dataset"))
    except (ValueError, RecursionError):
        raise UserError(f"dataset: {file}: not valid JSON; correct it") from None
    labels = content.get("labels") if isinstance(content, dict) else None
    if labels is None:
        return None, None
    if not isinstance(labels, dict) or not labels:
        raise UserError(f'dataset: {file}: `labels` must map names to values, such as {{"background": 0, "liver": 1}}')
    values = dict(_named_values(labels.items(), file))
    ignored = next((value for value, name in values.items() if name.lower() == "ignore"), None)
    names = {value: name for value, name in sorted(values.items()) if value != ignored}
    if len(values) < len(labels) or len(set(names.values())) < len(names) or min(values) < 0 or max(values) > IGNORED:
        raise UserError(f"dataset: {file}: `labels` must have different names and values from 0 to {IGNORED}")
    return {0: "background", **names}, ignored


def _named_values(labels: Iterable[tuple[str, Any]], file: Path) -> Iterable[tuple[int, str]]:
    """Yield value and name of each class: nnU-Net maps names to values, the Medical Segmentation Decathlon values to names."""
    for key, entry in labels:
        if isinstance(entry, str) and re.fullmatch(r"\d{1,3}", key, re.ASCII):
            yield int(key), entry
        elif isinstance(entry, int | str) and re.fullmatch(r"\d{1,3}", str(entry), re.ASCII):
            yield int(entry), key
        else:
            raise UserError(
                f"dataset: {file}: the label `{key}` has no single value; overlapping regions cannot be classes, so write one "
                "value for each name"
            )

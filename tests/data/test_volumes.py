"""NIfTI volumes: image and mask agree in every orientation and layout, and what is uncertain is refused."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.volumes.layouts import find_patients
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

Array = NDArray[Any]
SHAPE = (24, 32, 10)
RAS = np.diag([1.0, 1.0, 2.0, 1.0])


def phantom(number: int) -> tuple[Array, Array]:
    """Return a volume with noise and a bright box off the center, and its mask of class 3."""
    volume, labels = Stream("phantom", number).uniform(*SHAPE) * 100 - 150, np.zeros(SHAPE, np.uint8)
    box = slice(4 + number, 11 + number), slice(5, 20), slice(1, 7)
    volume[box], labels[box] = 250, 3
    return volume.astype(np.float32), labels


def write(file: Path, array: Array, affine: Array = RAS) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), file)


Change = Callable[[int, Array, Array], tuple[tuple[Array, Array], tuple[Array, Array]]]


def build(root: Path, change: Change | None = None, patients: int = 4, suffix: str = ".nii.gz") -> Path:
    for number in range(patients):
        volume, labels = phantom(number)
        first, second = change(number, volume, labels) if change else ((volume, RAS), (labels, RAS))
        write(root / f"P{number}" / f"P{number}{suffix}", *first)
        write(root / f"P{number}" / f"GT{suffix}", *second)
    return root


def stored_along(axes: str, array: Array) -> tuple[Array, Array]:
    """Return an array and its affine as they are stored along other axes, such as LPS."""
    stored = nibabel.Nifti1Image(array, RAS).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
        )
    )
    return np.asarray(stored.dataobj), stored.affine


def load(root: Path, **parameters: Any) -> Dataset:
    source = get_entry("datasets", "nifti_slices").load_class()
    loaded: Dataset = source(root=str(root), **{"size": 24, **parameters}).load()
    return loaded


def refusal(root: Path, **parameters: Any) -> str:
    with pytest.raises(UserError) as error:
        load(root, **parameters)
    assert all("\n" not in problem for problem in error.value.problems)
    return error.value.problems[-1]


def agreement(dataset: Dataset) -> float:
    """Return the intersection over union of bright pixels and pixels of class 3."""
    splits = [split for split in (dataset.train, dataset.validation, dataset.test) if len(split)]
    bright = np.concatenate([split.inputs[:][:, 0] > 190 for split in splits])
    inside = np.concatenate([split.targets == 3 for split in splits])
    assert inside.any()
    return float((bright & inside).sum() / (bright | inside).sum())


def arrays(dataset: Dataset) -> list[Array]:
    return [array for split in (dataset.train, dataset.test) for array in (split.inputs[:], split.targets)]


def notes(dataset: Dataset) -> dict[str, str]:
    return {note.kind: str(note) for note in dataset.notes}


def test_every_orientation_gives_the_same_slices(tmp_path: Path) -> None:
    wanted = arrays(load(build(tmp_path / "canonical")))
    orientations = ["".join(letters) for letters in itertools.product("RL", "AP", "SI")] + ["PSR", "ILA", "SRP"]
    for number, axes in enumerate(orientations):
        mask_axes = orientations[(number + 3) % len(orientations)]
        root = build(
            tmp_path / axes,
            lambda _, volume, labels, axes=axes, other=mask_axes: (
                stored_along(axes, volume),
                stored_along(other, labels),
            ),
            suffix=".nii",
        )
        dataset = load(root)
        for found, expected in zip(arrays(dataset), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
        shutil.rmtree(root)
    assert agreement(dataset) > 0.85
    assert "Volumes stored as SRP were turned" in notes(dataset)["orientation"]
    assert "(4: P0, P1, P2, P3)" in notes(dataset)["mask_orientation"]


@pytest.mark.parametrize(("plane", "slices"), [("axial", 6), ("coronal", 15), ("sagittal", 7)])
def test_slices_of_every_plane_agree_with_their_masks(plane: str, slices: int, tmp_path: Path) -> None:
    dataset = load(build(tmp_path), plane=plane, size=32)
    assert dataset.source_size + len(dataset.test) == 4 * slices
    assert agreement(dataset) > 0.8
    assert ("anisotropic" in notes(dataset)) == (plane != "axial")


def test_canonical_volumes_keep_their_axes(tmp_path: Path) -> None:
    data = load(build(tmp_path), size=24, validation_fraction=0.0, test_patients=["P3"])
    mask = data.train.targets[0]
    # Rows are the first axis, which is not resized here; columns the second.
    assert np.flatnonzero((mask == 3).any(axis=1)).tolist() == list(range(4, 11))
    assert np.flatnonzero((mask == 3).any(axis=0)).tolist() == list(range(4, 15))


def moved(shift: float) -> Change:
    affine = RAS.copy()
    affine[0, 3] = shift
    return lambda _, volume, labels: ((volume, RAS), (labels, affine))


def test_unequal_geometries_are_refused_with_both(tmp_path: Path) -> None:
    assert agreement(load(build(tmp_path / "rounded", moved(0.05)))) > 0.85
    message = refusal(build(tmp_path / "moved", moved(3.0)))
    assert "GT.nii.gz: has another geometry than its volume P3.nii.gz: shape 24x32x10, orientation RAS" in message
    assert "origin (3, 0, 0); the volume has shape 24x32x10" in message
    assert "dataset.allow_unequal_geometry=true" in message
    dataset = load(tmp_path / "moved", allow_unequal_geometry=True)
    assert agreement(dataset) > 0.85
    assert "(4: P0, P1, P2, P3)" in notes(dataset)["unequal_geometry"]
    spacing = build(
        tmp_path / "spacing", lambda _, volume, labels: ((volume, RAS), (labels, RAS * [[1], [1], [1.5], [1]]))
    )
    assert "voxels of 1x1x3 mm" in refusal(spacing)
    shape = build(tmp_path / "shape", lambda _, volume, labels: ((volume, RAS), (labels[:-1], RAS)))
    assert "shape 23x32x10" in refusal(shape)
    assert "shape 23x32x10" in refusal(shape, allow_unequal_geometry=True)


def masks(change: Callable[[Array], Array]) -> Change:
    return lambda _, volume, labels: ((volume, RAS), (change(labels), RAS))


def test_labels_are_integers_or_refused(tmp_path: Path) -> None:
    wanted = arrays(load(build(tmp_path / "integers")))
    for number, near in enumerate((2.9999998, 3.0005, 2.9995)):
        root = build(
            tmp_path / f"{number}", masks(lambda labels, near=near: np.where(labels > 0, near, 0).astype(np.float32))
        )
        for found, expected in zip(arrays(load(root)), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    fractions = build(tmp_path / "fractions", masks(lambda labels: labels * np.float32(0.9)))
    assert "GT.nii.gz: 630 of 7680 values are not integers, such as 2.7" in refusal(fractions).split(";")[0]
    missing = build(tmp_path / "nan", masks(lambda labels: np.where(labels > 0, 3, np.nan)))
    assert "GT.nii.gz: 7050 of 7680 values are NaN or infinite" in refusal(missing)


def test_scaled_integers_are_what_they_mean(tmp_path: Path) -> None:
    wanted = arrays(load(build(tmp_path / "plain")))
    build(tmp_path / "scaled")
    for number in range(4):
        _, labels = phantom(number)
        scaled = nibabel.Nifti1Image((labels // 3).astype(np.int16), RAS)
        scaled.header.set_slope_inter(3.0, 0.0)
        nibabel.save(scaled, tmp_path / "scaled" / f"P{number}" / "GT.nii.gz")
    written = tmp_path / "scaled" / "P0" / "GT.nii.gz"
    # nibabel drops the scale of integers that it stores, so it is written into the header itself.
    for number in range(4):
        file = written.parents[1] / f"P{number}" / "GT.nii.gz"
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[112:116] = np.float32(3).tobytes()
        file.write_bytes(gzip.compress(bytes(content)))
    for found, expected in zip(arrays(load(tmp_path / "scaled")), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_values_need_a_class(tmp_path: Path) -> None:
    root = build(tmp_path / "brats", masks(lambda labels: np.where(labels == 3, 255, 0).astype(np.uint8)))
    message = refusal(root)
    assert "4 masks contain 255 (2520 voxels), but values are from 0 to 4" in message
    assert message.endswith("such as dataset.values='{0: 0, 255: 1}'")
    dataset = load(root, values={0: 0, 255: 1})
    assert dataset.class_names == ("background", "class 1")
    assert set(np.unique(dataset.train.targets)) == {0, 1}
    negative = build(tmp_path / "negative", masks(lambda labels: np.where(labels == 3, -1, 0).astype(np.int16)))
    assert "contain -1 (2520 voxels)" in refusal(negative)
    empty = build(tmp_path / "empty", masks(lambda labels: labels * 0))
    assert "no slice contains an object" in refusal(empty)
    assert "contain nothing but background" in refusal(empty, every_slice=True)
    assert (
        "Classes do not occur in any mask (3: oesophagus, heart, aorta)"
        in notes(load(build(tmp_path / "c")))["unused_classes"]
    )


def test_nan_intensities_are_the_lower_end_of_the_window(tmp_path: Path) -> None:
    def change(number: int, volume: Array, labels: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        volume[:2] = np.nan if number == 1 else np.inf
        return (volume, RAS), (labels, RAS)

    dataset = load(build(tmp_path, change), test_patients=["P1"])
    assert (dataset.test.inputs[:][:, 0, 0] == 0).all()
    assert (dataset.train.inputs[:][:, 0, 0] == 255).all()
    assert notes(dataset)["nan_intensities"].endswith("(1: P1)")


def test_a_window_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    root = build(tmp_path)
    assert "every intensity is below dataset.window=[1000.0, 2000.0]" in refusal(root, window=[1000.0, 2000.0])
    assert "saturated" in notes(load(root, window=[-500.0, -120.0]))


def decathlon(root: Path, suffix: str = "", labels: Any = None) -> Path:
    for number in range(4):
        volume, mask = phantom(number)
        write(root / "imagesTr" / f"la_{number:03}{suffix}.nii.gz", volume)
        write(root / "labelsTr" / f"la_{number:03}.nii.gz", mask)
    if labels is not None:
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


@pytest.mark.parametrize("suffix", ["", "_0000"])
def test_nnunet_and_decathlon_folders(suffix: str, tmp_path: Path) -> None:
    root = decathlon(tmp_path, suffix, {"0": "background", "1": "liver", "2": "spleen", "3": "aorta"})
    (root / "imagesTr" / "._la_000.nii.gz").write_bytes(b"left by a Mac")
    write(root / "imagesTs" / f"la_009{suffix}.nii.gz", phantom(9)[0])
    dataset = load(root)
    assert dataset.class_names == ("background", "liver", "spleen", "aorta")
    assert agreement(dataset) > 0.85
    assert notes(dataset)["unlabeled_volumes"].endswith(f"(1: imagesTs/la_009{suffix}.nii.gz)")
    write(root / "labelsTs" / "la_009.nii.gz", phantom(9)[1])
    dataset = load(root)
    assert len(dataset.test) == 6
    assert dataset.source_size == 24
    assert "has a test split of its own" in refusal(root, test_patients=["la_000"])
    (root / "labelsTr" / "la_007.nii.gz").write_bytes((root / "labelsTr" / "la_000.nii.gz").read_bytes())
    assert "la_007.nii.gz: has no volume la_007_0000.nii.gz or la_007.nii.gz" in refusal(root)


def test_names_and_ignored_voxels_of_nnunet(tmp_path: Path) -> None:
    root = decathlon(tmp_path, "_0000", {"background": 0, "aorta": 1, "vein": 2, "ignore": 3})
    assert "no slice contains an object" in refusal(root)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2], "core": 3}}))
    assert "the label `whole` has no single value" in refusal(root)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "core": 3}}))
    assert load(root).class_names == ("background", "core")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": "0", "core": "3"}}))
    assert load(root).class_names == ("background", "core")
    (root / "dataset.json").write_text("[" * 100_000)
    assert "not valid JSON" in refusal(root)
    (root / "dataset.json").unlink()
    assert load(root).class_names == ("background", "class 1", "class 2", "class 3")
    for number in range(4):
        write(root / "labelsTr" / f"la_{number:03}.nii.gz", phantom(number)[1] // 3 * np.uint8(200))
    assert "dataset.values='{0: 0, 200: 1}'" in refusal(root)
    for file in (root / "labelsTr").iterdir():
        file.rename(file.with_name(file.name.replace(".nii.gz", ".png")))
    assert "labelsTr contains no NIfTI files, but la_000.png; convert them" in refusal(root)


def test_channels_are_chosen(tmp_path: Path) -> None:
    root = decathlon(tmp_path / "files", "_0001")
    assert agreement(load(root)) > 0.85
    for number in range(4):
        write(root / "imagesTr" / f"la_{number:03}_0003.nii.gz", -phantom(number)[0])
    assert "la_000 has 2 channels" in refusal(root)
    assert agreement(load(root, channel=1)) > 0.85
    assert agreement(load(root, channel=3, window=[-300.0, 0.0])) < 0.1
    assert "la_000 has no channel 0, but has 1, 3" in refusal(root, channel=0)
    four = build(
        tmp_path / "four",
        lambda _, volume, labels: ((np.stack([volume * 0, volume], axis=3), RAS), (labels[..., None], RAS)),
    )
    assert "has 2 channels or time steps (shape 24x32x10x2); choose one" in refusal(four)
    assert agreement(load(four, channel=1)) > 0.85
    assert "must be from 0 to 1" in refusal(four, channel=2)
    assert "has one channel" in refusal(build(tmp_path / "three"), channel=1)


def test_files_that_two_rules_claim_are_refused(tmp_path: Path) -> None:
    root = build(tmp_path)
    shutil.copy(root / "P1" / "GT.nii.gz", root / "P1" / "other.nii.gz")
    (root / "P8").mkdir()
    shutil.copy(root / "P1" / "P1.nii.gz", root / "P8" / "P8.nii.gz")
    dataset = load(root)
    assert notes(dataset)["unread_volumes"].endswith("(1: P1/other.nii.gz)")
    assert notes(dataset)["unlabeled_volumes"].endswith("(1: P8)")
    (root / "P2" / "GT.nii").write_bytes(b"")
    assert "GT.nii and GT.nii.gz stand for the same volume" in refusal(root)
    (root / "P2" / "GT.nii").unlink()
    (root / "train").mkdir()
    assert "has the patient P0 beside the splits train" in refusal(root)


def test_folders_of_splits(tmp_path: Path) -> None:
    build(tmp_path / "train")
    for name in ("Test", "validation"):
        build(tmp_path / name, patients=1)
        (tmp_path / name / "P0").rename(tmp_path / name / name)
        (tmp_path / name / name / "P0.nii.gz").rename(tmp_path / name / name / f"{name}.nii.gz")
    found = find_patients(tmp_path, None)
    assert [list(each) for each in (found.train, found.validation, found.test)] == [
        ["P0", "P1", "P2", "P3"], ["validation"], ["Test"],
    ]  # fmt: skip
    assert "all 6 test examples are exact copies" in refusal(tmp_path)
    dataset = load(tmp_path, duplicates="keep")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 6, 6]
    shutil.copytree(tmp_path / "train" / "P1", tmp_path / "Test" / "P1")
    assert "the patient P1 is in" in refusal(tmp_path)


def test_copies_of_a_patient_stay_in_one_split(tmp_path: Path) -> None:
    root = build(tmp_path, lambda number, *_: tuple((array, RAS) for array in phantom(number % 2)), patients=5)
    dataset = load(root, validation_fraction=0.4)
    places = [{dataset.source_names[row][:2] for row in split.index} for split in (dataset.train, dataset.validation)]
    assert all(not places[0] & copies or not places[1] & copies for copies in ({"P0", "P2", "P4"}, {"P1", "P3"}))
    assert notes(dataset)["patient_copies"].endswith("(5: P0, P1, P2, P3, P4)")


def header_of(shape: tuple[int, ...]) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_sform(RAS, code=1)
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "missing, damaged or not a NIfTI volume"),
        (b"text", "missing, damaged or not a NIfTI volume"),
        (gzip.compress(b"text"), "missing, damaged or not a NIfTI volume"),
        (gzip.compress(header_of((24, 32, 10)) + bytes(100)), "missing, damaged or not a NIfTI volume"),
        (gzip.compress(header_of((24, 32, 10)) + bytes(7680))[:-20], "missing, damaged or not a NIfTI volume"),
        (gzip.compress(header_of((30000, 30000, 3000))), "its header claims 30000x30000x3000 voxels"),
        (gzip.compress(header_of((4000, 4000, 30)) + bytes(2**10)), "its header claims 4000x4000x30 voxels"),
        (
            gzip.compress(header_of((24, 32)) + bytes(24 * 32)),
            "a volume has three axes, but this one has the shape 24x32",
        ),
        (gzip.compress(header_of((24, 32, 5, 1, 3)) + bytes(24 * 32 * 15)), "has the shape 24x32x5x1x3"),
    ],
)
@pytest.mark.parametrize("name", ["GT", "P1"])
def test_damaged_files_are_one_message(content: bytes, message: str, name: str, tmp_path: Path) -> None:
    file = build(tmp_path) / "P1" / f"{name}.nii.gz"
    file.write_bytes(content)
    found = refusal(tmp_path)
    assert str(file) in found
    assert message in found

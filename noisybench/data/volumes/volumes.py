"""Medical volumes and their masks from NIfTI files, brought to canonical orientation by their affines."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.files import first_line

VOLUME_SUFFIXES = (".nii.gz", ".nii")
"""Suffixes of NIfTI files."""

MAX_VOXELS = 2**29
"""Largest number of voxels of a volume: 512 x 512 x 2048."""

MAX_COMPRESSION = 1032
"""Largest ratio of sizes that gzip reaches; a header that claims more does not describe its file."""

MAX_SHIFT = 0.1
"""Largest distance, in voxels, between the positions of a voxel by the affines of a volume and its mask."""

MAX_ROUNDING = 1e-3
"""Largest distance of a label from an integer that counts as rounding."""


@dataclass(frozen=True)
class LabeledVolume:
    """Volume and mask of one patient with the same axes: left to right, back to front, bottom to top (RAS+).

    Attributes:
        intensities: (X, Y, Z) numbers.
        labels: (X, Y, Z) integers.
        spacing: size of a voxel along the three axes in millimeters.
        orientation: directions of the axes as stored, such as ``LPS``; empty if the file has none.
        labels_orientation: that of the mask.
        same_affine: False if the affines differ beyond the orientation, so that arrays were matched by position.
    """

    intensities: NDArray[Any]
    labels: NDArray[Any]
    spacing: tuple[float, float, float]
    orientation: str
    labels_orientation: str
    same_affine: bool


@dataclass(frozen=True)
class _Scan:
    """NIfTI file whose header has been read.

    Attributes:
        file: its path.
        image: image of nibabel, without its values.
        shape: shape without trailing axes of length one beyond the third.
        axes: (3, 2) axis and direction of each stored axis, as nibabel describes them.
        affine: (4, 4) map from canonical voxels to millimeters.
        orientation: directions of the stored axes; empty if the file has none.
    """

    file: Path
    image: Any
    shape: tuple[int, ...]
    axes: NDArray[np.float64]
    affine: NDArray[np.float64]
    orientation: str

    @property
    def extent(self) -> tuple[int, ...]:
        """Number of voxels along the canonical axes."""
        extent = [0, 0, 0]
        for length, axis in zip(self.shape, self.axes[:, 0].astype(int), strict=False):
            extent[axis] = length
        return tuple(extent)

    def describe(self) -> str:
        """Return shape, spacing, origin and orientation as stored, for a message."""
        shape = "x".join(map(str, self.shape))
        spacing = "x".join(f"{size:.4g}" for size in _voxel_sizes(self.affine))
        origin = ", ".join(f"{coordinate:.4g}" for coordinate in self.affine[:3, 3])
        return f"shape {shape}, orientation {self.orientation or 'unknown'}, voxels of {spacing} mm, origin ({origin})"

    def read(self, axes: NDArray[np.float64] | None = None) -> NDArray[Any]:
        """Return the values with canonical axes, in the type in which they are stored unless they are scaled.

        Args:
            axes: stored axes to assume instead of the file's own.

        Raises:
            UserError: the file is damaged.
        """
        import nibabel

        try:
            # `get_fdata` would convert every volume to float64.
            values = np.asarray(self.image.dataobj)
        except Exception as error:  # nibabel and zlib raise many types for damaged files
            raise _damaged(self.file, error) from None
        values = values.reshape(self.shape)
        return np.asarray(nibabel.orientations.apply_orientation(values, self.axes if axes is None else axes))  # type: ignore[no-untyped-call]


def read_labeled_volume(
    file: Path, labels_file: Path, channel: int | None = None, trust_positions: bool = False
) -> LabeledVolume:
    """Read a volume and its mask in canonical orientation.

    Args:
        file: volume.
        labels_file: mask.
        channel: channel of volumes that have several.
        trust_positions: match voxels of equal position in the files if the affines differ, instead of raising an error.

    Raises:
        UserError: a file is missing, damaged or too large, or has other than three axes; volume and mask have different
            geometries; a label is not an integer.
    """
    volume, mask = _open(file), _open(labels_file)
    if len(mask.shape) != 3:
        raise UserError(f"{labels_file}: a mask has three axes, but this one has the shape {_product(mask.shape)}")
    if len(volume.shape) == 4 and channel is None:
        raise UserError(
            f"{file}: has {volume.shape[3]} channels or time steps (shape {_product(volume.shape)}); choose one, such as "
            "dataset.channel=0"
        )
    if len(volume.shape) == 4 and not 0 <= (channel or 0) < volume.shape[3]:
        raise UserError(f"dataset.channel: must be from 0 to {volume.shape[3] - 1} for {file}, but got {channel}")
    if len(volume.shape) == 3 and channel:
        raise UserError(f"dataset.channel: {file} has one channel; remove the parameter, or set it to 0")
    same_affine = _largest_shift(volume, mask) <= MAX_SHIFT
    _check_geometries(volume, mask, same_affine, trust_positions)
    intensities = volume.read()
    if intensities.ndim == 4:
        intensities = intensities[..., channel or 0]
    return LabeledVolume(
        intensities,
        to_integers(mask.read(None if same_affine else volume.axes), labels_file),
        _voxel_sizes(volume.affine),
        volume.orientation,
        mask.orientation,
        same_affine,
    )


def to_integers(labels: NDArray[Any], file: Path) -> NDArray[Any]:
    """Return labels as integers; floating-point numbers within `MAX_ROUNDING` of an integer are rounded.

    Args:
        labels: array of any shape.
        file: where it comes from, for messages.

    Raises:
        UserError: a label is NaN, infinite or a fraction; the message has the number of such values.

    Examples:
        >>> to_integers(np.array([0, 2.9999998]), Path("GT.nii"))
        array([0, 3])
        >>> to_integers(np.array([0, 2.6]), Path("GT.nii"))
        Traceback (most recent call last):
        noisybench.errors.UserError: GT.nii: 1 of 2 values are not integers, such as 2.6; resample masks with nearest neighbor
    """
    if labels.dtype.kind in "iub":
        return labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    finite = np.isfinite(labels)
    if not finite.all():
        raise UserError(
            f"{file}: {int((~finite).sum())} of {labels.size} values are NaN or infinite, but labels are integers; replace "
            "them by a class, such as 0 for the background"
        )
    rounded = np.rint(labels)
    fractions = np.abs(labels - rounded) > MAX_ROUNDING
    if fractions.any():
        raise UserError(
            f"{file}: {int(fractions.sum())} of {labels.size} values are not integers, such as {labels[fractions][0]:.6g}; "
            "resample masks with nearest neighbor"
        )
    integers: NDArray[Any] = rounded.astype(np.int64)
    return integers


def _open(file: Path) -> _Scan:
    """Read the header of a NIfTI file.

    Raises:
        UserError: nibabel is not installed, or the file is no volume of reasonable size.
    """
    try:
        import nibabel
    except ImportError:
        raise UserError("dataset: nibabel is not installed; run `python -m pip install nibabel`") from None
    try:
        size = file.stat().st_size
        image: Any = nibabel.load(file)
        if not isinstance(image, nibabel.Nifti1Image):  # Nifti2Image is a subclass
            raise ValueError(f"contains {type(image).__name__}")
        header: Any = image.header
        shape = tuple(map(int, image.shape))
        dtype, affine = header.get_data_dtype(), np.array(image.affine, dtype=np.float64)
        is_oriented = bool(header["sform_code"]) or bool(header["qform_code"])
        zooms = [float(zoom) for zoom in header.get_zooms()[:3]]
    except Exception as error:  # nibabel raises many types for damaged files
        raise _damaged(file, error) from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UserError(f"{file}: a volume has three axes, but this one has the shape {_product(shape)}")
    if dtype.kind not in "iufb":
        raise UserError(f"{file}: a volume has one number per voxel, but this one has the data type {dtype}")
    voxels = int(np.prod([float(length) for length in shape]))
    if voxels > MAX_VOXELS or voxels * dtype.itemsize > max(size, 1) * (MAX_COMPRESSION if file.suffix == ".gz" else 1):
        raise UserError(
            f"{file}: its header claims {_product(shape)} voxels, but the file has {size} bytes (at most {MAX_VOXELS} voxels "
            "are read); replace it"
        )
    if not is_oriented:
        # nibabel would assume a mirrored first axis; without any orientation the axes stay as they are stored.
        affine = np.diag([*zooms, 1.0])
    axes = nibabel.orientations.io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)  # type: ignore[no-untyped-call]
    if np.isnan(axes).any():
        raise UserError(f"{file}: its affine is not invertible, so its orientation is unknown; correct its header")
    letters = "".join(nibabel.orientations.ornt2axcodes(axes)) if is_oriented else ""  # type: ignore[no-untyped-call]
    canonical = affine @ nibabel.orientations.inv_ornt_aff(axes, shape[:3])  # type: ignore[no-untyped-call]
    return _Scan(file, image, shape, axes, canonical, letters)


def _damaged(file: Path, error: Exception) -> UserError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else first_line(error)
    return UserError(f"{file}: missing, damaged or not a NIfTI volume ({reason}); replace it")


def _largest_shift(volume: _Scan, mask: _Scan) -> float:
    """Return the largest distance in voxels between corners of the volume by both affines; infinity if extents differ."""
    if volume.extent != mask.extent:
        return np.inf
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, length - 1) for length in volume.extent))])
    positions = np.linalg.solve(volume.affine, mask.affine @ corners.T).T
    return float(np.abs(positions - corners).max())


def _check_geometries(volume: _Scan, mask: _Scan, same_affine: bool, trust_positions: bool) -> None:
    """Refuse a mask whose voxels are not those of its volume.

    Raises:
        UserError: describes both.
    """
    if same_affine or (trust_positions and volume.shape[:3] == mask.shape):
        return
    advice = "resample the mask to its volume"
    if volume.shape[:3] == mask.shape:
        advice += ", or set dataset.allow_unequal_geometry=true if only the affine of the mask is wrong"
    raise UserError(
        f"{mask.file}: has another geometry than its volume {volume.file.name}: {mask.describe()}; the volume has "
        f"{volume.describe()}; {advice}"
    )


def _voxel_sizes(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).tolist()
    return x, y, z


def _product(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

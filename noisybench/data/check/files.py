"""Facts about the files of a dataset: numbers, suffixes, sizes and modes of images, geometry of volumes."""

from __future__ import annotations

import collections
import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.utils.file_listing import list_source
from noisybench.utils.progress import report_progress

CHUNK_SIZE = 1000
"""Number of headers that a thread reads at a time."""

PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
"""Mode of each color type of a PNG file of 8 bits."""

UNREADABLE = "unreadable"
"""Size and mode of an image whose header cannot be read."""


@dataclass(frozen=True)
class FileFacts:
    """Files that a dataset reads.

    Attributes:
        count: number of files.
        num_bytes: their total size.
        suffixes: number of files by lower-case suffix.
        sizes: number of images by width and height, such as ``32x32``.
        modes: number of images by Pillow's mode, such as ``RGB`` or ``I;16``.
        orientations: number of volumes by the directions of their axes, such as ``RAS``.
        spacings: number of volumes by the distances of their voxels, such as ``0.98 x 0.98 x 2.5``.
    """

    count: int
    num_bytes: int
    suffixes: dict[str, int]
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    orientations: dict[str, int] = field(default_factory=dict)
    spacings: dict[str, int] = field(default_factory=dict)


def file_facts(sources: Iterable[Any]) -> FileFacts:
    """List the files of a dataset and read the headers of its images and volumes.

    Args:
        sources: what the dataset reads, from `data_files`.

    Raises:
        UserError: a folder cannot be read.
    """
    listed = [entry for source in sources for entry in list_source(b"", source) if entry.status is not None]
    paths = {os.fsdecode(entry.path): entry.status[0] for entry in listed if entry.status}
    suffixes = {path: _suffix(path) for path in paths}
    images = [path for path, suffix in suffixes.items() if suffix in IMAGE_SUFFIXES]
    volumes = [path for path, suffix in suffixes.items() if suffix in (".nii", ".nii.gz")]
    headers = _read_headers(images)
    geometries = [_volume_geometry(path) for path in volumes]
    return FileFacts(
        len(paths),
        sum(paths.values()),
        _counts(suffixes.values()),
        _counts(size for size, _ in headers),
        _counts(mode for _, mode in headers),
        _counts(orientation for orientation, _ in geometries),
        _counts(spacing for _, spacing in geometries),
    )


def _suffix(path: str) -> str:
    name = path.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1]


def _counts(values: Iterable[str]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return dict(sorted(collections.Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _read_headers(paths: list[str]) -> list[tuple[str, str]]:
    """Return size and mode of each image."""
    parts = [paths[start : start + CHUNK_SIZE] for start in range(0, len(paths), CHUNK_SIZE)]
    headers: list[tuple[str, str]] = []
    with ThreadPoolExecutor() as pool:
        for part in pool.map(lambda part: [_header(path) for path in part], parts):
            headers += part
            report_progress("read headers", len(headers), len(paths))
    return headers


def _header(path: str) -> tuple[str, str]:
    """Return size and mode of an image, from its first bytes."""
    from PIL import Image

    try:
        with open(path, "rb") as file:
            start = file.read(26)
            # By hand, because Pillow takes ten times as long as the rest of the check of a small image.
            if len(start) == 26 and start[:8] == b"\x89PNG\r\n\x1a\n" and start[12:16] == b"IHDR":
                width, height, bits, color = struct.unpack(">IIBB", start[16:26])
                mode = PNG_MODES.get(color, UNREADABLE)
                mode = {1: "1", 16: "I;16" if mode == "L" else f"{mode};16"}.get(bits, mode) if mode != "P" else mode
                return f"{width}x{height}", mode
            file.seek(0)
            with Image.open(file) as opened:
                return f"{opened.size[0]}x{opened.size[1]}", opened.mode
    except Exception:  # decoders raise anything on damaged files, which the reader of the dataset reports
        return UNREADABLE, UNREADABLE


def _volume_geometry(path: str) -> tuple[str, str]:
    """Return the directions of the axes and the spacing of a NIfTI volume, from its header."""
    try:
        import nibabel

        image: Any = nibabel.load(Path(path))
        axes = "".join(axis or "?" for axis in nibabel.aff2axcodes(image.affine))  # type: ignore[no-untyped-call]
        return axes, " x ".join(f"{float(distance):.3g}" for distance in image.header.get_zooms()[:3])
    except Exception:  # nibabel raises many types for damaged files, or is not installed
        return UNREADABLE, UNREADABLE

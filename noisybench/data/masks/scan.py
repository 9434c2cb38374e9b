"""Values of all masks of a dataset, and the decision about their meaning before any pixel is used."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from noisybench.config.source_code import module_code
from noisybench.data.images.cache import decoder_version, fingerprint
from noisybench.data.masks.values import (
    LOSSY_SUFFIXES,
    Color,
    MaskValues,
    count_values,
    read_values,
    show_value,
)
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.files import cache_folder, wrap_cache_errors, write_atomically

MAX_COLORS = 1024
"""Largest number of colors of one file that are counted; a file with more is a photograph or was compressed as one."""

MAX_SHOWN = 12
"""Largest number of values that a message lists."""

Value = int | Color

_LISTS = ("lossy", "colored", "unlabeled_only")


@dataclass
class ValueCount:
    """Occurrence of a value in mask files.

    Attributes:
        pixels: number of its pixels.
        files: number of files that contain it.
        example: the first of them.
    """

    pixels: int = 0
    files: int = 0
    example: str = ""


@dataclass
class MaskScan:
    """Values and colors of some mask files.

    Attributes:
        counts: occurrence of each value or color.
        files: number of files that were read.
        lossy: names of the files in a format that changes values.
        colored: names of the files with colors.
        unlabeled_only: names of the files with the value `IGNORED` and no other but 0.
    """

    counts: dict[Value, ValueCount] = field(default_factory=dict)
    files: int = 0
    lossy: list[str] = field(default_factory=list)
    colored: list[str] = field(default_factory=list)
    unlabeled_only: list[str] = field(default_factory=list)

    def add(self, other: MaskScan) -> None:
        """Add the counts of further files."""
        self.files += other.files
        self.lossy += other.lossy
        self.colored += other.colored
        self.unlabeled_only += other.unlabeled_only
        for value, count in other.counts.items():
            total = self.counts.setdefault(value, ValueCount(example=count.example))
            total.pixels += count.pixels
            total.files += count.files

    @property
    def mixed(self) -> bool:
        """True if few files have colors, and the others have values of classes."""
        return 0 < 2 * len(self.colored) <= self.files and bool(set(self.values) - {0, IGNORED})

    @property
    def values(self) -> list[int]:
        """Sorted gray values."""
        return sorted(value for value in self.counts if isinstance(value, int))

    @property
    def colors(self) -> list[Color]:
        """Colors, the most frequent first."""
        found = [value for value in self.counts if isinstance(value, tuple)]
        return sorted(found, key=lambda color: (-self.counts[color].pixels, color))

    def share(self, values: Iterable[Value]) -> float:
        """Return the percentage of pixels with one of some values."""
        total = sum(count.pixels for count in self.counts.values())
        return 100 * sum(self.counts[value].pixels for value in values) / max(1, total)

    def describe(self, values: Sequence[Value]) -> str:
        """Return the most frequent of some values with their shares and numbers of masks."""
        frequent = sorted(values, key=lambda value: -self.counts[value].pixels)[:MAX_SHOWN]
        shown = sorted(frequent) if all(isinstance(value, int) for value in frequent) else frequent
        listed = [
            f"{show_value(value)} ({self.share([value]):.3g} %, {count_text(self.counts[value].files)})"
            for value in shown
        ]
        return ", ".join(listed) + (f" … and {len(values) - len(shown)} more" if len(values) > len(shown) else "")


def scan_masks(files: Sequence[Path], as_colors: bool = False) -> MaskScan:
    """Count the values of mask files; later calls read the result of the first.

    Files that cannot be read do not count: reading them together with their images reports them.

    Args:
        files: the masks.
        as_colors: count the colors of every kind of image.
    """
    name = hashlib.sha256(f"{fingerprint(files)}|{as_colors}|{_code_version()}".encode()).hexdigest()[:32]
    path = cache_folder() / "mask_values" / f"{name}.json"
    try:
        saved = json.loads(path.read_text())
        counts = {_key(value): ValueCount(*count) for value, count in saved["counts"]}
        lists = ([str(file) for file in saved[name]] for name in _LISTS)
        return MaskScan(counts, int(saved["files"]), *lists)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # absent or damaged: counted again
    scan = MaskScan()
    with ThreadPoolExecutor() as pool:
        for one in pool.map(lambda file: _scan_file(file, as_colors), files):
            scan.add(one)
    content = {
        "counts": [[value, [count.pixels, count.files, count.example]] for value, count in scan.counts.items()],
        "files": scan.files,
        **{name: getattr(scan, name) for name in _LISTS},
    }
    with wrap_cache_errors():
        write_atomically(path, json.dumps(content).encode())
    return scan


@functools.cache
def _code_version() -> str:
    """Return the digest of the code that decides the counts, which a process has loaded once."""
    return f"{decoder_version(__name__)} {module_code(MaskValues.__module__)}"


def _key(value: int | list[int]) -> Value:
    return value if isinstance(value, int) else (value[0], value[1], value[2])


def _scan_file(file: Path, as_colors: bool) -> MaskScan:
    try:
        pixels = read_values(file, as_colors)
    except UserError:
        return MaskScan()
    counts = count_values(pixels)
    if len(counts) > MAX_COLORS:
        counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:MAX_COLORS])
    lossy = [file.name] if file.suffix.lower() in LOSSY_SUFFIXES else []
    colored = [file.name] if pixels.ndim == 3 else []
    unlabeled_only = [file.name] if IGNORED in counts and set(counts) <= {0, IGNORED} else []
    found = {value: ValueCount(count, 1, str(file)) for value, count in counts.items()}
    return MaskScan(found, 1, lossy, colored, unlabeled_only)


def count_text(number: int) -> str:
    """Return a number of masks for a message."""
    return f"{number} mask{'' if number == 1 else 's'}"

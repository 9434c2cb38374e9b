"""Pairs of images and masks by the paths of their files, and lists of names; two files never claim one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.masks.values import MASK_SUFFIXES
from noisybench.errors import UserError
from noisybench.utils.file_listing import list_files
from noisybench.utils.places import read_text

MAX_COMPARED = 50
"""Number of images and masks among which a common suffix is searched."""

MAX_LISTED = 5
"""Largest number of names that a message lists."""


@dataclass(frozen=True)
class MatchedMasks:
    """Masks of some images.

    Attributes:
        files: mask of each image; None if there is none.
        unused: masks without an image.
    """

    files: list[Path | None]
    unused: list[Path]


def example_name(file: Path, folder: Path) -> str:
    """Return the path of a file relative to a folder, without suffix and in composed Unicode.

    Example:
        >>> example_name(Path("images/a/001.v2.jpg"), Path("images"))
        'a/001.v2'
    """
    return unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())


def name_files(files: Iterable[Path], folder: Path, location: str) -> dict[str, Path]:
    """Return files by their names below a folder.

    Raises:
        UserError: two files have one name, such as 001.jpg and 001.png.
    """
    named: dict[str, Path] = {}
    problems = []
    for file in files:
        name = example_name(file, folder)
        if name in named:
            problems.append(
                f"{location}: {named[name]} and {file.name} have the same name without suffix, so that a mask or label could "
                "belong to either; rename or remove one of them"
            )
        named.setdefault(name, file)
    if problems:
        raise UserError(*problems[:MAX_LISTED], *_more(problems))
    return named


def match_masks(names: Sequence[str], folder: Path, suffix: str, location: str) -> MatchedMasks:
    """Find the mask of each image by its name.

    The path of a mask below the folder is the name of its image followed by ``suffix``. A folder without sub-folders
    may contain the masks of images in sub-folders if no two images have the same file name.

    Args:
        names: names of the images, see `example_name`.
        folder: folder of the masks.
        suffix: end of the names of masks that the names of images do not have.
        location: parameter for error messages.

    Raises:
        UserError: two masks belong to one image, one mask could belong to two images, or no mask belongs to any image.
    """
    masks = name_files(list_files(folder, MASK_SUFFIXES), folder, location)
    by_name = {name.removesuffix(suffix): file for name, file in masks.items() if name.endswith(suffix)}
    files = [by_name.get(name) for name in names]
    # Only for sub-folders: a mask that another image has by its path is never taken.
    if None in files and any("/" in name for name in names) and not any("/" in name for name in by_name):
        stems = [name.rsplit("/", 1)[-1] for name in names]
        claimed = _first_twice(stem for stem in stems if stem in by_name)
        if claimed is not None:
            both = [name for name, stem in zip(names, stems, strict=True) if stem == claimed]
            raise UserError(
                f"{location}: the mask {by_name[claimed]} could belong to the images {both[0]} and {both[1]}; put masks into "
                f"the same sub-folders as images, such as {folder.name}/{both[0]}{suffix}.png"
            )
        files = [by_name.get(stem) for stem in stems]
    if names and not any(files):
        raise UserError(_no_match(names, sorted(masks), folder, suffix, location))
    used = {file for file in files if file is not None}
    return MatchedMasks(files, [file for file in masks.values() if file not in used])


def _no_match(names: Sequence[str], masks: Sequence[str], folder: Path, suffix: str, location: str) -> str:
    """Return the problem that no mask belongs to any image, with the suffix that would help."""
    if not masks:
        return f"{location}: {folder} contains no masks ({', '.join(MASK_SUFFIXES)})"
    endings: dict[str, int] = {}
    for name in names[:MAX_COMPARED]:
        for mask in masks[:MAX_COMPARED]:
            if mask.startswith(name) and mask != name:
                endings[mask.removeprefix(name)] = endings.get(mask.removeprefix(name), 0) + 1
    best = max(endings, key=lambda ending: endings[ending], default="")
    advice = (
        f"set dataset.mask_suffix={best}"
        if best
        else "give masks the names of their images, or set dataset.mask_suffix to the end that only masks have"
    )
    return (
        f"{location}: no mask in {folder} has the name of an image: expected names such as {names[0]}{suffix}, found "
        f"{masks[0]}; {advice}"
    )


def read_names(path: Path, location: str = "dataset") -> list[str]:
    """Return the lines of a list of names; empty lines do not count.

    Raises:
        UserError: the list is missing or empty, or has a line twice.
    """
    if not path.is_file():
        raise UserError(f"{location}: the list {path} is missing")
    text = read_text(path, location)
    lines = [unicodedata.normalize("NFC", line.strip()) for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{location}: the list {path} is empty")
    repeated = _first_twice(lines)
    if repeated is not None:
        raise UserError(f"{location}: the list {path} contains {repeated} twice; remove one of the lines")
    return lines


class NameLists:
    """Lists of image names, resolved to the names of files.

    A line is the name of an image with or without suffix, and may begin with the folder of the images. A second column,
    as in lists of images and masks, is ignored if the whole line is no name.

    Args:
        names: names of all images, see `example_name`.
        folder: folder of the images.
        location: parameter for error messages.

    Example:
        >>> lists = NameLists(["a/my photo.1", "b/x"], Path("images"))
        >>> lists.resolve(["images/a/my photo.1.jpg", "x"], "train.txt")
        ['a/my photo.1', 'b/x']
    """

    def __init__(self, names: Sequence[str], folder: Path, location: str = "dataset.root") -> None:
        self._names = set(names)
        self._folder, self._location = folder, location
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(name.rsplit("/", 1)[-1], []).append(name)
        self._list_of: dict[str, str] = {}

    def resolve(self, lines: Sequence[str], listed_in: str) -> list[str]:
        """Return the image name of each line.

        Raises:
            UserError: a line names no image or several ones, or an image is listed twice.
        """
        resolved, unknown, problems = [], [], []
        for line in lines:
            name = self._find(line) or next(filter(None, map(self._find, self._columns(line))), None)
            if name is None:
                unknown.append(line)
            elif name in self._list_of:
                other = self._list_of[name]
                places = f"twice in {other}" if other == listed_in else f"in {other} and in {listed_in}"
                problems.append(f"{self._location}: the image {name} is listed {places}; remove one of the lines")
            else:
                self._list_of[name] = listed_in
                resolved.append(name)
        if unknown:
            raise UserError(
                f"{self._location}: {len(unknown)} listed images are not in {self._folder}, the first: {unknown[0]} (in "
                f"{listed_in}); remove the lines or add the images"
            )
        if problems:
            raise UserError(*problems[:MAX_LISTED], *_more(problems))
        return resolved

    def unlisted(self) -> list[str]:
        """Return the images that no list has named."""
        return sorted(self._names - set(self._list_of))

    @staticmethod
    def _columns(line: str) -> list[str]:
        parts = line.split()
        return [line.split("\t")[0].strip(), parts[0]] if len(parts) > 1 else []

    def _find(self, text: str) -> str | None:
        """Return the image that a text names; None if there is none or more than one."""
        path = text.replace("\\", "/").removeprefix("./")
        suffix = Path(path).suffix.lower()
        for whole in (path, path[: -len(suffix)]) if suffix in IMAGE_SUFFIXES else (path,):
            inner = whole.removeprefix("/").removeprefix(f"{self._folder.name}/")
            for name in (whole, inner):
                if name in self._names:
                    return name
            # A path from another machine, or a file name without its folder.
            similar = [
                name
                for name in self._by_stem.get(whole.rsplit("/", 1)[-1], [])
                if f"/{whole}".endswith(f"/{name}") or name.endswith(f"/{whole}")
            ]
            if len(similar) == 1:
                return similar[0]
        return None


def _first_twice(items: Iterable[str]) -> str | None:
    """Return the first item that occurs a second time."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _more(problems: Sequence[str]) -> list[str]:
    return [f"… and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []

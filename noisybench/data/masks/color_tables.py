"""Tables of the colors of classes, as datasets and annotation tools ship them beside their masks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from noisybench.data.masks.values import Color, unpack
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError, show
from noisybench.utils.places import read_text

COLOR_FILES = ("colors.txt", "label_colors.txt", "class_dict.csv", "labelmap.txt")
"""Names of files with a table: our own, CamVid's, Kaggle's and CVAT's."""

UNLABELED_NAMES = ("void", "unlabeled", "ignore", "ignored")
"""Names of classes that mean no label, whatever their case."""


@dataclass(frozen=True)
class ColorTable:
    """Classes of colors, in the order of a file.

    Attributes:
        classes: class of each color; `IGNORED` for colors whose name means no label.
        names: name of each class.
        unlabeled: names that mean no label.
    """

    classes: dict[Color, int]
    names: tuple[str, ...]
    unlabeled: tuple[str, ...] = ()


def find_color_file(folder: Path) -> Path | None:
    """Return the file with the table of colors in a folder, if there is one.

    Raises:
        UserError: there are several ones.
    """
    found = [folder / name for name in COLOR_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise UserError(
            f"dataset.root: {folder} contains {found[0].name} and {found[1].name}, and both declare the colors of classes; "
            "remove one of them"
        )
    return found[0] if found else None


def read_color_file(path: Path) -> ColorTable:
    """Read a table with red, green, blue and the name of a class in each line, in this order or with the name first.

    Numbers are separated by blanks, tabs, commas, semicolons or colons. Lines that begin with `#` and a header do not count.

    Raises:
        UserError: a line is none of these, or a color or a name occurs twice.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "label_colors.txt"
        >>> _ = path.write_text("128 0 0 Building\\n128 128 128\\tSky\\n0 0 0 Void\\n")
        >>> read_color_file(path)
        ColorTable(classes={(128, 0, 0): 0, (128, 128, 128): 1, (0, 0, 0): 255}, names=('Building', 'Sky'), unlabeled=('Void',))
    """
    red_column: int | None = None
    classes: dict[Color, int] = {}
    names: list[str] = []
    unlabeled: list[str] = []
    for number, line in enumerate(read_text(path, "dataset.root").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        color, name = _parse_line(line, red_column)
        if color is None:
            if not classes and number == 1:
                words = [word.lower() for word in re.split(r"[\s,;]+", line.strip())]
                # Where names of classes are numbers, only the header distinguishes them from the colors.
                red_column = next((column for column, word in enumerate(words) if word in ("r", "red")), None)
                continue
            raise UserError(
                f"dataset.root: {path}, line {number}: needs red, green and blue from 0 to 255 and a name, but contains "
                f"{show(line)}"
            )
        if color in classes:
            raise UserError(f"dataset.root: {path}, line {number}: the color {','.join(map(str, color))} occurs twice")
        name = name or f"class {len(names)}"
        if name in names:
            raise UserError(f"dataset.root: {path}, line {number}: the class {show(name)} occurs twice")
        # In both spellings of "unlabeled".
        if name.lower().replace("ll", "l") in UNLABELED_NAMES:
            classes[color] = IGNORED
            unlabeled.append(name)
        else:
            classes[color] = len(names)
            names.append(name)
    if len(names) < 2:
        raise UserError(f"dataset.root: {path} declares {len(names)} classes with a label, but needs two")
    return ColorTable(classes, tuple(names), tuple(unlabeled))


def _parse_line(line: str, red_column: int | None) -> tuple[Color | None, str]:
    """Return the color, which begins in a column if a header says so, and the name in a line; no color if it has none."""
    for separator in (r"\s*[,;:\t]\s*", r"[\s,;:]+"):
        parts = [part for part in re.split(separator, line.strip()) if part]
        orders = [(parts[:3], parts[3:]), (parts[-3:], parts[:-3]), (parts[1:4], parts[:1])]
        if red_column is not None and len(parts) == 4:
            orders = [(parts[red_column : red_column + 3], parts[:red_column] + parts[red_column + 3 :])]
        for numbers, words in orders:
            if len(numbers) == 3 and all(re.fullmatch(r"\d{1,3}", part, re.ASCII) for part in numbers):
                red, green, blue = map(int, numbers)
                return ((red, green, blue), " ".join(words)) if max(red, green, blue) < 256 else (None, "")
    return None, ""


def parse_color(text: str) -> Color:
    """Return a color written as `128,0,0`, `128 0 0` or `#800000`.

    Raises:
        UserError: it is none.

    Example:
        >>> parse_color("#800000"), parse_color("0, 64,128")
        ((128, 0, 0), (0, 64, 128))
    """
    stripped = text.strip().strip("()[]")
    if match := re.fullmatch(r"#([0-9a-fA-F]{6})", stripped):
        return unpack(int(match[1], 16))
    parts = re.split(r"[\s,;]+", stripped)
    if len(parts) == 3 and all(re.fullmatch(r"\d{1,3}", part, re.ASCII) and int(part) < 256 for part in parts):
        return int(parts[0]), int(parts[1]), int(parts[2])
    raise UserError(
        f"dataset.colors: {show(text)} is not a color; write red, green and blue from 0 to 255, such as 128,0,0"
    )

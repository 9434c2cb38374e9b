"""Base class of datasets whose masks are drawn from annotations such as polygons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.masks.drawing import DrawnObjects, is_outside
from noisybench.data.masks.masks import MaskedImage
from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError, nearest, show
from noisybench.tasks.datasets._masks import MaskedImages, MaskSource
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream


class DrawnSource(MaskSource):
    """Images with masks that are drawn from annotations."""

    own_files = True
    root: Path | None = parameter(None, help="Folder of the dataset")
    overlap: Literal["smallest", "last", "ignore"] = parameter(
        "smallest",
        help="Class of pixels that objects of several classes cover: that of the `smallest` object, of the `last` one in the "
        "file, or no label (`ignore`)",
    )

    def _root(self) -> Path:
        """Return the folder of the dataset.

        Raises:
            UserError: none is given, or it does not exist.
        """
        if self.root is None:
            raise UserError("dataset.root: set the folder of the dataset, e.g. dataset.root=photographs")
        root = expand_user(self.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: {root}: folder not found")
        return root


@dataclass
class Annotated:
    """Annotated images of one split, collected while annotations are read.

    Attributes:
        examples: image and mask of each example.
        names: name of each example.
        clipped: names of images with outlines beyond their edges.
        empty: names of images without an object.
    """

    examples: list[MaskedImage] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, name: str, drawn: DrawnObjects) -> None:
        """Add an image; outlines entirely outside of it are a problem, and those that reach beyond it are noted."""
        # Without a stated size, coordinates are shares of the sides.
        shape = drawn.shape or (1, 1)
        margin = 1.0 if drawn.shape else 0.01
        places = {is_outside(polygon, shape, margin) for outline in drawn.outlines for polygon in outline.polygons}
        if "entirely" in places and not drawn.problem:
            drawn = replace(drawn, problem="a polygon lies outside of the image; it may belong to another image")
        elif "partly" in places:
            self.clipped.append(name)
        self.examples.append((drawn.image, drawn))
        self.names.append(name)
        if not drawn.outlines and not drawn.problem:
            self.empty.append(name)

    def finish(self, *notes: ReadingNote) -> MaskedImages:
        """Return the examples with their notes."""
        return MaskedImages(
            self.examples,
            self.names,
            (
                *reading_note(
                    "clipped_outline", "Outlines of objects reach beyond their image and were clipped", self.clipped
                ),
                *reading_note("image_without_object", "Images without an object are background alone", self.empty),
                *notes,
            ),
        )


def class_indices(names: Iterable[str], location: str) -> dict[str, int]:
    """Return the class of each name: 1, 2, … in their order, and 0 for a class called background.

    Raises:
        UserError: a name occurs twice, or there are more classes than a mask can hold.
    """
    listed = list(names)
    if not listed or len(listed) >= IGNORED:
        raise UserError(f"{location}: declares {len(listed)} classes, but masks can hold 1 to 254 and the background")
    indices: dict[str, int] = {}
    for name in listed:
        if name in indices:
            raise UserError(f"{location}: the class {show(name)} occurs twice; rename one of them")
        is_background = name.lower() in ("background", "_background_")
        indices[name] = 0 if is_background else 1 + max(indices.values(), default=0)
    return indices


def names_of(indices: dict[str, int]) -> tuple[str, ...]:
    """Return the names of all classes, the background first."""
    return ("background", *(name for name, index in indices.items() if index))


def unknown_class(name: object, known: Iterable[str]) -> str:
    """Return a problem about the class of an object that no list names."""
    return f"has the unknown class {show(name)}; {nearest(str(name), list(known))}"


def draw_example(number: int, part: str) -> tuple[NDArray[np.uint8], list[float]]:
    """Return an image with a bright square on a dark background, and the square's polygon, for `example` methods."""
    stream = Stream("annotation example", part, number)
    pixels = (stream.uniform(16, 20, 3) * 100).astype(np.uint8)
    top, left = (2 + int(6 * draw) for draw in stream.uniform(2))
    pixels[top : top + 6, left : left + 6] += 120
    return pixels, [left, top, left + 6, top, left + 6, top + 6, left, top + 6]


def save_image(path: Path, pixels: NDArray[Any]) -> None:
    """Write an image and its folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

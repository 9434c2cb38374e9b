"""Every registered dataset reads what its files show, in every form of them, or refuses the file by name."""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.config.registry import Entry, list_entries
from noisybench.data.dataset import Dataset, Split
from noisybench.data.texts import is_text, texts_of
from noisybench.data.traces.steps import CORRECT, STEP_CLASSES
from noisybench.errors import UserError
from tests.fuzz.files import image_bomb

DATASETS = list_entries("datasets")
PICTURES = (".png", ".jpg", ".jpeg")
RECORDS = (".json", ".jsonl")
BRIGHT = 128
"""Objects of masks are brighter in every example, and the background is darker."""

MAX_LOSS = 6.0
"""Largest mean difference of intensities after another JPEG compression."""

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Dataset with its example.

    Attributes:
        entry: registered name.
        folder: files of the example.
        parameters: parameters that load it.
    """

    entry: Entry
    folder: Path
    parameters: dict[str, Any]

    def load(self, **parameters: Any) -> Dataset:
        loaded: Dataset = self.entry.load_class()(**{**self.parameters, **parameters}).load()
        return loaded

    def has(self, parameter: str) -> bool:
        return parameter in self.entry.schema.fields

    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def images(self) -> list[Path]:
        """Return the pictures that are inputs; masks are found by painting one picture of each folder."""
        pictures = [file for file in self.files() if file.suffix.lower() in PICTURES]
        dataset = self.load()
        if dataset.target_kind.name != "masks":
            return pictures
        inputs = []
        for folder in sorted({file.parent for file in pictures}):
            first = next(file for file in pictures if file.parent == folder)
            if changes_inputs(self, first, dataset):
                inputs += [file for file in pictures if file.parent == folder]
        assert inputs, "no picture is an input"
        return inputs


def changes_inputs(reader: Reader, file: Path, dataset: Dataset) -> bool:
    content = file.read_bytes()
    with Image.open(file) as picture:
        Image.new("RGB", picture.size, (90, 120, 150)).save(file)
    try:
        painted = reader.load()
    except UserError:
        return False
    finally:
        file.write_bytes(content)
    return any(
        not np.array_equal(a.inputs[:], b.inputs[:]) for a, b in zip(splits(painted), splits(dataset), strict=True)
    )


@pytest.fixture(params=DATASETS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    entry = DATASETS[request.param]
    folder = tmp_path / "files"
    folder.mkdir()
    return Reader(entry, folder, entry.load_class().example(folder))


def splits(dataset: Dataset) -> Iterator[Split]:
    yield from (dataset.train, dataset.validation, dataset.test)


def observed(split: Split) -> NDArray[Any]:
    return split.targets if split.noisy_targets is None else split.noisy_targets


def center(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return rows.mean(), columns.mean()


def check_masks(dataset: Dataset) -> None:
    """Objects of masks lie on the bright pixels; the surroundings have the most frequent class."""
    frequent = int(np.bincount(dataset.train.targets.ravel())[: dataset.num_classes].argmax())
    assert frequent == 0 or not dataset.has_background
    for split in splits(dataset):
        labeled = dataset.target_kind.is_labeled(split.targets)
        bright, inside = (split.inputs[:].mean(axis=1) > BRIGHT) & labeled, (split.targets != frequent) & labeled
        assert inside.any()
        assert (bright & inside).sum() / (bright | inside).sum() > 0.7
        # Tiles may show just the edge of an object; the edges of others may round to either pixel.
        shifts = [
            np.subtract(center(one), center(other))
            for one, other in zip(bright, inside, strict=True)
            if other.sum() >= 16
        ]
        assert not shifts or np.abs(np.mean(shifts, axis=0)).max() < 0.6


def check_classes(dataset: Dataset) -> None:
    """Inputs are nearest to the mean of their class, and images are brighter for higher classes."""
    images, labels = dataset.train.inputs[:].reshape(len(dataset.train), -1).astype(float), observed(dataset.train)
    means = np.stack([images[labels == number].mean(axis=0) for number in range(dataset.num_classes)])
    if dataset.train.inputs[:1].dtype == np.uint8:
        assert (np.diff(means.mean(axis=1)) > 0).all()
    for split in splits(dataset):
        distances = np.linalg.norm(split.inputs[:].reshape(len(split), 1, -1) - means, axis=2)
        agreement = np.mean(distances.argmin(axis=1) == observed(split))
        # Features of several classes overlap.
        assert agreement == 1 if split.inputs[:1].dtype == np.uint8 else agreement > 0.8


def test_labels_and_masks_agree_with_inputs(reader: Reader) -> None:
    dataset = reader.load()
    if not reader.files() or dataset.target_kind.name == "tokens":
        pytest.skip("draws its data, or reads text")
    if is_text(dataset.train.inputs):
        if dataset.class_names == STEP_CLASSES:
            check_steps(dataset)
            return
        for split in splits(dataset):
            shown = [dataset.class_names[target] for target in split.targets]
            assert all(name in text for name, text in zip(shown, texts_of(split.inputs[:]), strict=True))
        return
    if dataset.target_kind.name == "classes":
        check_classes(dataset)
        return
    check_masks(dataset)
    for number, mode in enumerate(("resize", "letterbox", "crop", "tile") if reader.has("resize_mode") else ()):
        check_masks(reader.load(size=([17, 24], [31, 18])[number % 2], resize_mode=mode))


def check_steps(dataset: Dataset) -> None:
    """Check that solutions are labeled incorrect from the first sum that is."""
    for split in splits(dataset):
        for target, text in zip(split.targets, texts_of(split.inputs[:]), strict=True):
            sums = [tuple(map(int, found)) for found in re.findall(r"(\d+)\+(\d+)=(\d+)", text)]
            assert sums
            assert (target == CORRECT) == all(first + second == total for first, second, total in sums), text


def gray(pixels: Pixels) -> Pixels:
    return np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)


STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How a camera stores what is seen, by EXIF orientation."""


def palette(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels).quantize(16)


def with_exif(pixels: Pixels, orientation: int) -> tuple[Image.Image, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(pixels).transpose(STORED_AS[orientation]), {"exif": exif.tobytes()}


def transparent(pixels: Pixels, hidden: int) -> Image.Image:
    """Return an image with black under a transparent left half, which is white to the eye."""
    alpha = np.full(pixels.shape[:2], 255, dtype=np.uint8)
    alpha[:, : pixels.shape[1] // 2] = 0
    colors = np.where(alpha[..., None] == 0, hidden, pixels)
    return Image.fromarray(np.dstack([colors, alpha]).astype(np.uint8))


def half_white(pixels: Pixels) -> Pixels:
    changed = pixels.copy()
    changed[:, : pixels.shape[1] // 2] = 255
    return changed


Form = tuple[Callable[[Pixels], Pixels], Callable[[Pixels], Any]]
"""Pixels that a form can hold, and the stored image with its options."""

ANY_FORMS: dict[str, Form] = {
    "rgb": (lambda pixels: pixels, Image.fromarray),
    "gray": (gray, lambda pixels: Image.fromarray(pixels[..., 0])),
    **{
        f"exif {number}": (lambda pixels: pixels, functools.partial(with_exif, orientation=number))
        for number in range(2, 9)
    },
}
PNG_FORMS: dict[str, Form] = {
    **ANY_FORMS,
    "palette": (lambda pixels: np.asarray(palette(pixels).convert("RGB")), palette),
    "opaque": (lambda pixels: pixels, lambda pixels: Image.fromarray(pixels).convert("RGBA")),
    "gray with alpha": (gray, lambda pixels: Image.fromarray(pixels[..., 0]).convert("LA")),
    "transparent": (half_white, functools.partial(transparent, hidden=0)),
    "16 bit": (gray, lambda pixels: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)),
    "one bit": (
        lambda pixels: np.where(gray(pixels) > BRIGHT, 255, 0).astype(np.uint8),
        lambda pixels: Image.fromarray(pixels[..., 0] > BRIGHT),
    ),
}
JPEG_FORMS: dict[str, Form] = {
    **ANY_FORMS,
    "cmyk": (lambda pixels: pixels, lambda pixels: Image.fromarray(pixels).convert("CMYK")),
    "progressive": (lambda pixels: pixels, lambda pixels: (Image.fromarray(pixels), {"progressive": True})),
    "png in a jpg file": (lambda pixels: pixels, lambda pixels: (Image.fromarray(pixels), {"format": "png"})),
}


def store(file: Path, stored: Any) -> None:
    picture, options = stored if isinstance(stored, tuple) else (stored, {})
    data = io.BytesIO()
    lossless = {"quality": 100, "subsampling": 0} if file.suffix.lower() != ".png" else {}
    picture.save(data, **{"format": "png" if file.suffix.lower() == ".png" else "jpeg", **lossless, **options})
    file.write_bytes(data.getvalue())


def test_every_form_of_an_image_is_read_as_people_see_it(reader: Reader) -> None:
    images = reader.images() if any(file.suffix.lower() in PICTURES for file in reader.files()) else []
    if not images:
        pytest.skip("reads no files of images")
    forms = []
    for number, file in enumerate(images):
        with Image.open(file) as opened:
            pixels = np.array(opened.convert("RGB"))
        # The number of the file in the first row keeps images different in every form.
        pixels[0, :8] = 255 * (number >> np.arange(8) & 1)[:, None]
        choices = PNG_FORMS if file.suffix.lower() == ".png" else JPEG_FORMS
        visible, as_stored = choices[list(choices)[number % len(choices)]]
        forms.append((file, visible(pixels), as_stored))
        store(file, Image.fromarray(forms[-1][1]))
    plain = reader.load()
    for file, visible_pixels, as_stored in forms:
        store(file, as_stored(visible_pixels))
    found = reader.load()
    lossless = all(file.suffix.lower() == ".png" for file in images)
    for first, second in zip(splits(plain), splits(found), strict=True):
        np.testing.assert_array_equal(first.targets, second.targets)
        np.testing.assert_array_equal(observed(first), observed(second))
        differences = np.abs(first.inputs[:].astype(float) - second.inputs[:]).mean(axis=(1, 2, 3))
        assert differences.max() <= (0 if lossless else MAX_LOSS)
    assert not lossless or found.notes, "conversions are reported"


def test_what_tools_leave_behind_is_no_data(reader: Reader) -> None:
    if not reader.files():
        pytest.skip("draws its data")
    expected = reader.load()
    for folder in (reader.folder, *sorted(path for path in reader.folder.rglob("*") if path.is_dir())):
        files = sorted(file for file in folder.iterdir() if file.is_file())
        (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (folder / "__MACOSX").mkdir()
        for file in files[:2]:
            (folder / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(60))
            (folder / "__MACOSX" / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(60))
            (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
            shutil.copy(file, folder / ".ipynb_checkpoints" / file.name)
    found = reader.load()
    assert found.hash == expected.hash
    assert found.source_names == expected.source_names


def refusal(reader: Reader) -> str | None:
    """Return the error of a dataset; None if it can be read."""
    try:
        reader.load()
    except UserError as error:
        return str(error)
    return None


def test_damaged_files_are_named(reader: Reader) -> None:
    files = {file.suffix.lower(): file for file in reversed(reader.files())}
    if not files:
        pytest.skip("draws its data")
    expected = reader.load()
    for suffix, file in files.items():
        content = file.read_bytes()
        damages = {"empty": b"", "text": b"not what the suffix says\n", "truncated": content[: len(content) * 3 // 7]}
        if suffix in PICTURES:
            damages["bomb"] = image_bomb(40_000)
        is_list = suffix not in RECORDS and content.isascii()
        for damage, damaged in damages.items():
            if is_list and (damage == "truncated" or (damage == "empty" and expected.target_kind.name == "masks")):
                continue  # a shorter list is a list, and an image may have no objects
            file.write_bytes(damaged)
            error = refusal(reader)
            if error is None:
                assert reader.load().hash == expected.hash, f"{damage} {file.name} is read without an error"
            else:
                named = file.name in error or str(reader.folder) in error or "has no examples" in error
                assert named, (damage, file.name, error)
            if damage == "bomb" and error is not None and reader.has("on_error"):
                skipped = reader.load(on_error="skip").skipped_files
                assert len(skipped) == 1
                assert file.name in skipped[0]
        file.write_bytes(content)

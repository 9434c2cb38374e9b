"""Pixel values that the decoder makes of every kind of image file, against values worked out by hand."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.images.cache import read_files
from noisybench.data.images.decoding import FORMATS, TRANSPOSITIONS, DecodedImage, DecodingRules, decode, decode_image
from noisybench.data.images.facts import FACTS, ImageFacts
from noisybench.errors import UserError

GRAY = np.array([[0, 50, 100], [150, 200, 255]], dtype=np.uint8)


def encode(array: NDArray[Any] | Image.Image, kind: str = "png", **options: Any) -> bytes:
    """Return an array or picture in a file format."""
    data = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(data, kind, **options)
    return data.getvalue()


def read(data: bytes, **rules: Any) -> DecodedImage:
    return decode_image(("x.png", data), DecodingRules(**rules))


def deep_png(values: NDArray[Any], color_type: int, transparent: int | None = None) -> bytes:
    """Return a PNG file of 16 bits for each channel, which Pillow does not write in color or with a transparent gray."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    first = chunk(b"IHDR", header) + (b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent)))
    return b"\x89PNG\r\n\x1a\n" + first + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_transparent_gray_of_16_bits_is_composed() -> None:
    decoded = read(deep_png(np.array([[0, 257], [40000, 65535]]), 0, transparent=257))
    assert decoded.pixels[1].tolist() == [[0, 255], [156, 255]]
    assert decoded.facts == ("intensity_16_bits", "transparency")


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_as_viewers_do(orientation: int, kind: str) -> None:
    # What the camera stores for each orientation of the same scene, from the table of the EXIF standard.
    stored = {
        1: GRAY, 2: GRAY[:, ::-1], 3: GRAY[::-1, ::-1], 4: GRAY[::-1], 5: GRAY.T, 6: np.rot90(GRAY), 7: GRAY[::-1, ::-1].T,
        8: np.rot90(GRAY, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read(encode(np.ascontiguousarray(stored), kind, exif=exif))
    np.testing.assert_array_equal(image.pixels, np.stack([GRAY] * 3))
    assert image.facts == (("exif_orientation",) if orientation in TRANSPOSITIONS else ())


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_number_that_is_no_orientation_changes_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert read(encode(GRAY, exif=exif)).facts == ()


def test_damaged_exif_data_do_not_damage_the_pixels() -> None:
    image = read(encode(GRAY, exif=b"Exif\0\0II*\0\xff\xff\xff\xff\1\2"))
    np.testing.assert_array_equal(image.pixels[0], GRAY)
    assert set(image.facts) <= {"exif_damaged"}


@pytest.mark.parametrize(("color", "ground"), [("white", 255), ("black", 0), ("gray", 128)])
def test_transparent_pixels_are_composed_on_the_color(color: Any, ground: int) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = [0, 128, 255]
    image = read(encode(rgba), transparent_color=color)
    expected = ground + (np.array([200, 0, 0])[:, None] - ground) * np.array([0, 128, 255]) / 255
    np.testing.assert_allclose(image.pixels[:, 0], expected, atol=1)
    assert image.facts == ("transparency",)


def test_every_kind_of_transparency_counts() -> None:
    shape = np.array([[0, 255, 0], [255, 0, 255]], dtype=np.uint8)
    black = np.dstack([np.zeros_like(shape), shape])
    palette = Image.fromarray((shape > 0).astype(np.uint8))
    palette.putpalette([0, 0, 0, 0, 0, 0] + [9] * 762)
    files = [
        encode(Image.fromarray(black, "LA")), encode(palette, transparency=0), encode(palette, "gif", transparency=0),
        encode(palette, transparency=bytes([0, 255])), encode(Image.fromarray(black, "LA"), "webp", lossless=True),
        encode(Image.fromarray(shape), transparency=0),
    ]  # fmt: skip
    for data in files[:-1]:
        np.testing.assert_array_equal(read(data).pixels[0], 255 - shape)
        assert read(data).facts == ("transparency",)
    # The gray value 0 is declared transparent: white on white.
    assert read(files[-1]).facts == ("transparency", "blank")


def test_opaque_alpha_is_no_transparency() -> None:
    image = read(encode(Image.fromarray(np.dstack([GRAY, np.full_like(GRAY, 255)]), "LA")))
    np.testing.assert_array_equal(image.pixels[0], GRAY)
    assert image.facts == ()


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg2000", "pgm"])
def test_16_bits_keep_their_contrast(kind: str) -> None:
    deep = (GRAY.astype(np.uint16) * 257).copy()
    data = encode(deep, kind) if kind != "pgm" else b"P5\n3 2\n65535\n" + deep.astype(">u2").tobytes()
    image = read(data)
    np.testing.assert_array_equal(image.pixels, np.stack([GRAY] * 3))
    assert image.facts == ("intensity_16_bits",)
    assert image.intensities == (0, 65535)


def test_big_endian_values_are_the_same() -> None:
    picture = Image.frombytes("I;16B", (3, 2), (GRAY.astype(np.uint16) * 257).astype(">u2").tobytes())
    np.testing.assert_array_equal(read(encode(picture, "tiff")).pixels[0], GRAY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_values_of_which_zero_is_white_are_inverted(dtype: Any) -> None:
    data = encode(GRAY.astype(dtype) * dtype(257 if dtype is np.uint16 else 1), "tiff")
    # The entry of the photometric interpretation: tag 262, type 3, one value, 1 for black.
    entry = struct.pack("<HHII", 262, 3, 1, 1)
    assert entry in data
    image = read(data.replace(entry, struct.pack("<HHII", 262, 3, 1, 0)))
    np.testing.assert_array_equal(image.pixels[0], 255 - GRAY)
    assert ("min_is_white" in image.facts) == (dtype is np.uint16)


def test_a_range_scales_and_clips() -> None:
    data = encode(np.array([[0, 1000, 3000, 5000, 60000]], dtype=np.uint16))
    image = read(data, intensity_range=(1000, 5000))
    assert image.pixels[0].tolist() == [[0, 0, 128, 255, 255]]
    assert image.facts == ("intensity_range", "intensity_clipped")


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_need_a_range(dtype: Any) -> None:
    data = encode(np.array([[-1000, 0, 1000]], dtype=dtype), "tiff")
    with pytest.raises(
        UserError, match=r"x\.png: has .* gray values, from -1000 to 1000; set dataset\.intensity_range"
    ):
        read(data)
    assert read(data, intensity_range=(-1000, 1000)).pixels[0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        read(encode(np.array([[0, value]], dtype=np.float32), "tiff"), intensity_range=(0, 1))


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colors_of_16_bits_keep_their_upper_half(color_type: int, channels: int) -> None:
    values = np.full((2, 3, channels), 65535, dtype=np.uint16)
    values[..., 0] = GRAY.astype(np.uint16) * 256 + 7
    image = read(deep_png(values, color_type))
    np.testing.assert_array_equal(image.pixels[0], GRAY)
    assert image.facts == ("color_16_bits",)
    with pytest.raises(UserError, match="colors of 16 bits"):
        read(deep_png(values, color_type), intensity_range=(0, 4095))


def write_deep(folder: Path, high: int) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        Image.fromarray(np.linspace(number, high, 16).reshape(4, 4).astype(np.uint16)).save(file)
    return files


def test_12_bits_in_16_are_refused_until_the_range_is_given(tmp_path: Path) -> None:
    files = write_deep(tmp_path, 4000)
    with pytest.raises(
        UserError, match=r"0\.png: images of 16 bits have values from 0 to 4000 .* such as \[0, 4095\] for 12"
    ):
        read_files(files, None)
    assert read_files(files, None, rules=DecodingRules((0, 4095))).images.max() == 249
    assert read_files(files, None, rules=DecodingRules((0, 65535))).images.max() == 16


def test_almost_black_images_beside_a_bright_one_are_reported(tmp_path: Path) -> None:
    # A single hot pixel must not hide that all others have 12 bits.
    files = write_deep(tmp_path, 4000)
    Image.fromarray(np.array([[100, 65535]], np.uint16).repeat(4, 0).repeat(2, 1)).save(files[0])
    notes = {note.kind: note for note in read_files(files, None).notes}
    assert notes["almost_black"].names == ("1.png", "2.png")
    assert "almost_black" not in {note.kind for note in read_files(files, None, rules=DecodingRules((0, 65535))).notes}


def test_notes_are_the_same_from_the_cache(tmp_path: Path) -> None:
    files = write_deep(tmp_path, 50000)
    first, second = (read_files(files, None, root=tmp_path.parent).notes for _ in range(2))
    assert first == second
    (note,) = first
    assert note.text == "16-bit gray values were scaled from 0 … 65535 to 0 … 255 (found: 0 to 50000)"
    assert (note.count, note.names) == (3, tuple(f"{tmp_path.name}/{number}.png" for number in range(3)))


def test_facts_survive_their_way_through_a_file() -> None:
    facts = ImageFacts()
    for row in range(30):
        facts.add(row, DecodedImage(np.zeros((3, 1, 1), np.uint8), tuple(FACTS), (row, 100 + row)))
    restored = ImageFacts.from_json(json.loads(json.dumps(facts.to_json())))
    assert restored.notes(DecodingRules(), str) == facts.notes(DecodingRules(), str)
    assert restored.notes(DecodingRules(), str)[0].count == 30
    assert restored.intensities == (0, 129)


def test_images_of_different_depths_and_a_range_without_use_are_reported() -> None:
    shallow, deep = read(encode(GRAY)), read(encode(GRAY.astype(np.uint16)), intensity_range=(0, 255))
    mixed, plain = ImageFacts(), ImageFacts()
    for row, image in enumerate((shallow, shallow, deep)):
        mixed.add(row, image)
    plain.add(0, shallow)
    rules = DecodingRules((0, 255))
    assert [(note.kind, note.count) for note in mixed.notes(rules, str)] == [
        ("intensity_range", 1),
        ("mixed_depths", 2),
    ]
    assert [(note.kind, note.count) for note in plain.notes(rules, str)] == [("unused_range", 1)]


def test_other_modes_are_read_as_colors() -> None:
    color = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    picture = Image.fromarray(color)
    np.testing.assert_array_equal(read(encode(picture.quantize(3))).pixels, color.transpose(2, 0, 1))
    assert read(encode(Image.fromarray(GRAY > 120))).pixels[0].tolist() == [[0, 0, 0], [255, 255, 255]]
    # The format of Adobe, in which 255 means no ink.
    cmyk = Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], dtype=np.uint8), "CMYK")
    for kind in ("jpeg", "tiff"):
        np.testing.assert_allclose(read(encode(cmyk, kind)).pixels[:, 4, 4], [255, 0, 0], atol=2)


def test_the_first_frame_counts_and_is_declared() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8) + 60 * np.eye(4, dtype=np.uint8)) for value in (10, 90)]
    for kind in ("gif", "tiff", "png", "webp"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert abs(int(read(data).pixels[0, 0, 1]) - 10) < 4, kind
        assert read(data).facts == ("first_frame",), kind


def test_images_of_one_color_are_declared() -> None:
    assert read(encode(np.full((4, 4, 3), 255, np.uint8))).facts == ("blank",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "missing or empty"),
        (b"text", r"damaged or not an image \(its format is unknown\)"),
        (encode(GRAY)[:50], "damaged or not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n", "damaged or not an image"),
    ],
)
def test_what_is_no_image_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.png: {message}"):
        read(data)


def test_warnings_of_the_library_are_no_noise(tmp_path: Path) -> None:
    import warnings

    Image.fromarray(GRAY).save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1\2")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read_files([tmp_path / "x.png"], None)
    assert not found


def test_the_content_decides_about_the_format(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encode(GRAY))
    np.testing.assert_array_equal(read_files([tmp_path / "x.jpg"], None).images[0, 0], GRAY)
    assert "EPS" not in FORMATS


def test_a_size_applies_after_the_orientation() -> None:
    wide = np.zeros((8, 4, 3), dtype=np.uint8)
    wide[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(("x.png", encode(wide, exif=exif)), 4)
    assert image.pixels.shape == (3, 4, 4)
    assert image.pixels[0, :, 3].min() > image.pixels[0, :, 0].max()


def test_images_beside_masks_are_decoded_by_the_same_rules(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = np.zeros((12, 8), dtype=np.uint8)
    mask[:6] = 1
    for number in range(8):
        for name in ("images", "masks"):
            (tmp_path / name).mkdir(exist_ok=True)
        stored = np.rot90(np.where(mask, 50000 + number, 1000).astype(np.uint16))
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "images" / f"{number}.png", exif=exif)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    load = get_entry("datasets", "image_mask_folder").load_class()(root=str(tmp_path), duplicates="keep").load
    for data in (load(), load()):
        bright = data.train.inputs[:][:, 0] > 128
        np.testing.assert_array_equal(bright, data.train.targets == 1)
        counts = {note.kind: note.count for note in data.notes}
        assert counts["exif_orientation"] == counts["intensity_16_bits"] == 8
    for file in (tmp_path / "images").iterdir():
        Image.fromarray(np.full((12, 8), 900, dtype=np.uint16)).save(file)
    with pytest.raises(UserError, match="intensity_range"):
        load()

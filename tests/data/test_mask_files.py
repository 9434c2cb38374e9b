"""Masks as people have them: paired by path, and read by declared values and colors, or refused with a proposal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.masks.color_tables import parse_color, read_color_file
from noisybench.data.masks.pairs import NameLists
from noisybench.data.masks.values import Color, MaskValues, read_values
from noisybench.errors import UserError

SHAPE = (16, 20)


def save(path: Path, array: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def picture(number: int) -> NDArray[np.uint8]:
    """Return an image that differs from others."""
    return np.random.default_rng(number).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)


def disc(number: int, value: int = 1) -> NDArray[np.uint8]:
    """Return a mask with an object at a place of its own."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2 + number % 4 : 10, 3 + number % 5 : 14] = value
    return mask


def write(root: Path, masks: dict[str, NDArray[Any]], suffix: str = ".png", **options: Any) -> Path:
    """Write images and masks by their names."""
    for number, (name, mask) in enumerate(masks.items()):
        save(root / "images" / f"{name}.png", picture(number))
        save(root / "masks" / f"{name}{suffix}", mask, **options)
    return root


def load(root: Path, **values: Any) -> Dataset:
    parameters = {"root": str(root), "validation_fraction": 0.0, **values}
    dataset: Dataset = get_entry("datasets", "image_mask_folder").load_class()(**parameters).load()
    return dataset


def by_name(dataset: Dataset) -> dict[str, NDArray[np.uint8]]:
    """Return all masks by the names of their images; the test split was drawn from the same source."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return {
        dataset.source_names[row]: mask
        for split in splits
        for row, mask in zip(split.index, split.targets, strict=True)
    }


def numbered(count: int = 8) -> dict[str, NDArray[np.uint8]]:
    return {f"{number:03}": disc(number) for number in range(count)}


def test_masks_belong_to_images_of_the_same_path(tmp_path: Path) -> None:
    masks = {f"{folder}/{number:03}": disc(number + 2 * (folder == "b")) for folder in "ab" for number in range(4)}
    read = by_name(load(write(tmp_path, masks)))
    assert set(read) == set(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(read[name], mask)


def test_a_flat_folder_holds_the_masks_of_images_with_unique_names(tmp_path: Path) -> None:
    masks = {f"{'ab'[number % 2]}/{number:03}": disc(number) for number in range(8)}
    write(tmp_path, masks)
    for file in list((tmp_path / "masks").rglob("*.png")):
        file.rename(tmp_path / "masks" / file.name)
    for folder in "ab":
        (tmp_path / "masks" / folder).rmdir()
    read = by_name(load(tmp_path))
    for name, mask in masks.items():
        np.testing.assert_array_equal(read[name], mask)
    save(tmp_path / "images" / "b" / "000.png", picture(20))
    with pytest.raises(UserError, match=r"masks/000\.png could belong to the images a/000 and b/000"):
        load(tmp_path)


@pytest.mark.parametrize(("folder", "twin"), [("images", "001.jpg"), ("masks", "001.tif"), ("masks", "001.PNG")])
def test_two_files_of_one_name_are_refused(folder: str, twin: str, tmp_path: Path) -> None:
    write(tmp_path, numbered())
    save(tmp_path / folder / twin, picture(1) if folder == "images" else disc(1))
    with pytest.raises(UserError, match=r"001\.\w+ and 001\.\w+ have the same name"):
        load(tmp_path)


def test_images_and_masks_without_each_other_are_named(tmp_path: Path) -> None:
    write(tmp_path, numbered())
    (tmp_path / "images" / "002.png").unlink()
    (note,) = [note for note in load(tmp_path).notes if note.kind == "mask_without_image"]
    assert (note.count, note.names) == (1, ("002.png",))
    (tmp_path / "masks" / "003.png").unlink()
    with pytest.raises(UserError, match=r"masks/003\.png: mask not found"):
        load(tmp_path)
    assert len(load(tmp_path, on_error="skip").skipped_files) == 1


def test_a_suffix_that_only_masks_have_is_proposed(tmp_path: Path) -> None:
    write(tmp_path, numbered())
    for file in (tmp_path / "masks").iterdir():
        file.rename(file.with_stem(f"{file.stem}_seg"))
    with pytest.raises(UserError, match=r"no mask in .* has the name .* set dataset\.mask_suffix=_seg"):
        load(tmp_path)
    assert len(by_name(load(tmp_path, mask_suffix="_seg"))) == 8


def test_lists_hold_whole_lines(tmp_path: Path) -> None:
    names = ["a.1", "a.2", "my photo 1", "my photo 2", "c", "d.e", "f", "ü"]
    write(tmp_path, {name: disc(number) for number, name in enumerate(names)})
    train = "\ufeffa.1\r\nmy photo 1\r\nmy photo 2.png\r\nimages/c.png\r\nd.e\r\n\r\nu\u0308\r\n"
    (tmp_path / "train.txt").write_bytes(train.encode())
    (tmp_path / "test.txt").write_text("a.2")
    dataset = load(tmp_path)
    assert list(dataset.source_names) == ["a.1", "my photo 1", "my photo 2", "c", "d.e", "ü"]
    (note,) = [note for note in dataset.notes if note.kind == "unlisted_image"]
    assert note.names == ("f",)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("", "000", r"train\.txt is empty"),
        ("000\n000", "001", "contains 000 twice"),
        ("000\n000.png", "001", r"000 is listed twice in train\.txt"),
        ("000\n001", "001", r"001 is listed in train\.txt and in test\.txt"),
        ("000\nb/009", "002", r"1 listed images are not in .*the first: b/009"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(train: str, test: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, numbered())
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "test.txt").write_text(test)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_names_of_lists_from_another_machine_are_found() -> None:
    lists = NameLists(["a/000", "b/000"], Path("images"))
    assert lists.resolve(["C:\\data\\images\\a\\000.png"], "train.txt") == ["a/000"]
    with pytest.raises(UserError, match="000"):
        lists.resolve(["000"], "train.txt")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", ".tif"), ("L", ".bmp"), ("L", ".gif"), ("L", ".PNG"), ("RGB", ".png"), ("LA", ".png"), ("RGBA", ".png"),
     ("1", ".png"), ("16", ".png"), ("32", ".tif"), ("float", ".tif"), ("P", ".png")],
)  # fmt: skip
def test_masks_are_read_from_all_kinds_of_images(mode: str, suffix: str, tmp_path: Path) -> None:
    full = np.full(SHAPE, 255, np.uint8)

    def convert(mask: NDArray[np.uint8]) -> Any:
        arrays = {
            "RGB": np.dstack([mask] * 3), "LA": np.dstack([mask, full]), "RGBA": np.dstack([mask] * 3 + [full]),
            "1": mask.astype(bool), "16": mask.astype(np.uint16), "32": mask.astype(np.int32),
            "float": mask.astype(np.float32),
        }  # fmt: skip
        return arrays.get(mode, mask)

    for number, (name, mask) in enumerate(numbered().items()):
        save(tmp_path / "images" / f"{name}.png", picture(number))
        drawing = Image.fromarray(convert(mask))
        if mode == "P":
            drawing.putpalette([value for color in range(256) for value in (color, 255 - color, 7)])
        (tmp_path / "masks").mkdir(exist_ok=True)
        drawing.save(tmp_path / "masks" / f"{name}{suffix}")
    read = by_name(load(tmp_path))
    for name, mask in numbered().items():
        np.testing.assert_array_equal(read[name], mask)


def test_the_grays_of_a_gif_count_and_not_its_indices(tmp_path: Path) -> None:
    save(tmp_path / "mask.gif", disc(1, 2))
    assert set(np.unique(read_values(tmp_path / "mask.gif"))) == {0, 2}


def test_the_object_of_255_is_not_taken_for_no_label(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}": disc(number, 255) for number in range(8)})
    with pytest.raises(UserError, match=r"255 \(.*8 masks\).* set dataset\.values='\{0: 0, 255: 1\}'"):
        load(tmp_path)
    (tmp_path / "classes.txt").write_text("background\ncrack\n")
    with pytest.raises(UserError, match=r"255 would mean no label"):
        load(tmp_path)
    for values in ({0: 0, 255: 1}, {255: 1}):
        dataset = load(tmp_path, values=values)
        assert dataset.class_names == ("background", "crack")
        np.testing.assert_array_equal(by_name(dataset)["1"], disc(1))


def test_values_restrict(tmp_path: Path) -> None:
    masks = {f"{number}": disc(number, 7) for number in range(8)}
    masks["3"][0, :4] = 9
    write(tmp_path, masks)
    with pytest.raises(
        UserError, match=r"1 of 8 masks .*: 9 \(0\.156 %, 1 mask\).*set dataset\.values='\{0: 0, 7: 1, 9: 255\}'"
    ):
        load(tmp_path, values={0: 0, 7: 1})
    assert load(tmp_path, values={0: 0, 7: 1}, on_error="skip").skipped_files
    read = by_name(load(tmp_path, values={0: 0, 7: 1, 9: 255}))["3"]
    assert (read[0, :4] == 255).all()
    assert read.max(where=read < 255, initial=0) == 1


@pytest.mark.parametrize("values", [{0: 0, 7: 300}, {0: 0, 7: -1}])
def test_classes_beyond_a_byte_are_refused(values: dict[int, int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.values: 7 has the class"):
        load(write(tmp_path, numbered()), values=values)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((0, 1, 200), r"set dataset\.values='\{0: 0, 1: 1, 200: 2\}'"),
        ((1, 2), r"set dataset\.values='\{1: 0, 2: 1\}'"),
        ((0, 128, 255), r"set dataset\.values='\{0: 0, 128: 1, 255: 255\}' \(255: no label\)"),
        ((0,), "nothing but background"),
    ],
)
def test_values_that_are_no_classes_are_refused_with_a_proposal(
    found: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    def mask(number: int) -> NDArray[np.uint8]:
        return np.array(found, np.uint8)[np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) // 40 % len(found)]

    write(tmp_path, {f"{number}": mask(number) for number in range(8)})
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_negative_values_do_not_wrap_around(tmp_path: Path) -> None:
    masks = {f"{number}": disc(number).astype(np.int32) for number in range(8)}
    masks["0"][0, 0] = -1
    write(tmp_path, masks, ".tif")
    with pytest.raises(UserError, match=r"set dataset\.values='\{-1: 255, 0: 0, 1: 1\}'"):
        load(tmp_path)
    assert by_name(load(tmp_path, values={-1: 255, 0: 0, 1: 1}))["0"][0, 0] == 255


def test_classes_without_a_pixel_are_noted(tmp_path: Path) -> None:
    write(tmp_path, numbered())
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    (note,) = [note for note in load(tmp_path).notes if note.kind == "absent_class"]
    assert note.names == ("dog",)


def test_masks_from_jpeg_files_need_a_declared_tolerance(tmp_path: Path) -> None:
    damaged = {}
    for number in range(8):
        data = io.BytesIO()
        Image.fromarray(disc(number, 255)).save(data, "jpeg", quality=75)
        damaged[f"{number}"] = np.asarray(Image.open(data))
    write(tmp_path, damaged)
    with pytest.raises(UserError, match="lossy compression") as refusal:
        load(tmp_path)
    found = re.search(r"dataset\.values='\{0: 0, 255: 1\}' dataset\.value_tolerance=(\d+)", str(refusal.value))
    assert found
    with pytest.raises(UserError, match=r"not declared.*dataset\.values='\{0: 0, 255: 1\}' dataset\.value_tolerance="):
        load(tmp_path, values={0: 0, 255: 1})
    dataset = load(tmp_path, values={0: 0, 255: 1}, value_tolerance=int(found[1]))
    assert dataset.num_classes == 2
    assert np.mean([(by_name(dataset)[f"{number}"] == disc(number)).mean() for number in range(8)]) > 0.99


def test_jpeg_files_of_class_indices_are_refused(tmp_path: Path) -> None:
    write(tmp_path, numbered(), ".jpg")
    with pytest.raises(UserError, match="8 of 8 masks are JPEG files"):
        load(tmp_path)


def test_a_tolerance_must_separate_the_values() -> None:
    with pytest.raises(UserError, match=r"below half of the smallest distance between declared values \(2\)"):
        MaskValues({0: 0, 2: 1}, tolerance=1)
    with pytest.raises(UserError, match="needs declared values"):
        MaskValues(tolerance=1)


COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], dtype=np.uint8)


def colored(number: int) -> NDArray[np.uint8]:
    mask = disc(number)
    mask[12:, 5:9] = 2
    return COLORS[mask]


def test_color_masks_need_a_table(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}": colored(number) for number in range(8)})
    with pytest.raises(UserError, match=r"\(128,0,0\) \(.*8 masks\).*set dataset\.colors=") as refusal:
        load(tmp_path)
    table = {"0,0,0": 0, "128,0,0": 1, "0,128,0": 2}
    assert all(f'"{color}": ' in str(refusal.value) for color in table)
    dataset = load(tmp_path, colors=table)
    expected = disc(3)
    expected[12:, 5:9] = 2
    np.testing.assert_array_equal(by_name(dataset)["3"], expected)
    with pytest.raises(UserError, match=r"colors that are not declared: \(0,128,0\) \(.*\"0,128,0\": 255"):
        load(tmp_path, colors={"0,0,0": 0, "128,0,0": 1})
    for name, text in (
        ("label_colors.txt", "0 0 0\tsky\n128 0 0\tcar\n0 128 0\ttree\n"),
        ("class_dict.csv", "name,r,g,b\nsky,0,0,0\ncar,128,0,0\ntree,0,128,0\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,0::\ncar:128,0,0::\ntree:0,128,0::\n"),
    ):
        (tmp_path / name).write_text(text)
        again = load(tmp_path)
        assert again.class_names == ("sky", "car", "tree")
        np.testing.assert_array_equal(by_name(again)["3"], expected)
        assert [note.kind for note in again.notes] == ["color_table"]
        (tmp_path / name).unlink()


def test_a_color_file_must_be_unambiguous(tmp_path: Path) -> None:
    path = tmp_path / "colors.txt"
    for text, message in (
        ("0 0 0 a\n0 0 0 b\n", "line 2: the color 0,0,0 occurs twice"),
        ("0 0 0 a\n1 0 0 a\n", "line 2: the class .a. occurs twice"),
        ("0 0 0 a\n1 0 300 b\n", "line 2: needs red, green and blue from 0 to 255"),
        ("0 0 0 a\n", "declares 1 class"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_color_file(path)


def test_transparency_that_hides_classes_is_refused(tmp_path: Path) -> None:
    mask = np.dstack([disc(1)] * 3 + [np.full(SHAPE, 255, np.uint8)])
    mask[5, 5, 3] = 100
    save(tmp_path / "mask.png", mask)
    with pytest.raises(UserError, match=r"mask\.png: has pixels that are transparent but not black"):
        read_values(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("options", "suffix"),
    [({}, ""), ({"values": {0: 1, 1: 0}}, ""), ({"mask_suffix": "_seg"}, "_seg"), ({"values": {0: 0, 1: 1}}, "")],
)
def test_noise_from_the_own_masks_has_rate_0(options: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    write(tmp_path, {f"{folder}/{number:03}{suffix}": disc(number) for folder in "ab" for number in range(4)})
    if suffix:
        for file in list((tmp_path / "images").rglob("*.png")):
            file.rename(file.with_stem(file.stem.removesuffix(suffix)))
    dataset = load(tmp_path, **options, size=8)
    noise = get_entry("noise_models", "from_folder").load_class()(path=str(tmp_path / "masks"))
    assert noise.apply(dataset).manifest["actual_noise_rate"] == 0


def test_splits_within_the_folders_of_images_and_masks_are_used(tmp_path: Path) -> None:
    masks = {
        f"{part}/{number:03}": disc(number)
        for part, count in (("Train", 5), ("valid", 2), ("test", 3))
        for number in range(count)
    }
    dataset = load(write(tmp_path, masks), duplicates="keep")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [5, 2, 3]


def _parsed(proposal: str) -> dict[Color, int]:
    return {parse_color(color): target for color, target in json.loads(proposal).items()}


def test_color_masks_from_jpeg_files_are_read_with_a_tolerance(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "images" / f"{number}.png", picture(number))
        save(tmp_path / "masks" / f"{number}.jpg", colored(number), quality=95)
    with pytest.raises(UserError, match="smooth edges or lossy compression") as caught:
        load(tmp_path)
    proposal = re.search(r"dataset\.colors='(.*)' dataset\.value_tolerance=(\d+)", str(caught.value))
    assert proposal is not None
    # A tolerance that does not separate the colors would be refused.
    assert len(MaskValues(colors=_parsed(proposal[1]), tolerance=int(proposal[2])).targets) >= 3
    table = {"0,0,0": 0, "128,0,0": 1, "0,128,0": 2}
    with pytest.raises(UserError, match="colors that are not declared"):
        load(tmp_path, colors=table)
    assert load(tmp_path, colors=table, value_tolerance=63, on_error="skip").num_classes == 3


def test_layouts_that_name_splits_in_two_ways_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / part, numbered(4))
    (tmp_path / "train" / "masks" / "volume.npy").write_bytes(b"")
    assert {note.kind: note.names for note in load(tmp_path, duplicates="keep").notes}["unread_files"] == (
        "masks/volume.npy",
    )
    (tmp_path / "train.txt").write_text("000")
    with pytest.raises(UserError, match=r"folders of splits and the list train\.txt"):
        load(tmp_path)
    (tmp_path / "train.txt").unlink()
    write(tmp_path / "extra", numbered(1))
    with pytest.raises(UserError, match="contains images in extra beside"):
        load(tmp_path)


def test_objects_of_255_in_noisy_masks_are_not_taken_for_no_label(tmp_path: Path) -> None:
    names = [f"{number:03}" for number in range(10)]
    root = write(tmp_path, {name: disc(number) for number, name in enumerate(names)})
    for number, name in enumerate(names):
        save(root / "predicted" / f"{name}.png", disc(number, 255))
    model = get_entry("noise_models", "from_folder").load_class()(path=str(root / "predicted"))
    dataset = load(root)
    with pytest.raises(UserError, match="no object is left; if 255 is the object"):
        model.corrupt_labels(dataset, dataset.train, None)
    (root / "predicted").rename(root / "noisy_masks")
    with pytest.raises(UserError, match=r"noisy_masks.* no object is left"):
        load(root)


def test_pixels_of_255_without_a_declared_value_are_reported(tmp_path: Path) -> None:
    masks = {f"{number:03}": disc(number, 255 if number < 3 else 1) for number in range(10)}
    dataset = load(write(tmp_path, masks))
    notes = {note.kind: note for note in dataset.notes}
    assert notes["unlabeled_value"].count == 3
    assert notes["doubtful_255"].names == ("000.png", "001.png", "002.png")
    declared = load(tmp_path, values={0: 0, 1: 1, 255: 1})
    assert not {"unlabeled_value", "doubtful_255"} & {note.kind for note in declared.notes}


def test_the_colors_of_a_palette_count_where_a_table_names_them(tmp_path: Path) -> None:
    for number in range(10):
        picture_of_mask = Image.fromarray(disc(number, 1 + number % 2))
        picture_of_mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        write(tmp_path, {f"{number:03}": disc(number)})
        picture_of_mask.save(tmp_path / "masks" / f"{number:03}.png")
        save(tmp_path / "images" / f"{number:03}.png", picture(number))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nground,0,0,0\ngreen,0,128,0\nred,128,0,0\n")
    dataset = load(tmp_path)
    assert dataset.class_names == ("ground", "green", "red")
    assert all(mask.max() == 2 - int(name) % 2 for name, mask in by_name(dataset).items())
    # Gray masks of class indices have none of these colors.
    for number in range(10):
        save(tmp_path / "masks" / f"{number:03}.png", disc(number, 1 + number % 2))
    dataset = load(tmp_path)
    assert [note.kind for note in dataset.notes] == ["unused_color_table"]
    assert all(mask.max() == 1 + int(name) % 2 for name, mask in by_name(dataset).items())


def test_rounding_of_floating_point_masks_is_undone(tmp_path: Path) -> None:
    save(tmp_path / "000.tif", disc(0).astype(np.float32) * np.float32(0.9999999))
    np.testing.assert_array_equal(read_values(tmp_path / "000.tif"), disc(0))
    save(tmp_path / "000.tif", disc(0).astype(np.float32) * np.float32(0.5))
    with pytest.raises(UserError, match=r"000.tif: \d+ of 320 values are not integers, such as 0.5"):
        read_values(tmp_path / "000.tif")


def test_the_proposal_for_smooth_edges_separates_its_colors(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:128, :160]
    for number in range(4):
        smooth = np.zeros((128, 160, 3), dtype=np.uint8)
        smooth[np.hypot(rows - 60, columns - 60 - number) < 40] = (128, 64, 0)
        smooth[:21] = (0, 64, 128)
        write(tmp_path, {f"{number:03}": disc(number)})
        small = Image.fromarray(smooth).resize((80, 64), Image.Resampling.BILINEAR)
        small.save(tmp_path / "masks" / f"{number:03}.png")
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    proposal = """dataset.colors='{"0,0,0": 0, "0,64,128": 1, "128,64,0": 2}' dataset.value_tolerance=63"""
    assert proposal in str(caught.value)


def test_a_list_of_classes_without_the_background_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {f"{number:03}": disc(number) for number in range(4)})
    (tmp_path / "classes.txt").write_text("object\n")
    with pytest.raises(UserError, match=r"values from 0 to 1, but the number .* is 1; .* background"):
        load(tmp_path)


def test_the_header_of_a_color_file_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "class_dict.csv"
    path.write_text("class_name,R,G,B\n7,0,0,0\n1,128,0,0\n2,0,128,0\n")
    table = read_color_file(path)
    assert table.names == ("7", "1", "2")
    assert table.classes == {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2}

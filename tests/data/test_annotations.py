"""Masks drawn from COCO, YOLO and LabelMe annotations, and street scenes as published: read right, or refused by name."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.masks.drawing import DrawnObjects, Outline, Overlap, decode_runs, fill_polygon, parse_runs
from noisybench.errors import UserError

SOURCES = ("coco", "yolo", "labelme", "cityscapes", "camvid")
Files = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write the example of a dataset; returns its folder and parameters."""

    def write(name: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / name
        folder.mkdir()
        return folder, get_entry("datasets", name).load_class().example(folder)

    return write


def load(name: str, parameters: dict[str, Any], **more: Any) -> Dataset:
    dataset: Dataset = get_entry("datasets", name).load_class()(**{**parameters, "size": None, **more}).load()
    return dataset


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", SOURCES)
def test_the_object_of_an_annotation_lies_on_the_object_of_its_image(name: str, files: Files) -> None:
    dataset = load(name, files(name)[1])
    for split in (dataset.train, dataset.validation, dataset.test):
        # Objects are 120 brighter than the background, whose intensities are below 100.
        is_bright = split.inputs[:].max(axis=1) >= 120
        background = {"cityscapes": 0, "camvid": 1}.get(name, 0)
        objects = (split.targets != 255) & (split.targets != (2 if name == "cityscapes" else background))
        if name == "cityscapes":
            objects = (split.targets == 13) | (split.targets == 2)
        np.testing.assert_array_equal(objects, is_bright & (split.targets != 255))
        assert objects.any(axis=(1, 2)).all()


def test_categories_become_classes_in_the_order_of_their_numbers(files: Files) -> None:
    _, parameters = files("coco")
    dataset = load("coco", parameters)
    assert dataset.class_names == ("background", "small", "large")
    assert set(np.unique(dataset.train.targets[0])) == {0, 1}
    assert set(np.unique(dataset.train.targets[1])) == {0, 2}
    one = load("coco", parameters, categories=["large"])
    assert one.class_names == ("background", "large")
    assert set(np.unique(one.train.targets[0])) == {0}
    with pytest.raises(UserError, match=r"dataset\.categories: unknown category .*large"):
        load("coco", parameters, categories=["lrge"])


def mask(*rows: str) -> NDArray[np.bool_]:
    return np.array([[character == "#" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Written by pycocotools 2.0.11.
        ("8", mask("..", "..", "..", "..")),
        ("08", mask("##", "##", "##", "##")),
        ("11110O0", mask(".#", "#.", ".#", "#.")),
    ],
)
def test_compressed_run_lengths_are_those_of_pycocotools(text: str, expected: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode_runs(parse_runs(text), (4, 2)), expected)


def test_long_run_lengths_with_negative_differences() -> None:
    expected = np.zeros((30, 40), dtype=bool)
    expected[3:9, 5:17] = True
    expected[20:28, 1:39:3] = True
    text = r"b18b20cMNc0000C2JNc0000C2JNc0000C2JNc0000C2W20000000000000\O"
    np.testing.assert_array_equal(decode_runs(parse_runs(text), (30, 40)), expected)


@pytest.mark.parametrize("text", ["08\x00", "0ü", "0P"])
def test_damaged_run_lengths_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="run lengths"):
        decode_runs(parse_runs(text), (4, 2))


def test_polygons_cover_the_centers_of_pixels_and_are_clipped() -> None:
    box = np.array([[2, 1], [6, 1], [6, 4], [2, 4]], dtype=float)
    expected = np.zeros((8, 9), dtype=bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(fill_polygon(box, (8, 9)), expected)
    np.testing.assert_array_equal(fill_polygon(box[::-1], (8, 9)), expected)
    clipped = np.zeros((8, 9), dtype=bool)
    clipped[:1, 7:] = True
    np.testing.assert_array_equal(fill_polygon(box + np.array([5, -3]), (8, 9)), clipped)
    disc = np.stack([20 + 9 * np.cos(np.arange(90) / 14.324), 16 + 9 * np.sin(np.arange(90) / 14.324)], axis=1)
    rows, columns = np.nonzero(fill_polygon(disc, (32, 40)))
    assert len(rows) == pytest.approx(np.pi * 81, rel=0.02)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((16, 20), abs=0.1)


@pytest.mark.parametrize(("overlap", "expected"), [("smallest", (1, 2)), ("last", (1, 1)), ("ignore", (1, 255))])
def test_the_rule_for_overlapping_objects(overlap: Overlap, expected: tuple[int, int], tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    small, large, crowd = ((2, 2, 4, 2, 4, 4, 2, 4), (0, 0, 6, 0, 6, 6, 0, 6), (0, 0, 8, 0, 8, 8, 0, 8))
    outlines = [Outline(target, (tuple(map(float, part)),)) for target, part in ((2, small), (1, large), (255, crowd))]
    drawn = DrawnObjects("a", tmp_path / "a.png", (8, 8), tuple(outlines), overlap).draw()
    assert (drawn[0, 0], drawn[2, 2]) == expected
    assert drawn[7, 7] == 255, "a crowd lies below all objects"


def first(field: str) -> Callable[[Any], Any]:
    return lambda content: content[field][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][1].update(segmentation=[[0, 0, float("nan"), 4, 5, 5]]), "001.png: annotation 1: .*NaN"),
        (lambda c: c["annotations"][1].update(segmentation=[[0, 0, 1e999, 4, 5, 5]]), "001.png: annotation 1: .*infinite"),
        (lambda c: c["annotations"][1].update(segmentation=[[0, 0, 4, 4]]), "needs at least 3 pairs"),
        (lambda c: c["annotations"][1].update(segmentation=[[30, 30, 40, 30, 40, 40]]), "lies outside of the image"),
        (lambda c: c["annotations"][1].update(segmentation=[]), "has no segmentation"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts=[1, 2]), "cover 3 pixels, but 20x16 are 320"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[20, 16]), "its run lengths are for"),
        (lambda c: c["annotations"][1].update(image_id=99999), "annotation 1: has the image_id 99999, which is not"),
        (lambda c: c["annotations"][1].update(category_id=1), "annotation 1: has the category_id 1, which is not"),
        (lambda c: c["annotations"].append([]), "annotation 24: is .* instead of an object"),
        (lambda c: c["images"].append(dict(c["images"][0])), "the image id 1 occurs twice"),
        (lambda c: c["images"].append({**c["images"][0], "id": 0}), "the image name .*000.png.* occurs twice"),
        (lambda c: c["images"][1].update(width=21), r"001\.png: the annotation is for 21x16 pixels, but the image has 20x16"),
        (lambda c: c["images"][0].update(width=10**9), "integers from 1 to 32768"),
        (lambda c: c["images"][0].update(file_name="../000.png"), "lies outside of the folder"),
        (lambda c: c["images"].append({"id": 5000, "file_name": "nosuch.png", "width": 20, "height": 16}), "nosuch.png: missing"),
        (lambda c: c["categories"].append({"id": 90, "name": "other"}), "category number 90 occurs twice"),
        (lambda c: c["categories"].append({"id": 91, "name": "small"}), "class 'small' occurs twice"),
        (lambda c: c.update(categories=[{"id": n, "name": str(n)} for n in range(10**5)]), "declares 100000 categories"),
        (lambda c: c.pop("images"), "the list `images` is missing"),
    ],
)  # fmt: skip
def test_damaged_coco_files_are_refused(change: Callable[[Any], None], message: str, files: Files) -> None:
    folder, parameters = files("coco")
    edit(folder / "annotations" / "instances_train.json", change)
    with pytest.raises(UserError, match=message):
        load("coco", parameters)


@pytest.mark.parametrize("name", ["coco", "labelme"])
@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", "null", "[]", '"text"'])
def test_files_that_are_no_annotations_are_refused(name: str, text: str, files: Files) -> None:
    folder, parameters = files(name)
    path = folder / ("annotations/instances_train.json" if name == "coco" else "train/000.json")
    path.write_text(text)
    with pytest.raises(UserError, match=path.name):
        load(name, parameters)


def test_problems_of_single_images_may_be_skipped(files: Files) -> None:
    folder, parameters = files("coco")
    path = folder / "annotations" / "instances_train.json"
    edit(path, lambda c: c["annotations"][1].update(segmentation=[[0, 0, 4, 4]]))
    dataset = load("coco", parameters, on_error="skip")
    assert len(dataset.train) == 23
    assert "001.png" in dataset.skipped_files[0]


def test_clipped_outlines_crowds_and_images_without_objects(files: Files) -> None:
    folder, parameters = files("coco")

    def change(content: Any) -> None:
        content["annotations"][1].update(segmentation=[[-5, -5, 6, -5, 6, 6, -5, 6]])
        content["annotations"][2].update(iscrowd=1)
        del content["annotations"][4]

    edit(folder / "annotations" / "instances_train.json", change)
    dataset = load("coco", parameters)
    assert (dataset.train.targets[1] == 2).sum() == 36
    assert set(np.unique(dataset.train.targets[2])) == {0, 255}
    assert set(np.unique(dataset.train.targets[4])) == {0}
    notes = {note.kind: note for note in dataset.notes}
    assert notes["clipped_outline"].names == ("001",)
    assert notes["image_without_object"].names == ("004",)
    assert set(np.unique(load("coco", parameters, crowd="object").train.targets[2])) == {0, 1}


def test_other_layouts_of_coco(files: Files, tmp_path: Path) -> None:
    folder, parameters = files("coco")
    expected = load("coco", parameters).hash
    for part, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        (folder / part).rename(tmp_path / "moved")
        (tmp_path / "moved").rename(folder / name)
        (folder / "annotations" / f"instances_{part}.json").rename(folder / name / "_annotations.coco.json")
    assert load("coco", parameters).hash == expected
    (folder / "train" / "_annotations.coco.json").rename(folder / "annotations" / "instances_default.json")
    (folder / "train").rename(folder / "images")
    for name in ("valid", "test"):
        (folder / name / "_annotations.coco.json").unlink()
    drawn = load("coco", parameters)
    assert sum(len(split) for split in (drawn.train, drawn.validation, drawn.test)) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1: has a box instead of a polygon"),
        ("2 0.1 0.1 0.5 0.1 0.5 0.5", "the class must be a number from 0 to 1, but is .2"),
        ("0 0.1 0.1 0.5 0.1 0.5", "needs at least 3 pairs"),
        ("0 nan 0.1 0.5 0.1 0.5 0.5", "NaN"),
        ("0 x 0.1 0.5 0.1 0.5 0.5", "not a number"),
        ("0 4 3 10 3 10 10", "shares of the sides"),
    ],
)
def test_lines_that_are_no_polygons_are_refused(line: str, message: str, files: Files) -> None:
    folder, parameters = files("yolo")
    (folder / "labels" / "train" / "001.txt").write_text(f"{line}\n")
    with pytest.raises(UserError, match=rf"001\.txt: .*{message}"):
        load("yolo", parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\n", "`names` must list"),
        ("names: [a, b]\ntrain: images/training\n", "names 'images/training', which is neither a folder nor"),
        ("names: [a, b]\ntrain: images/train\nval: images/train\n", "is in train and in val"),
        ("names: {0: a, 2: b}\ntrain: images/train\n", "must be 0, 1, 2"),
        ("names: [a, b]\nval: images/val\n", "names no training images"),
        ("a: [", "is not YAML"),
        ("- a", "must be a mapping"),
    ],
)
def test_damaged_yaml_files_of_yolo_are_refused(text: str, message: str, files: Files) -> None:
    folder, parameters = files("yolo")
    (folder / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load("yolo", parameters)


def test_paths_as_roboflow_writes_them(files: Files) -> None:
    folder, parameters = files("yolo")
    expected = load("yolo", parameters).hash
    for part, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        for kind in ("images", "labels"):
            (folder / name).mkdir(exist_ok=True)
            (folder / kind / part).rename(folder / name / kind)
    lines = [f"{key}: ../{name}/images" for key, name in (("train", "train"), ("val", "valid"), ("test", "test"))]
    (folder / "data.yaml").write_text("\n".join([*lines, "nc: 2", "names: ['small', 'large']"]))
    assert load("yolo", parameters).hash == expected


def test_images_of_yolo_without_text_are_background(files: Files) -> None:
    folder, parameters = files("yolo")
    (folder / "labels" / "train" / "001.txt").unlink()
    dataset = load("yolo", parameters)
    assert (dataset.train.targets[1] == 0).all()
    assert {note.kind: note.names for note in dataset.notes}["image_without_labels"] == ("001",)


def test_labels_and_shapes_of_labelme(files: Files) -> None:
    folder, parameters = files("labelme")
    path = folder / "train" / "001.json"
    edit(
        path,
        lambda c: c["shapes"].append({"label": "__ignore__", "points": [[0, 0], [20, 1]], "shape_type": "rectangle"}),
    )
    edit(path, lambda c: c["shapes"][0].update(points=[[8, 8], [8, 12]], shape_type="circle"))
    targets = load("labelme", parameters).train.targets[1]
    assert (targets[0] == 255).all()
    assert (targets == 1).sum() == pytest.approx(np.pi * 16, abs=4)
    edit(path, lambda c: c["shapes"][0].update(shape_type="line"))
    with pytest.raises(UserError, match=r"001\.json: has a 'line' with the label 'large'"):
        load("labelme", parameters)
    (folder / "labels.txt").write_text("_background_\nlarge\nsmal\n")
    edit(path, lambda c: c["shapes"].clear())
    with pytest.raises(UserError, match=r"000\.json: has the unknown label 'small'; did you mean .smal"):
        load("labelme", parameters)


def test_images_of_labelme_without_annotations_are_noted(files: Files) -> None:
    folder, parameters = files("labelme")
    (folder / "train" / "001.json").unlink()
    dataset = load("labelme", parameters)
    assert len(dataset.train) == 23
    assert {note.kind: note.names for note in dataset.notes}["image_without_labels"] == ("001",)


def test_label_identifiers_of_cityscapes_become_evaluated_classes(files: Files) -> None:
    folder, parameters = files("cityscapes")
    dataset = load("cityscapes", parameters)
    assert set(np.unique(dataset.train.targets)) == {0, 2, 13, 255}
    expected = dataset.hash
    table = np.full(256, 255, np.uint8)
    table[[7, 26, 11]] = 0, 13, 2
    for file in (folder / "gtFine").rglob("*_labelIds.png"):
        converted = Image.fromarray(table[np.asarray(Image.open(file))])
        converted.save(file.with_name(file.name.replace("labelIds", "labelTrainIds")))
    assert load("cityscapes", parameters).hash == expected
    next((folder / "gtFine" / "train").rglob("*_labelTrainIds.png")).unlink()
    assert load("cityscapes", parameters).hash == expected, "both kinds are never mixed"


def test_segnets_layout_of_camvid(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for number in range(count):
            rng = np.random.default_rng([number, count])
            for folder, array in (
                (part, rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)),
                (f"{part}annot", np.arange(192).reshape(12, 16).astype(np.uint8) % 12),
            ):
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.fromarray(array).save(tmp_path / folder / f"0001TP_{number:06}.png")
    dataset = load("camvid", {"root": str(tmp_path)})
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (6, 2, 3)
    assert dataset.class_names[:2] == ("Sky", "Building")
    assert set(np.unique(dataset.train.targets)) == {*range(11), 255}
    Image.fromarray(np.full((12, 16), 12, np.uint8)).save(tmp_path / "trainannot" / "0001TP_000000.png")
    with pytest.raises(UserError, match=r"1 of 11 masks contain values that are not declared: 12 "):
        load("camvid", {"root": str(tmp_path)})
    (tmp_path / "valannot").rename(tmp_path / "other")
    with pytest.raises(UserError, match="valannot missing"):
        load("camvid", {"root": str(tmp_path)})


def test_sequences_of_camvid_are_never_divided(files: Files) -> None:
    folder, parameters = files("camvid")
    for part in ("train", "val", "test"):
        (folder / f"{part}.txt").unlink()
    for number, file in enumerate(sorted((folder / "701_StillsRaw_full").iterdir())):
        name = f"{('0001TP', '0006R0', '0016E5', 'Seq05VD')[number % 4]}_{number:05}"
        (folder / "LabeledApproved_full" / f"{file.stem}_L.png").rename(
            folder / "LabeledApproved_full" / f"{name}_L.png"
        )
        file.rename(file.with_stem(name))
    dataset = load("camvid", parameters)
    sequences = [
        {dataset.source_names[row].split("_")[0] for row in split.index} for split in (dataset.train, dataset.test)
    ]
    assert not sequences[0] & sequences[1]


def test_lists_and_several_folders_of_yolo(files: Files) -> None:
    folder, parameters = files("yolo")
    wanted = load("yolo", parameters)
    names = sorted(path.name for path in (folder / "images" / "train").iterdir())
    (folder / "train.txt").write_text("".join(f"/home/someone/set/images/train/{name}\n" for name in names))
    data = folder / "data.yaml"
    text = data.read_text()
    data.write_text(text.replace("train: images/train", "train: ./train.txt").replace("0: small", "'0': small"))
    listed = load("yolo", parameters)
    np.testing.assert_array_equal(listed.train.targets, wanted.train.targets)
    data.write_text(
        text.replace("train: images/train", "train: [images/train, images/val]").replace("val: images/val", "")
    )
    assert len(load("yolo", parameters, validation_fraction=0.0).train.targets) == len(names) + 6
    data.write_text(text.replace("train: images/train", "train: images"))
    with pytest.raises(UserError, match=r"images/val/000\.png is in train and in val"):
        load("yolo", parameters)
    (folder / "train.txt").write_text("images/train/absent.png\n")
    data.write_text(text.replace("train: images/train", "train: train.txt"))
    with pytest.raises(UserError, match=r"names 'images/train/absent\.png', which is no image"):
        load("yolo", parameters)


def test_labelme_files_in_a_folder_of_their_own_and_of_early_versions(files: Files) -> None:
    folder, parameters = files("labelme")
    wanted = load("labelme", parameters)
    for part in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir()
        for image in (folder / part).glob("*.png"):
            image.rename(folder / part / "images" / image.name)
        for file in (folder / part).glob("*.json"):
            moved = file.rename(folder / part / "labels" / file.name)
            edit(moved, lambda content: content.update(imagePath="..\\images\\" + content["imagePath"]))
            edit(moved, lambda content: [content.pop(field) for field in ("imageHeight", "imageWidth")])
    np.testing.assert_array_equal(load("labelme", parameters).train.targets, wanted.train.targets)


def test_masks_inside_of_labelme_files(files: Files) -> None:
    folder, parameters = files("labelme")
    wanted = load("labelme", parameters)

    def as_mask(content: dict[str, Any]) -> None:
        points = np.array(content["shapes"][0]["points"])
        first, last = points.min(axis=0), points.max(axis=0) - 1
        buffer = io.BytesIO()
        Image.fromarray(np.ones(last[::-1].astype(int) - first[::-1].astype(int) + 1, dtype=bool)).save(buffer, "png")
        mask = base64.b64encode(buffer.getvalue()).decode()
        content["shapes"][0].update(shape_type="mask", points=[first.tolist(), last.tolist()], mask=mask)

    for file in folder.rglob("*.json"):
        edit(file, as_mask)
    np.testing.assert_array_equal(load("labelme", parameters).train.targets, wanted.train.targets)
    edit(folder / "train" / "000.json", lambda content: content["shapes"][0].update(points=[[0, 0], [1, 1]]))
    edit(folder / "train" / "001.json", lambda content: content["shapes"][0].update(points=[[0, 0], [99, 1]]))
    edit(folder / "train" / "002.json", lambda content: content["shapes"][0].update(mask="no mask"))
    with pytest.raises(UserError) as caught:
        load("labelme", parameters)
    problems = "\n".join(caught.value.problems)
    assert "000.json: has a mask of 6x6 pixels between corners of 2x2" in problems
    assert "001.json: has a mask with the label 'large' that lies outside of the image" in problems
    assert "002.json: has a mask that is not a PNG image in base64" in problems


def test_whole_numbers_that_coco_files_write_as_fractions(files: Files) -> None:
    folder, parameters = files("coco")
    wanted = load("coco", parameters)

    def as_floats(content: dict[str, Any]) -> None:
        for entry in (*content["images"], *content["annotations"]):
            entry.update({key: float(entry[key]) for key in ("width", "height", "category_id") if key in entry})

    edit(folder / "annotations" / "instances_train.json", as_floats)
    np.testing.assert_array_equal(load("coco", parameters).train.targets, wanted.train.targets)

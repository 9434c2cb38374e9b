"""Readers of image files and arrays, and the shape of splits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noisybench.config.registry import get_entry
from noisybench.data import lazy as dataset_module
from noisybench.data.images import cache as images
from noisybench.data.lazy import MemmapImages
from noisybench.data.splits.splits import stratified
from noisybench.data.targets import OOD_TARGET, UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


def png(value: int, width: int = 4) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((4, width, 3), value, dtype=np.uint8)).save(out, format="png")
    return out.getvalue()


def build(name: str, **parameters: Any) -> Any:
    return get_entry("datasets", name).load_class()(**parameters)


def test_images_keep_their_order_over_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    # One image was lost at the end of every portion, so that labels slipped against images.
    monkeypatch.setattr(images, "CHUNK_SIZE", 8)
    found = images.decode_cached(37, lambda: ((str(i), png(i)) for i in range(37)), None, "order").images
    np.testing.assert_array_equal(found[:, 0, 0, 0], np.arange(37))


def test_a_stream_that_ends_early_is_refused() -> None:
    with pytest.raises(UserError, match="expected 5 images, but found 3"):
        images.decode_cached(5, lambda: ((str(i), png(i)) for i in range(3)), None, "short")


def test_images_of_different_sizes_need_a_size() -> None:
    pictures = [("a.png", png(1)), ("b.png", png(2, width=6))]
    with pytest.raises(UserError, match=r"b\.png: has 6x4 pixels, but others have 4x4; set dataset\.size"):
        images.decode_cached(2, lambda: iter(pictures), None, "sizes")
    assert images.decode_cached(2, lambda: iter(pictures), 4, "sizes").images.shape == (2, 3, 4, 4)


def test_a_decoded_set_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = images.decode_cached(3, lambda: ((str(i), png(i)) for i in range(3)), None, "once").images
    monkeypatch.setattr(images, "decode", lambda *_: pytest.fail("decoded again"))
    second = images.decode_cached(3, lambda: pytest.fail("read again"), None, "once").images
    np.testing.assert_array_equal(first, second)


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@example(counts=[1, 1, 1, 1, 1, 12], share=0.375, seed=0)
def test_stratified_takes_each_class_in_proportion(counts: list[int], share: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    wanted = round(share * len(targets))
    chosen = stratified(targets, wanted, Stream("test", seed))
    assert chosen.sum() == wanted
    taken = np.bincount(targets[chosen], minlength=len(counts))
    assert (np.abs(taken * len(targets) - wanted * np.array(counts)) < len(targets)).all()


def test_images_too_large_for_memory_stay_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parameters = get_entry("datasets", "parquet").load_class().example(tmp_path)
    small = build("parquet", **parameters).load()
    monkeypatch.setattr(dataset_module, "MEMORY_FRACTION", 0.0)
    large = build("parquet", **parameters).load()
    assert isinstance(large.train.inputs, MemmapImages)
    assert large.hash == small.hash
    np.testing.assert_array_equal(large.train.inputs[3:9], small.train.inputs[3:9])


def test_training_is_the_same_from_memory_and_from_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.contracts import prepare_on
    from tests.helpers import train_toy

    parameters = get_entry("datasets", "parquet").load_class().example(tmp_path)
    memory = train_toy(prepare_on(build("parquet", **parameters).load()), tmp_path / "memory")
    monkeypatch.setattr(dataset_module, "MEMORY_FRACTION", 0.0)
    disk = train_toy(prepare_on(build("parquet", **parameters).load()), tmp_path / "disk")
    assert memory.record({}).weights_sha256 == disk.record({}).weights_sha256


def test_class_names_come_from_the_hub_metadata(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    meta = {"huggingface": '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'}
    rows = [{"bytes": png(i), "path": ""} for i in range(20)]
    table = pyarrow.table({"image": rows, "label": [i % 2 for i in range(20)]}).replace_schema_metadata(meta)
    pyarrow.parquet.write_table(table, tmp_path / "pets.parquet")
    found = build("parquet", train=str(tmp_path / "pets.parquet")).load()
    assert found.class_names == ("cat", "dog")


@pytest.mark.parametrize("shape", [(40, 6, 5), (40, 6, 5, 1), (40, 6, 5, 3), (40, 3, 6, 5)])
def test_npz_brings_every_layout_to_channels_first(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(40) % 2, x_test=~images, y_test=np.arange(40) % 2)
    found = build("npz", path=str(tmp_path / "x.npz"), validation_fraction=0).load()
    assert found.train.inputs.shape[1:] == (3 if 3 in (shape[1], shape[-1]) and len(shape) == 4 else 1, 6, 5)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["parquet", "npz", "mnist", "cifar10", "svhn", "image_folder"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path) -> None:
    parameters = get_entry("datasets", name).load_class().example(tmp_path)
    victims = sorted(path for path in tmp_path.rglob("*") if path.is_file() and "meta" not in path.name)
    _truncate(victims[0])
    with pytest.raises(UserError) as refused:
        build(name, **parameters).load()
    message = str(refused.value)
    assert victims[0].name in message or str(tmp_path) in message
    assert any(word in message for word in ("again", "replace", "delete", "Put them"))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "svhn", "cifar10", "cifar100"])
def test_a_missing_download_says_which_file_to_put_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        build(name, root=str(tmp_path), download=False).load()
    for file in get_entry("datasets", name).load_class().files:
        assert str(tmp_path / file) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("parquet", {}, r"dataset\.train: set the parquet file"),
        ("parquet", {"train": "nowhere.parquet"}, "file not found"),
        ("npz", {"path": "nowhere.npz"}, "file or folder not found"),
        ("image_folder", {"root": "nowhere"}, "folder not found"),
        (
            "digits",
            {"train_size": 99999},
            r"dataset\.train_size: must be at most 1213",
        ),
    ],
)
def test_bad_places_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **parameters).load()


def test_npz_refuses_pickled_objects_and_floats(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(UserError, match="archive of plain arrays"):
        build("npz", path=str(tmp_path / "object.npz")).load()
    np.savez(tmp_path / "half.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 0.5, 1, 1]))
    with pytest.raises(UserError, match=r"labels must be integers, but entry 1 is 0\.5"):
        build("npz", path=str(tmp_path / "half.npz")).load()
    np.savez(tmp_path / "float.npz", images=np.zeros((4, 8, 8)), labels=np.zeros(4))
    with pytest.raises(UserError, match=r"float64 from 0 to 0; set dataset\.intensity_range"):
        build("npz", path=str(tmp_path / "float.npz")).load()


def test_targets_outside_the_classes_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        images=np.zeros((4, 8, 8), np.uint8),
        labels=[0, 1, 2, 9],
        class_names=["a", "b", "c"],
    )
    with pytest.raises(UserError, match="must be class indices, 0 to 2, the indices of 3 classes, but entry 3 is 9"):
        build("npz", path=str(tmp_path / "x.npz")).load()


# Crawled sets


@pytest.mark.parametrize("layout", ["A", "B", "C"])
def test_every_layout_of_red_mini_imagenet_is_the_same_set(layout: str, tmp_path: Path) -> None:
    from noisybench.tasks.datasets.cnwl import write_example

    write_example(tmp_path, layout)
    found = build("cnwl", root=str(tmp_path), size=8, validation_fraction=0).load()
    assert len(found.train) == 60
    assert len(found.test) == 20
    assert (found.train.targets == OOD_TARGET).sum() == 20, "every third image is from the web"
    assert found.train.noisy_targets is not None
    assert sorted(found.train.noisy_targets) == sorted([row % 4 for row in range(60)])
    known = found.train.targets >= 0
    np.testing.assert_array_equal(found.train.targets[known], found.train.noisy_targets[known])
    made = get_entry("noise_models", "real_world").load_class()().apply(found)
    assert made.manifest["label_status"] == {"clean": 40, "in_distribution": 0, "out_of_distribution": 20, "unknown": 0}
    assert made.manifest["actual_noise_rate"] == pytest.approx(1 / 3)
    with pytest.raises(UserError, match=r"dataset\.noise_level: must be one of"):
        build("cnwl", root=str(tmp_path), noise_level=0.35).load()


def test_layouts_put_the_same_image_under_the_same_label(tmp_path: Path) -> None:
    from noisybench.tasks.datasets.cnwl import write_example

    by_image: list[dict[bytes, tuple[int, int]]] = []
    for layout in "AC":
        write_example(tmp_path / layout, layout)
        found = build("cnwl", root=str(tmp_path / layout), size=8, validation_fraction=0).load().train
        assert found.noisy_targets is not None
        by_image.append(
            {
                pixels.tobytes(): (int(clean), int(label))
                for pixels, clean, label in zip(found.inputs[:], found.targets, found.noisy_targets, strict=True)
            }
        )
    names = [f"n{row:016}.jpg" if row % 3 else f"web{row:04}.jpg" for row in range(60)]
    assert len(by_image[0]) == len(by_image[1]) == len(names)


def test_webvision_keeps_the_first_classes_and_takes_either_test_set(tmp_path: Path) -> None:
    parameters = get_entry("datasets", "mini_webvision").load_class().example(tmp_path)
    plain = build("mini_webvision", **parameters).load()
    assert plain.class_names == ("kind 0", "kind 1", "kind 2")
    assert set(plain.train.targets) == {UNKNOWN_TARGET}
    assert len(plain.train) + len(plain.validation) == 45
    other = build("mini_webvision", **parameters, evaluate="imagenet", imagenet=str(tmp_path / "ilsvrc")).load()
    np.testing.assert_array_equal(other.train.inputs[:], plain.train.inputs[:])
    assert np.bincount(other.test.targets).tolist() == [5, 5, 5]
    (tmp_path / "info" / "synsets.txt").unlink()
    with pytest.raises(UserError, match="maps classes to WordNet IDs"):
        build("mini_webvision", **parameters, evaluate="imagenet", imagenet=str(tmp_path / "ilsvrc")).load()


def test_clothing1m_knows_the_classes_that_people_checked(tmp_path: Path) -> None:
    parameters = get_entry("datasets", "clothing1m").load_class().example(tmp_path)
    found = build("clothing1m", **parameters, validation_fraction=0).load()
    made = get_entry("noise_models", "real_world").load_class()().apply(found)
    assert made.manifest["label_status"] == {"clean": 8, "in_distribution": 7, "out_of_distribution": 0, "unknown": 45}
    assert made.manifest["actual_noise_rate"] == pytest.approx(7 / 15)
    assert found.class_names[0] == "T-Shirt"


def test_webly_fg_reads_lists_and_folders_alike(tmp_path: Path) -> None:
    parameters = get_entry("datasets", "webly_fg").load_class().example(tmp_path)
    listed = build("webly_fg", **parameters, validation_fraction=0).load()
    (tmp_path / "train-list.txt").unlink()
    found = build("webly_fg", **parameters, validation_fraction=0).load()
    assert len(found.train) == len(listed.train) == 45
    assert found.class_names == ("000.Bird", "001.Bird", "002.Bird")

    def pairs(split: Any) -> set[tuple[bytes, int]]:
        return {
            (pixels.tobytes(), int(label)) for pixels, label in zip(split.inputs[:], split.noisy_targets, strict=True)
        }

    assert pairs(found.train) == pairs(listed.train)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("noisy_label_kv.txt", "images/0/0000.jpg 2", "images/0/0000.jpg has the labels 0 and 2"),
        ("category_names_eng.txt", "Shirt", "contains 'Shirt' twice"),
    ],
)
def test_lists_of_clothing1m_that_contradict_themselves_are_refused(
    name: str, line: str, message: str, tmp_path: Path
) -> None:
    parameters = get_entry("datasets", "clothing1m").load_class().example(tmp_path)
    expected = build("clothing1m", **parameters).load().hash
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert build("clothing1m", **parameters).load().hash == expected
    (tmp_path / name).write_text(text + line + "\n")
    with pytest.raises(UserError, match=message):
        build("clothing1m", **parameters).load()


WEB = ("cnwl", "mini_webvision", "webly_fg", "clothing1m", "animal10n")


@pytest.mark.parametrize("name", WEB)
def test_damaged_images_are_refused_all_together_or_left_out_and_recorded(name: str, tmp_path: Path) -> None:
    parameters = get_entry("datasets", name).load_class().example(tmp_path)
    whole = build(name, **parameters, validation_fraction=0).load()
    used = sorted(path for path in tmp_path.rglob("*.jpg") if "val" not in str(path.relative_to(tmp_path)))
    used = [path for path in used if "testing" not in path.parts and not path.name.startswith("t")]
    if name == "mini_webvision":
        used = [path for path in used if "q3" not in path.parts]
    victims = [used[3], used[7]]
    victims[0].write_bytes(victims[0].read_bytes()[:60])
    victims[1].unlink()
    with pytest.raises(UserError) as refused:
        build(name, **parameters, validation_fraction=0).load()
    for victim in victims if name not in ("cnwl", "webly_fg", "animal10n") else victims[:1]:
        assert str(victim) in str(refused.value)
    found = build(name, **parameters, validation_fraction=0, on_error="skip").load()
    assert any(victims[0].name in each for each in found.skipped_files)
    assert len(found.train) == len(whole.train) - 2
    assert found.train.noisy_targets is not None
    known = {
        each.tobytes(): int(label) for each, label in zip(whole.train.inputs[:], whole.train.noisy_targets, strict=True)
    }  # type: ignore[arg-type]
    for pixels, label in zip(found.train.inputs[:], found.train.noisy_targets, strict=True):
        assert known[pixels.tobytes()] == label, "labels do not slip where an image is left out"
    made = get_entry("noise_models", "real_world").load_class()().apply(found)
    assert made.manifest["dataset"]["skipped_files"] == list(found.skipped_files)


@pytest.mark.parametrize(("name", "folder"), [("webly_fg", "val/000.Bird"), ("animal10n", "training")])
def test_crawled_folders_name_what_is_not_read(name: str, folder: str, tmp_path: Path) -> None:
    parameters = get_entry("datasets", name).load_class().example(tmp_path)
    for hidden in ("__MACOSX", f"{folder}/.ipynb_checkpoints", "train/__MACOSX"):
        (tmp_path / hidden).mkdir(parents=True)
    (tmp_path / folder / "._x.jpg").write_bytes(b"\0")
    (tmp_path / folder / "x.heic").write_bytes(b"\0")
    found = build(name, **parameters).load()
    assert [str(note) for note in found.notes if note.kind == "unread_files"] == [
        f"Files were not read (1: {folder}/x.heic)"
    ]


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("cnwl", "split/red_noise_nl_0.4", "has neither split/red_noise_nl_0.4 nor training"),
        ("cnwl", "split/validation", "clean_validation is missing"),
        ("mini_webvision", "info/train_filelist_google.txt", "the list .*train_filelist_google.txt is missing"),
        ("mini_webvision", "info/val_filelist.txt", "val_filelist.txt is missing"),
        ("clothing1m", "noisy_label_kv.txt", "noisy_label_kv.txt is missing"),
        ("clothing1m", "clean_test_key_list.txt", "clean_test_key_list.txt is missing"),
        ("animal10n", "testing", "has no folder testing"),
        ("webly_fg", "val", "has neither val-list.txt nor images in val/CLASS"),
    ],
)
def test_missing_lists_are_named(name: str, missing: str, message: str, tmp_path: Path) -> None:
    import shutil

    parameters = get_entry("datasets", name).load_class().example(tmp_path)
    victim = tmp_path / missing
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    with pytest.raises(UserError, match=message):
        build(name, **parameters).load()


def test_a_bad_line_of_a_list_is_shown(tmp_path: Path) -> None:
    parameters = get_entry("datasets", "mini_webvision").load_class().example(tmp_path)
    file = tmp_path / "info" / "val_filelist.txt"
    file.write_text(file.read_text() + "val9999.jpg cat\n")
    with pytest.raises(UserError, match=r"val_filelist\.txt, line 17: expected a file name and a class index"):
        build("mini_webvision", **parameters).load()


@pytest.mark.parametrize("name", WEB)
def test_a_web_set_needs_its_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.root: set the folder"):
        build(name).load()
    with pytest.raises(UserError, match="folder not found"):
        build(name, root="nowhere").load()

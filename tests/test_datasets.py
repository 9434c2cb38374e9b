"""Reading image files and arrays, and the shape of the splits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisybench import dataset as dataset_module
from noisybench import images
from noisybench.dataset import LazyImages, stratified
from noisybench.errors import UserError
from noisybench.registry import find
from noisybench.seeds import Stream


def png(value: int, width: int = 4) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((4, width, 3), value, dtype=np.uint8)).save(out, format="png")
    return out.getvalue()


def build(name: str, **parameters: Any) -> Any:
    return find("datasets", name).load()(**parameters)


def test_images_keep_their_order_over_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    # One image was lost at the end of every portion, so that labels slipped against images.
    monkeypatch.setattr(images, "PORTION", 8)
    found = images.decode_all(37, lambda: ((str(i), png(i)) for i in range(37)), None, "order").images
    np.testing.assert_array_equal(found[:, 0, 0, 0], np.arange(37))


def test_a_stream_that_ends_early_is_refused() -> None:
    with pytest.raises(UserError, match="5 images were announced, but 3"):
        images.decode_all(5, lambda: ((str(i), png(i)) for i in range(3)), None, "short")


def test_images_of_different_sizes_need_a_size() -> None:
    pictures = [("a.png", png(1)), ("b.png", png(2, width=6))]
    with pytest.raises(UserError, match=r"b\.png: is 6x4 pixels, others are 4x4; give dataset\.size"):
        images.decode_all(2, lambda: iter(pictures), None, "sizes")
    assert images.decode_all(2, lambda: iter(pictures), 4, "sizes").images.shape == (2, 3, 4, 4)


def test_a_decoded_set_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = images.decode_all(3, lambda: ((str(i), png(i)) for i in range(3)), None, "once").images
    monkeypatch.setattr(images, "decode", lambda *_: pytest.fail("decoded again"))
    second = images.decode_all(3, lambda: pytest.fail("read again"), None, "once").images
    np.testing.assert_array_equal(first, second)


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_stratified_takes_each_class_in_proportion(counts: list[int], share: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    wanted = round(share * len(targets))
    chosen = stratified(targets, wanted, Stream("test", seed))
    assert chosen.sum() == wanted
    taken = np.bincount(targets[chosen], minlength=len(counts))
    assert (np.abs(taken - wanted * np.array(counts) / len(targets)) <= 1.5).all()


def test_images_too_large_for_memory_stay_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parameters = find("datasets", "parquet").load().example(tmp_path)
    small = build("parquet", **parameters).load()
    monkeypatch.setattr(dataset_module, "MEMORY_SHARE", 0.0)
    large = build("parquet", **parameters).load()
    assert isinstance(large.train.inputs, LazyImages)
    assert large.hash == small.hash
    np.testing.assert_array_equal(large.train.inputs[3:9], small.train.inputs[3:9])


def test_training_is_the_same_from_memory_and_from_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.contracts import prepare_on
    from tests.helpers import train_toy

    parameters = find("datasets", "parquet").load().example(tmp_path)
    memory = train_toy(prepare_on(build("parquet", **parameters).load()), tmp_path / "memory")
    monkeypatch.setattr(dataset_module, "MEMORY_SHARE", 0.0)
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
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    found = build("npz", path=str(tmp_path / "x.npz"), validation_fraction=0).load()
    assert found.train.inputs.shape[1:] == (3 if 3 in (shape[1], shape[-1]) and len(shape) == 4 else 1, 6, 5)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["parquet", "npz", "mnist", "cifar10", "svhn", "image_folder"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path) -> None:
    parameters = find("datasets", name).load().example(tmp_path)
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
    for file in find("datasets", name).load().files:
        assert str(tmp_path / file) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("parquet", {}, r"dataset\.train: give the parquet file"),
        ("parquet", {"train": "nowhere.parquet"}, "there is no such file"),
        ("npz", {"path": "nowhere.npz"}, "there is no such file"),
        ("image_folder", {"root": "nowhere"}, "there is no such folder"),
        (
            "digits",
            {"train_size": 99999},
            r"dataset\.train_size: 99999 examples were asked for, but only 1213",
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
    np.savez(tmp_path / "float.npz", images=np.zeros((4, 8, 8)), labels=np.zeros(4))
    with pytest.raises(UserError, match="must be uint8"):
        build("npz", path=str(tmp_path / "float.npz")).load()


def test_targets_outside_the_classes_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        images=np.zeros((4, 8, 8), np.uint8),
        labels=[0, 1, 2, 9],
        class_names=["a", "b", "c"],
    )
    with pytest.raises(UserError, match="targets go from 0 to 9, but 3 classes allow 0 to 2"):
        build("npz", path=str(tmp_path / "x.npz")).load()

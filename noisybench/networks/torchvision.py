"""Any classifier of torchvision, as `torchvision:NAME`, with its original stem for large images."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from noisybench.errors import UserError, nearest
from noisybench.networks._gray import for_gray_images

EXAMPLE = "mobilenet_v3_small"


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """Return a classifier of torchvision with random weights.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; torchvision's networks take 3, so a single channel is repeated.
        name: name in torchvision.

    Raises:
        UserError: torchvision has no network of that name, or the number of channels is neither 1 nor 3.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"budget.network: torchvision has no classifier `{name}`; {nearest(name, known)}")
    # With auxiliary classifiers these two return several outputs in training;
    # `init_weights` is set because its default causes a warning.
    arguments = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    return for_gray_images(model, channels, f"torchvision:{name}")


def published_weights(name: str) -> dict[str, Tensor]:
    """Return the pre-trained weights of a network of color images; downloaded on first use."""
    weights: dict[str, Tensor] = torchvision.models.get_model(name, weights="DEFAULT").state_dict()
    return weights

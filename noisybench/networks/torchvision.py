"""Any classifier of torchvision, as `torchvision:NAME`; its own stem, made for large images, is part of the name."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from noisybench.errors import UserError, nearest
from noisybench.networks._gray import for_gray_images

EXAMPLE = "mobilenet_v3_small"


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """A freshly initialised network of torchvision.

    Args:
        num_classes: number of outputs.
        channels: input channels; torchvision's networks take 3, so gray images are repeated.
        name: as torchvision names it.

    Raises:
        UserError: torchvision has none of that name, or it does not take so many channels.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"budget.network: torchvision has no classifier `{name}`; {nearest(name, known)}")
    arguments = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    return for_gray_images(model, channels, f"torchvision:{name}")


def published(name: str) -> dict[str, Tensor]:
    """Weights that torchvision has for a network of colour images, downloaded on first use."""
    weights: dict[str, Tensor] = torchvision.models.get_model(name, weights="DEFAULT").state_dict()
    return weights

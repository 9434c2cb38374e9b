"""Backbones: one file per network with a `build(num_classes, channels)`, file name = public name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """A network by its registered name, or ``torchvision:NAME`` for any classifier of torchvision.

    Torchvision's networks keep their own stem, made for large images; it is part of the name and so of the budget.

    Args:
        name: as in `budget.network`.
        num_classes: number of outputs.
        channels: input channels; torchvision's networks take 3, so gray images are repeated.

    Raises:
        UserError: there is no network of that name.
    """
    from noisybench.errors import UserError, nearest
    from noisybench.registry import find

    if not name.startswith("torchvision:"):
        network: nn.Module = find("networks", name, "budget.network").load()(num_classes, channels)
        return network
    import torchvision
    from torch import nn

    inner = name.removeprefix("torchvision:")
    known = torchvision.models.list_models(module=torchvision.models)
    if inner not in known:
        raise UserError(f"budget.network: torchvision has no classifier `{inner}`; {nearest(inner, known)}")
    arguments = {"init_weights": True, "aux_logits": False} if inner in ("googlenet", "inception_v3") else {}
    if channels not in (1, 3):
        raise UserError(f"budget.network: `{name}` takes colour or gray images, not {channels} channels")
    model: nn.Module = torchvision.models.get_model(inner, weights=None, num_classes=num_classes, **arguments)
    # Repeating a gray image is a 1x1 convolution with fixed weights of one.
    return model if channels == 3 else nn.Sequential(_gray_to_colour(), model)


def _gray_to_colour() -> nn.Module:
    from torch import nn

    repeat = nn.Conv2d(1, 3, 1, bias=False)
    nn.init.ones_(repeat.weight).requires_grad_(False)
    return repeat

"""Any classifier of timm, as `timm:NAME`; needs `pip install timm`."""

from __future__ import annotations

from torch import Tensor, nn

from noisybench.errors import UserError, nearest

EXAMPLE = "resnet10t"


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """Return a network of timm with random weights.

    Args:
        num_classes: number of outputs.
        channels: number of input channels; timm adapts the first layer.
        name: name in timm.

    Raises:
        UserError: timm is not installed, or has no network of that name.
    """
    try:
        import timm
    except ImportError:
        raise UserError("budget.network: timm is not installed; run `python -m pip install timm`") from None
    known = timm.list_models()
    if name not in known:
        raise UserError(f"budget.network: timm has no network `{name}`; {nearest(name, known)}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)
    return network


def published_weights(name: str) -> dict[str, Tensor]:
    """Return the pre-trained weights of a network of color images; downloaded on first use."""
    import timm

    weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return weights

"""Any network of segmentation_models_pytorch, as `smp:ARCHITECTURE/ENCODER`; needs `pip install segmentation-models-pytorch`."""

from __future__ import annotations

from torch import nn

from noisybench.errors import UserError, nearest

EXAMPLE = "unet/resnet18"

OF_TIMM = "tu-"
"""Prefix of encoders of timm."""


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """Return a network of segmentation_models_pytorch with random weights.

    Args:
        num_classes: number of outputs for each pixel.
        channels: number of input channels.
        name: architecture and encoder, such as ``unet/resnet34`` or, from timm, ``unet/tu-tf_efficientnet_lite0``; the
            default encoder is resnet18.

    Raises:
        UserError: the library is not installed, or has no network of that name.
    """
    try:
        import segmentation_models_pytorch as library  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            "budget.network: segmentation_models_pytorch is not installed; run "
            "`python -m pip install segmentation-models-pytorch`"
        ) from None
    architecture, _, encoder = name.partition("/")
    known = {
        model.__name__.lower(): model
        for model in vars(library).values()
        if isinstance(model, type) and issubclass(model, nn.Module)
    }
    if architecture not in known:
        raise UserError(
            f"budget.network: segmentation_models_pytorch has no `{architecture}`; {nearest(architecture, known)}"
        )
    # Encoders of timm have a prefix and are not on the list.
    is_of_timm = encoder.startswith(OF_TIMM)
    encoders = [f"{OF_TIMM}{name}" for name in _timm_models()] if is_of_timm else library.encoders.get_encoder_names()
    if encoder and encoder not in encoders:
        raise UserError(
            f"budget.network: segmentation_models_pytorch has no encoder `{encoder}`; {nearest(encoder, encoders)}"
        )
    network: nn.Module = known[architecture](
        encoder_name=encoder or "resnet18", encoder_weights=None, in_channels=channels, classes=num_classes
    )
    return network


def _timm_models() -> list[str]:
    import timm

    return list(timm.list_models())

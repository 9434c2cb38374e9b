"""Pre-trained weights for the encoders of segmentation networks, by name or from a file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from noisybench.errors import UserError, nearest
from noisybench.networks._efficientnet_lite0 import installed_weights, with_timm_names
from noisybench.networks.smp import OF_TIMM
from noisybench.nn.weights import load_backbone_weights
from noisybench.utils.files import first_line

ENCODERS = ("encoder", "network.backbone")
"""Paths of the encoder in networks of segmentation_models_pytorch and of torchvision."""

LITE0, LITE0_ENCODER = "efficientnet_lite0", "tu-tf_efficientnet_lite0"
"""Weights inside a package, and the encoder that they fit."""


def encoder_path(network: nn.Module) -> str:
    """Return the path of the encoder in a segmentation network; empty if it has no replaceable one.

    Example:
        >>> from noisybench.networks import build_network
        >>> encoder_path(build_network("unet:4", num_classes=2, channels=1))
        ''
    """
    modules = dict(network.named_modules())
    # A single channel is repeated by a layer before networks of color images.
    for path in (*ENCODERS, *(f"1.{path}" for path in ENCODERS)):
        if path in modules:
            # Encoders of timm are wrapped.
            inner = modules[path]._modules.get("model")
            return path if inner is None or len(modules[path]._modules) > 1 else f"{path}.model"
    return ""


def load_encoder_weights(network: nn.Module, name: str, published: str, checkpoint: Path | None) -> dict[str, Tensor]:
    """Return pre-trained weights for the encoder of a segmentation network, by their names in the network.

    An encoder of gray images adds the weights of the three channels in its first layer: a gray image then has the features
    of a color image with three equal channels.

    Args:
        network: network whose encoder is meant; only its names and shapes are used.
        name: value of `budget.network`.
        published: name of published weights, such as `imagenet`; empty if they come from a file.
        checkpoint: file of the weights; None if they have a name.

    Raises:
        UserError: the network has no encoder of that kind, or the weights do not exist, cannot be downloaded or do not fit.
    """
    path = encoder_path(network)
    parameter = "task.checkpoint" if checkpoint is not None else "task.encoder_weights"
    if not path:
        raise UserError(
            f"{parameter}: `{name}` has no encoder for pre-trained weights; use one of segmentation_models_pytorch or "
            "torchvision, such as budget.network=smp:unet/resnet18 or torchvision_segmentation:deeplabv3_resnet50"
        )
    own = network.get_submodule(path).state_dict()
    stem = next(iter(own))
    is_gray = own[stem].dim() == 4 and own[stem].shape[1] == 1
    expected = {**own, stem: own[stem].expand(-1, 3, -1, -1)} if is_gray else own
    if checkpoint is not None:
        found = load_backbone_weights(checkpoint, expected, parameter)
    else:
        found = _fitting(_named_weights(name, published), expected, f"{published} of {name}")
    if is_gray:
        found = {**found, stem: found[stem].sum(1, keepdim=True)}
    return {f"{path}.{key}": value for key, value in found.items()}


def _named_weights(name: str, published: str) -> dict[str, Tensor]:
    """Return the weights of an encoder that its library publishes under a name, or that a package contains."""
    family, _, argument = name.partition(":")
    encoder = argument.partition("/")[2] or "resnet18"
    if published == LITE0:
        if family != "smp" or encoder != LITE0_ENCODER:
            raise UserError(
                f"task.encoder_weights: {LITE0} fits the encoder {LITE0_ENCODER}, but the network is {name}; set "
                f"budget.network=smp:unet/{LITE0_ENCODER}"
            )
        return with_timm_names(installed_weights("task.encoder_weights"))
    try:
        return _smp_weights(encoder, published) if family == "smp" else _torchvision_weights(argument, published)
    except UserError:
        raise
    except Exception as error:  # libraries raise many types for failed downloads
        raise UserError(
            f"task.encoder_weights: {published} of {name} cannot be downloaded ({first_line(error)}); set a file with "
            f"task.checkpoint, or use the installed {LITE0} with budget.network=smp:unet/{LITE0_ENCODER}"
        ) from None


def _smp_weights(encoder: str, published: str) -> dict[str, Tensor]:
    from segmentation_models_pytorch import encoders as library  # type: ignore[import-untyped]

    if encoder.startswith(OF_TIMM):
        import timm

        known = ["imagenet", *([LITE0] if encoder == LITE0_ENCODER else [])]
        _check_name(published, known, f"the encoder {encoder}")
        features = timm.create_model(encoder.removeprefix(OF_TIMM), features_only=True, pretrained=True)
        return dict(features.state_dict())
    _check_name(published, list(library.encoders[encoder]["pretrained_settings"]), f"the encoder {encoder}")
    return dict(library.get_encoder(encoder, weights=published).state_dict())


def _torchvision_weights(name: str, published: str) -> dict[str, Tensor]:
    import torchvision

    _check_name(published, ["imagenet"], f"the encoder of {name}")
    network = torchvision.models.get_model(name, weights=None, weights_backbone="IMAGENET1K_V1")
    return dict(network.backbone.state_dict())


def _check_name(published: str, known: list[str], what: str) -> None:
    if published not in known:
        raise UserError(f"task.encoder_weights: {what} has no weights `{published}`; {nearest(published, known)}")


def _fitting(weights: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return the weights that the network has; those of its last layers may be left out, as shallow encoders do."""
    missing = [
        key
        for key, value in expected.items()
        if not key.endswith("num_batches_tracked") and (key not in weights or weights[key].shape != value.shape)
    ]
    if missing:
        raise UserError(
            f"task.encoder_weights: {what} does not fit the network: {len(missing)} of {len(expected)} weights are missing or "
            f"have another shape ({', '.join(missing[:3])}); choose another encoder, or set a file with task.checkpoint"
        )
    return {key: weights[key] for key in expected if key in weights}

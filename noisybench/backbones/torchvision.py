"""Any pre-trained classifier of torchvision, as `torchvision:NAME`, with the preprocessing of its weights."""

from __future__ import annotations

from noisybench.backbones import ImageBackbone
from noisybench.errors import UserError, nearest
from noisybench.utils.files import first_line

EXAMPLE = "resnet18"


def load(name: str, size: int | None = None) -> ImageBackbone:
    """Return a network of torchvision without its classifier, with its published weights.

    Args:
        name: name in torchvision.
        size: side in pixels to which images are resized (default: that of its pre-training).

    Raises:
        UserError: torchvision has no network of that name, or its weights cannot be had.
    """
    try:
        return _create(name, size, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # libraries raise many types for failed downloads
        raise UserError(
            f"--backbone: the weights of torchvision:{name} cannot be downloaded ({first_line(error)}); download them on "
            "another machine into the cache of torch, or use a backbone whose weights are installed, such as efficientnet_lite0"
        ) from None


def untrained(name: str, size: int | None = None) -> ImageBackbone:
    """Return a network of torchvision without its classifier, with random weights, for those of a checkpoint.

    Args:
        name: name in torchvision.
        size: side in pixels to which images are resized (default: that of its pre-training).

    Raises:
        UserError: torchvision has no network of that name.
    """
    return _create(name, size, pretrained=False)


def _create(name: str, size: int | None, pretrained: bool) -> ImageBackbone:
    import torchvision

    from noisybench.nn.frozen import split_network

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"--backbone: torchvision has no classifier `{name}`; {nearest(name, known)}")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    network = torchvision.models.get_model(name, weights=weights if pretrained else None)
    transform = weights.transforms()
    return ImageBackbone(
        split_network(network)[0], size or transform.crop_size[0], tuple(transform.mean), tuple(transform.std),
        transform.interpolation.value,
    )  # fmt: skip

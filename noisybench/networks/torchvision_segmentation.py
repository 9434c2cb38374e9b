"""Any segmentation network of torchvision, as `torchvision_segmentation:NAME`, such as DeepLabV3."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from noisybench.errors import UserError, nearest
from noisybench.networks._gray import for_gray_images

EXAMPLE = "lraspp_mobilenet_v3_large"


class _Scores(nn.Module):
    """The scores alone, of all that torchvision's networks give."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) scores."""
        scores: Tensor = self.network(inputs)["out"]
        return scores


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """A freshly initialised network of torchvision.

    Args:
        num_classes: number of outputs for each pixel.
        channels: input channels; torchvision's networks take 3, so gray images are repeated.
        name: as torchvision names it, such as ``deeplabv3_resnet50``.

    Raises:
        UserError: torchvision has none of that name, or it does not take so many channels.
    """
    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    if name not in known:
        raise UserError(f"budget.network: torchvision has no segmentation network `{name}`; {nearest(name, known)}")
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    return for_gray_images(_Scores(model), channels, f"torchvision_segmentation:{name}")

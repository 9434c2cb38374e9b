"""Any segmentation network of torchvision, as `torchvision_segmentation:NAME`, such as DeepLabV3."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from noisybench.errors import UserError, nearest
from noisybench.networks._gray import for_gray_images

EXAMPLE = "lraspp_mobilenet_v3_large"


class _MainOutput(nn.Module):
    """A network of torchvision that returns only its main output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C, H, W) logits."""
        logits: Tensor = self.network(inputs)["out"]
        return logits


def build(num_classes: int, channels: int, name: str) -> nn.Module:
    """Return a segmentation network of torchvision with random weights.

    Args:
        num_classes: number of outputs for each pixel.
        channels: number of input channels; torchvision's networks take 3, so a single channel is repeated.
        name: name in torchvision, such as ``deeplabv3_resnet50``.

    Raises:
        UserError: torchvision has no network of that name, or the number of channels is neither 1 nor 3.
    """
    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    if name not in known:
        raise UserError(f"budget.network: torchvision has no segmentation network `{name}`; {nearest(name, known)}")
    # `weights_backbone` defaults to pre-trained weights, which would be downloaded.
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    return for_gray_images(_MainOutput(model), channels, f"torchvision_segmentation:{name}")

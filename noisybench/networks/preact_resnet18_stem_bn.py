"""PreActResNet-18 of DivideMix, PLS, LSA and ProMix: 11.2 million weights, with batch normalization after the stem."""

from __future__ import annotations

from torch import Tensor, nn

from noisybench.networks._residual import PreActivationBlock
from noisybench.networks._staged import Staged


class ActivatedShortcutBlock(PreActivationBlock):
    """Pre-activation block whose shortcut starts after the first activation, also if the shape does not change."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        activated = self.relu(self.bn1(inputs))
        body: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        shortcut: Tensor = activated if self.shortcut is None else self.shortcut(activated)
        return body + shortcut


def build(num_classes: int, channels: int) -> nn.Module:
    """Return stages of 2, 2, 2, 2 pre-activation blocks with 64 to 512 channels.

    This is the network behind most published results that are said to be of a PreActResNet-18. Unlike in `preact_resnet18`
    (He et al. 2016b), the stem is normalized and activated, the last sum is not, and shortcuts carry the activated input.
    """
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 64, 3, 1, 1, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(inplace=True),
    }
    stages = []
    for stage in range(4):
        out_channels = 64 * 2**stage
        in_channels = max(64, out_channels // 2)
        stages.append(f"layer{stage + 1}")
        layers[stages[-1]] = nn.Sequential(
            ActivatedShortcutBlock(in_channels, out_channels, 2 if stage else 1),
            ActivatedShortcutBlock(out_channels, out_channels, 1),
        )
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(512, num_classes)}
    return Staged(layers, stages)

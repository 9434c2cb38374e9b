"""Residual networks with the 3x3 CIFAR stem (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from noisybench.networks._staged import Staged


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, each with batch normalization, and an activation after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        # Batch normalization subtracts the mean, and with it any bias of the convolution.
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        body = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs)))))
        result: Tensor = self.relu(body + self.downsample(inputs))
        return result


class PreActivationBlock(nn.Module):
    """Pre-activation block: two 3x3 convolutions, each after batch normalization and activation (He et al. 2016b)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)) if changes_shape else None
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        # The in-place ReLU overwrites the normalized copy only, so that the identity shortcut can still use `inputs`.
        activated = self.relu(self.bn1(inputs))
        body: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return body + (inputs if self.shortcut is None else self.shortcut(activated))


def residual_network(
    num_classes: int, channels: int, blocks: Sequence[int], width: int = 64, pre_activation: bool = False
) -> nn.Module:
    """Return a residual network for small images: 3x3 stem of stride 1, no pooling before the blocks.

    Layers have the names of torchvision, so that weights of networks with the same stem can be loaded.

    Args:
        num_classes: number of outputs.
        channels: number of input channels.
        blocks: number of blocks in each stage; stages after the first halve the size and double the channels.
        width: number of channels in the first stage.
        pre_activation: use pre-activation blocks.
    """
    block = PreActivationBlock if pre_activation else Block
    # Pre-activation blocks begin with a normalization, so that the stem has none;
    # in return, the sum that leaves the last block still needs one.
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(channels, width, 3, 1, 1, bias=False)}
    if not pre_activation:
        layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}
    in_channels, names = width, []
    for stage, count in enumerate(blocks):
        out_channels, members = width * 2**stage, []
        for number in range(count):
            members.append(block(in_channels, out_channels, 2 if stage and not number else 1))
            in_channels = out_channels
        names.append(f"layer{stage + 1}")
        layers[names[-1]] = nn.Sequential(*members)
    if pre_activation:
        layers |= {"bn": nn.BatchNorm2d(in_channels), "relu": nn.ReLU(inplace=True)}
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(in_channels, num_classes)}
    return Staged(layers, names)

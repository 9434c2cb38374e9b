"""Residual networks with the 3x3 CIFAR stem (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from noisybench.networks._staged import Staged


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: normalisation after each convolution, activation after the sum."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Identity()
            if stride == 1 and inside == outside
            else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        body = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs)))))
        result: Tensor = self.relu(body + self.downsample(inputs))
        return result


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and activation, and a plain sum."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False)) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        activated = self.relu(self.bn1(inputs))
        body: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return body + (inputs if self.shortcut is None else self.shortcut(activated))


def residual_network(
    num_classes: int, channels: int, blocks: Sequence[int], width: int = 64, pre_activation: bool = False
) -> nn.Module:
    """A residual network for small images: 3x3 stem of stride 1, no pooling before the blocks.

    Layers are named as in torchvision, so that weights learned with such a stem elsewhere can be loaded.

    Args:
        num_classes: number of outputs.
        channels: input channels.
        blocks: blocks per stage; each stage after the first halves the size and doubles the maps.
        width: maps of the first stage.
        pre_activation: normalise and activate before each convolution.
    """
    block = PreActivationBlock if pre_activation else Block
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(channels, width, 3, 1, 1, bias=False)}
    if not pre_activation:
        layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}
    inside, names = width, []
    for stage, count in enumerate(blocks):
        outside, members = width * 2**stage, []
        for number in range(count):
            members.append(block(inside, outside, 2 if stage and not number else 1))
            inside = outside
        names.append(f"layer{stage + 1}")
        layers[names[-1]] = nn.Sequential(*members)
    if pre_activation:
        layers |= {"bn": nn.BatchNorm2d(inside), "relu": nn.ReLU(inplace=True)}
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(inside, num_classes)}
    return Staged(layers, names)

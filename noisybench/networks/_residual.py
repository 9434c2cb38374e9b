"""Residual networks with the 3x3 CIFAR stem (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from noisybench.networks._staged import Staged


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: normalisation after each convolution, activation after the sum."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inside == outside
            else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        result: Tensor = self.activation(self.body(inputs) + self.shortcut(inputs))
        return result


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and activation, and a plain sum."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
        )
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        activated = self.activate(inputs)
        result: Tensor = self.body(activated) + (inputs if self.shortcut is None else self.shortcut(activated))
        return result


def residual_network(
    num_classes: int, channels: int, blocks: Sequence[int], width: int = 64, pre_activation: bool = False
) -> nn.Module:
    """A residual network for small images: 3x3 stem of stride 1, no pooling before the blocks.

    Args:
        num_classes: number of outputs.
        channels: input channels.
        blocks: blocks per stage; each stage after the first halves the size and doubles the maps.
        width: maps of the first stage.
        pre_activation: normalise and activate before each convolution.
    """
    block = PreActivationBlock if pre_activation else Block
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False)]
    if not pre_activation:
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    inside, ends = width, []
    for stage, count in enumerate(blocks):
        outside = width * 2**stage
        for number in range(count):
            layers.append(block(inside, outside, 2 if stage and not number else 1))
            inside = outside
        ends.append(len(layers) - 1)
    if pre_activation:
        layers += [nn.BatchNorm2d(inside), nn.ReLU(inplace=True)]
    return Staged([*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, num_classes)], ends)

"""Pre-trained backbones, each in one file with a function `load`; the file name is the public name.

A family of backbones takes an additional argument after a colon (`timm:resnet10t`). Its file names an example in `EXAMPLE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ImageBackbone:
    """A frozen network that maps images to features, with the preprocessing of its pre-training.

    Attributes:
        module: maps (B, 3, H, W) normalized images to (B, D) features, or to (B, D, h, w) maps, which are averaged.
        size: side in pixels to which images are resized.
        mean: mean of the three channels that is subtracted, for values from 0 to 1.
        deviation: standard deviation of the three channels that is divided by.
        interpolation: interpolation of the resizing, ``bilinear`` or ``bicubic``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> backbone = ImageBackbone(nn.Flatten(), 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> backbone.encode(torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)).round(decimals=4).unique()
        tensor([1.])
    """

    module: nn.Module
    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    interpolation: str = "bicubic"

    def preprocess(self, images: Tensor) -> Tensor:
        """Return (B, 3, size, size) normalized images of (B, 1 or 3, H, W) uint8 images."""
        from torch.nn import functional

        # Gray images are shown as gray to a network of color images.
        colored = images.expand(-1, 3, -1, -1).float()
        if colored.shape[2:] != (self.size, self.size):
            colored = functional.interpolate(
                colored, (self.size, self.size), mode=self.interpolation, align_corners=False, antialias=True
            )
        mean, deviation = (colored.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.deviation))
        # Bicubic interpolation overshoots at edges, which a decoder of 8-bit images cuts off.
        return (colored.clamp(0, 255) / 255 - mean) / deviation

    def encode(self, images: Tensor) -> Tensor:
        """Return the (B, D) features of (B, 1 or 3, H, W) uint8 images."""
        import torch

        # The layout of the weights, in which convolutions on a CPU take half the time.
        inputs = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.module(inputs)
        return features.mean((2, 3)) if features.dim() == 4 else features.flatten(1)

    def digest(self) -> str:
        """Return the SHA-256 of the weights and of the preprocessing, which decide the features."""
        import hashlib

        # With the layout, which decides the last bits of the features.
        settings = (self.size, self.mean, self.deviation, self.interpolation, "channels_last")
        digest = hashlib.sha256(repr(settings).encode())
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_backbone(name: str, size: int | None = None) -> ImageBackbone:
    """Return a pre-trained backbone by its registered name.

    Args:
        name: registered name; for a family with an argument after a colon.
        size: side in pixels to which images are resized instead of that of the pre-training.

    Raises:
        UserError: the backbone is unknown or not installed, its argument is missing or superfluous, or its weights are not on
            this machine and cannot be downloaded.
    """
    import dataclasses
    import inspect

    import torch

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, colon, argument = name.partition(":")
    load = get_entry("backbones", family, "--backbone").load_class()
    takes_argument = bool(inspect.signature(load).parameters)
    if takes_argument and not argument:
        example = getattr(inspect.getmodule(load), "EXAMPLE", "NAME")
        raise UserError(f"--backbone: `{family}` is a family of backbones; name one, such as `{family}:{example}`")
    if colon and not takes_argument:
        raise UserError(f"--backbone: `{family}` takes no argument after a colon, but got `{name}`")
    backbone: ImageBackbone = load(argument) if takes_argument else load()
    backbone.module.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    return backbone if size is None else dataclasses.replace(backbone, size=size)

"""Pre-trained backbones, each in one file with a function `load`; the file name is the public name.

A family of backbones takes an additional argument after a colon (`timm:resnet10t`). Its file names an example in `EXAMPLE`.
A function `load` with a parameter `network` takes the name of a network as well (`--network`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, device, nn


BATCH_SIZE = 64
"""Number of examples of a forward pass. Fixed, because features of other batches may differ in their last bits."""


class Backbone(Protocol):
    """A frozen network that maps inputs to features, with the preprocessing of its pre-training.

    Attributes:
        module: the network.
        size: side in pixels to which images are resized, or largest number of tokens of a text; None for inputs as they are.
        reads: kind of the inputs.
    """

    @property
    def module(self) -> nn.Module:
        """Return the network."""
        ...

    @property
    def size(self) -> int | None:
        """Return the size of the inputs that the network sees."""
        ...

    @property
    def reads(self) -> Literal["images", "texts"]:
        """Return the kind of the inputs."""
        ...

    def adapted(self, inputs: NDArray[Any]) -> Backbone:
        """Return the backbone with what its preprocessing takes from the training inputs."""
        ...

    def encode_all(self, inputs: NDArray[Any], device: device) -> Tensor:
        """Return the (N, D) float32 features of inputs on the CPU."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 of the weights and of the preprocessing, which decide the features."""
        ...


@dataclass(frozen=True)
class ImageBackbone:
    """A frozen network that maps images to features, with the preprocessing of its pre-training.

    Attributes:
        module: maps (B, C, H, W) normalized images to (B, D) features, or to (B, D, h, w) maps, which are averaged.
        size: side in pixels to which images are resized; None keeps them.
        mean: mean of each channel that is subtracted, for values from 0 to 1; None takes that of the training images.
        deviation: standard deviation of each channel that is divided by; None takes that of the training images.
        interpolation: interpolation of the resizing, ``bilinear`` or ``bicubic``.
        transform: preprocessing of a library, from (B, 3, H, W) uint8 images to inputs, instead of that of the other
            attributes.
        settings: description of this preprocessing for the digest.
        channels: number of channels of the images that the network takes, 1 or 3.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> backbone = ImageBackbone(nn.Flatten(), 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> backbone.encode(torch.full((4, 3, 8, 8), 255, dtype=torch.uint8)).round(decimals=4).unique()
        tensor([1.])
    """

    module: nn.Module
    size: int | None
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None
    interpolation: str = "bicubic"
    transform: Callable[[Tensor], Tensor] | None = None
    settings: str = ""
    channels: int = 3
    reads: Literal["images", "texts"] = "images"

    def adapted(self, inputs: NDArray[Any]) -> ImageBackbone:
        """Return the backbone with the mean and deviation of (N, C, H, W) uint8 training images, unless it has its own."""
        import dataclasses

        import numpy as np

        from noisybench.errors import UserError

        if self.channels == 1 and inputs.shape[1] != 1:
            raise UserError(
                f"--backbone: the network takes gray images, but those of the dataset have {inputs.shape[1]} channels"
            )
        if self.mean is not None or self.transform is not None:
            return self
        counts = np.zeros((inputs.shape[1], 256), dtype=np.int64)
        for image in inputs:
            for channel, values in enumerate(image):
                counts[channel] += np.bincount(values.reshape(-1), minlength=256)
        frequencies, levels = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
        mean = frequencies @ levels
        deviation = np.sqrt(np.maximum(0, frequencies @ levels**2 - mean**2))
        # A constant channel has no information.
        scale = np.where(deviation > 0, deviation, 1.0)
        return dataclasses.replace(self, mean=tuple(mean.tolist()), deviation=tuple(scale.tolist()))

    def preprocess(self, images: Tensor) -> Tensor:
        """Return (B, C, size, size) normalized images of (B, 1 or 3, H, W) uint8 images."""
        from torch.nn import functional

        # Gray images are shown as gray to a network of color images.
        colored = images.expand(-1, self.channels, -1, -1)
        if self.transform is not None:
            return self.transform(colored)
        colored = colored.float()
        if self.size is not None and colored.shape[2:] != (self.size, self.size):
            colored = functional.interpolate(
                colored, (self.size, self.size), mode=self.interpolation, align_corners=False, antialias=True
            )
        assert self.mean is not None  # by `adapted`
        assert self.deviation is not None
        mean, deviation = (colored.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.deviation))
        # Bicubic interpolation overshoots at edges, which a decoder of 8-bit images cuts off.
        return (colored.clamp(0, 255) / 255 - mean) / deviation

    def encode(self, images: Tensor) -> Tensor:
        """Return the (B, D) features of (B, 1 or 3, H, W) uint8 images."""
        import torch

        # The layout of the weights, in which convolutions on a CPU take half the time.
        inputs = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.module(inputs)
        return features.mean((2, 3)) if features.dim() == 4 else features.flatten(1)

    def encode_all(self, inputs: NDArray[Any], device: device) -> Tensor:
        """Return the (N, D) float32 features of (N, C, H, W) uint8 images on the CPU."""
        import torch

        batches = torch.split(torch.from_numpy(inputs), BATCH_SIZE)
        return torch.cat([self.encode(batch.to(device)).float().cpu() for batch in batches])

    def digest(self) -> str:
        """Return the SHA-256 of the weights and of the preprocessing, which decide the features."""
        # With the layout, which decides the last bits of the features.
        settings = (self.size, self.mean, self.deviation, self.interpolation, self.settings, "channels_last")
        return module_digest(self.module, repr(settings))


def module_digest(module: nn.Module, settings: str) -> str:
    """Return the SHA-256 of settings and of all weights of a module.

    Example:
        >>> from torch import nn
        >>> module_digest(nn.Identity(), "size 8")[:8]
        'da3bff4f'
    """
    import hashlib

    digest = hashlib.sha256(settings.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_backbone(name: str, size: int | None = None, network: str | None = None) -> Backbone:
    """Return a pre-trained backbone by its registered name.

    Args:
        name: registered name; for a family with an argument after a colon.
        size: side in pixels to which images are resized, or largest number of tokens, instead of that of the pre-training.
        network: network whose weights a checkpoint holds.

    Raises:
        UserError: the backbone is unknown or not installed, its argument is missing or superfluous, or its weights are not on
            this machine and cannot be downloaded.
    """
    import inspect

    import torch

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, colon, argument = name.partition(":")
    load = get_entry("backbones", family, "--backbone").load_class()
    parameters = inspect.signature(load).parameters
    if "name" in parameters and not argument:
        example = getattr(inspect.getmodule(load), "EXAMPLE", "NAME")
        raise UserError(f"--backbone: `{family}` is a family of backbones; name one, such as `{family}:{example}`")
    if colon and "name" not in parameters:
        raise UserError(f"--backbone: `{family}` takes no argument after a colon, but got `{name}`")
    if network is not None and "network" not in parameters:
        raise UserError(f"--network: names the network of a checkpoint, but the backbone is `{name}`; remove it")
    arguments: dict[str, Any] = {"name": argument} if "name" in parameters else {}
    arguments |= {"network": network} if "network" in parameters else {}
    backbone: Backbone = load(**arguments, size=size)
    backbone.module.requires_grad_(False).eval()
    if backbone.reads == "images":
        backbone.module.to(memory_format=torch.channels_last)
    return backbone

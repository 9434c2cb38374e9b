"""Networks: one file per network with a function `build(num_classes, channels)`; the file name is the public name.

A family of networks takes an additional argument after a colon (`torchvision:resnet50`). Its file names an example in
`EXAMPLE` (None if it needs files), and may have a function `published_weights(argument)` that downloads weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def build_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """Return a network with random weights by its registered name.

    Args:
        name: value of `budget.network`; for a family with an argument after a colon.
        num_classes: number of outputs.
        channels: number of input channels.

    Raises:
        UserError: the network is unknown, or its argument is missing or superfluous.

    Examples:
        >>> network = build_network("mlp:16-8", num_classes=10, channels=1)
        >>> import torch
        >>> network(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    import inspect

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, colon, argument = name.partition(":")
    build = get_entry("networks", family, "budget.network").load_class()
    takes_argument = len(inspect.signature(build).parameters) > 2
    if takes_argument and not argument:
        example = getattr(inspect.getmodule(build), "EXAMPLE", None) or "NAME"
        raise UserError(f"budget.network: `{family}` is a family of networks; name one, such as `{family}:{example}`")
    if colon and not takes_argument:
        raise UserError(f"budget.network: `{family}` takes no argument after a colon, but got `{name}`")
    network: nn.Module = build(num_classes, channels, argument) if takes_argument else build(num_classes, channels)
    return network


def published_weights(name: str, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the pre-trained weights of a backbone that its library has published.

    Args:
        name: value of `budget.network`.
        expected: weights of the backbone by name; only their shapes matter.

    Raises:
        UserError: there are no weights, they cannot be downloaded, or they do not fit.

    Examples:
        >>> published_weights("small_cnn", {})
        Traceback (most recent call last):
        ...
        noisybench.errors.UserError: task.published: `small_cnn` has no published weights; use a network of torchvision or timm
    """
    import importlib

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, _, argument = name.partition(":")
    download = getattr(importlib.import_module(get_entry("networks", family).module), "published_weights", None)
    if download is None:
        raise UserError(f"task.published: `{name}` has no published weights; use a network of torchvision or timm")
    try:
        weights = download(argument)
    except Exception as error:  # libraries raise many types for failed downloads
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(
            f"task.published: the weights of `{name}` cannot be downloaded ({reason}); set a file with task.checkpoint"
        ) from None
    # A grayscale image passes a repeating layer before the network, which has a fixed weight and shifts all names.
    is_wrapped = any(key.startswith("1.") for key in expected) and not any(key in weights for key in expected)
    prefix = "1." if is_wrapped else ""
    matched = {key: weights.get(key.removeprefix(prefix)) for key in expected if key.startswith(prefix)}
    differing = [key for key, value in matched.items() if value is None or value.shape != expected[key].shape]
    if differing:
        raise UserError(
            f"task.published: the weights of `{name}` do not fit images of this kind ({', '.join(differing[:3])})"
        )
    return {key: value for key, value in matched.items() if value is not None}

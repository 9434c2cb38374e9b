"""Backbones: one file per network with a function `build(num_classes, channels)`, file name = public name.

A family of networks takes a further argument, given after a colon (`torchvision:resnet50`); its file names one in `EXAMPLE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build_network(name: str, num_classes: int, channels: int) -> nn.Module:
    """A network by its registered name, with an argument after a colon where it is a family.

    Args:
        name: as in `budget.network`.
        num_classes: number of outputs.
        channels: input channels.

    Raises:
        UserError: there is no network of that name, or it takes an argument that is missing, or none that is given.
    """
    import inspect

    from noisybench.errors import UserError
    from noisybench.registry import find

    family, colon, argument = name.partition(":")
    build = find("networks", family, "budget.network").load()
    takes_argument = len(inspect.signature(build).parameters) > 2
    if takes_argument and not argument:
        example = getattr(inspect.getmodule(build), "EXAMPLE", "NAME")
        raise UserError(f"budget.network: `{family}` is a family of networks; say which, such as `{family}:{example}`")
    if colon and not takes_argument:
        raise UserError(f"budget.network: `{family}` is one network and takes nothing after a colon; got `{name}`")
    network: nn.Module = build(num_classes, channels, argument) if takes_argument else build(num_classes, channels)
    return network

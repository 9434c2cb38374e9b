"""Backbones: one file per network with a function `build(num_classes, channels)`, file name = public name.

A family of networks takes a further argument, given after a colon (`torchvision:resnet50`); its file names one in `EXAMPLE`
(None where it needs files), and may have a function `published(argument)` that fetches weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


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

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, colon, argument = name.partition(":")
    build = get_entry("networks", family, "budget.network").load_class()
    takes_argument = len(inspect.signature(build).parameters) > 2
    if takes_argument and not argument:
        example = getattr(inspect.getmodule(build), "EXAMPLE", None) or "NAME"
        raise UserError(f"budget.network: `{family}` is a family of networks; say which, such as `{family}:{example}`")
    if colon and not takes_argument:
        raise UserError(f"budget.network: `{family}` is one network and takes nothing after a colon; got `{name}`")
    network: nn.Module = build(num_classes, channels, argument) if takes_argument else build(num_classes, channels)
    return network


def published_weights(name: str, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a backbone that its library has published.

    Args:
        name: as in `budget.network`.
        wanted: the backbone's weights by name; only their shapes count.

    Raises:
        UserError: there are none, they cannot be fetched, or they do not fit.
    """
    import importlib

    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError

    family, _, argument = name.partition(":")
    fetch = getattr(importlib.import_module(get_entry("networks", family).module), "published", None)
    if fetch is None:
        raise UserError(f"task.published: nobody has published weights of `{name}`; take one of torchvision or timm")
    try:
        found = fetch(argument)
    except Exception as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(
            f"task.published: the weights of `{name}` cannot be fetched ({reason}); give a file by task.checkpoint"
        ) from None
    # Gray images go through a repetition in front of the network, which has a fixed weight of its own.
    prefix = "1." if any(each.startswith("1.") for each in wanted) and not any(each in found for each in wanted) else ""
    fitting = {each: found.get(each.removeprefix(prefix)) for each in wanted if each.startswith(prefix)}
    wrong = [each for each, value in fitting.items() if value is None or value.shape != wanted[each].shape]
    if wrong:
        raise UserError(
            f"task.published: the weights of `{name}` do not fit images of this kind ({', '.join(wrong[:3])})"
        )
    return {each: value for each, value in fitting.items() if value is not None}

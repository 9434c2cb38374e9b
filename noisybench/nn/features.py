"""What networks compute on the way to their scores: features before the classifier, and outputs of earlier stages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

LAYERS = ("layer1", "layer2", "layer3", "layer4")
"""The stages of torchvision's and timm's residual networks."""


def classifier(network: nn.Module) -> tuple[str, nn.Linear] | None:
    """Name and module of a network's last linear layer; its inputs are the network's features."""
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return found[-1] if found else None


def stages(network: nn.Module) -> list[nn.Module]:
    """Modules whose outputs are a network's features from early to late; empty where they are not known.

    A network names its own in an attribute `stages`; residual networks of torchvision have four.
    """
    own = getattr(network, "stages", None)
    if own:
        return [network.get_submodule(name) for name in own]
    for module in network.modules():
        if all(hasattr(module, name) for name in LAYERS):
            return [module.get_submodule(name) for name in LAYERS]
    return []


def backbone_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers of all but the classifier, by name."""
    found = classifier(network)
    skipped = f"{found[0]}." if found and found[0] else "\0"
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(skipped)}


def pooled(maps: Tensor) -> Tensor:
    """(B, C) means over all places of (B, C, H, W) maps, or over the tokens of a (B, tokens, C) sequence."""
    if maps.dim() == 3:
        return maps.mean(1)
    return maps.flatten(2).mean(2) if maps.dim() > 2 else maps


@contextlib.contextmanager
def captured(
    module: nn.Module, *, inputs: bool, through: Callable[[Tensor], Tensor] | None = None
) -> Iterator[list[Tensor]]:
    """Collect what goes into or comes out of a module while inside.

    Args:
        module: watched.
        inputs: collect its inputs, else its outputs.
        through: makes of an output what is collected, and what whoever called the module is given in its place.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        seen.append(output if through is None else through(output))
        return seen[-1]

    if inputs:
        handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    else:
        handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()

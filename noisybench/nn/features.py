"""Features of networks: inputs of the classifier and outputs of earlier stages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

RESIDUAL_STAGES = ("layer1", "layer2", "layer3", "layer4")
"""Names of the stages of residual networks in torchvision and timm."""


def last_linear(network: nn.Module) -> tuple[str, nn.Linear] | None:
    """Return name and module of the last linear layer of a network, whose inputs are the network's features.

    >>> last_linear(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    ('2', Linear(in_features=3, out_features=2, bias=True))
    """
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


def stages(network: nn.Module) -> list[nn.Module]:
    """Return the modules whose outputs are a network's features, from early to late; empty if they are unknown.

    A network can list their names in an attribute `stages`; residual networks of torchvision and timm have four.

    >>> class Network(nn.Module):
    ...     stages = ("body",)
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)
    >>> stages(Network())
    [Linear(in_features=4, out_features=3, bias=True)]
    """
    names = getattr(network, "stages", None)
    if names:
        return [network.get_submodule(name) for name in names]
    for module in network.modules():
        if all(hasattr(module, name) for name in RESIDUAL_STAGES):
            return [module.get_submodule(name) for name in RESIDUAL_STAGES]
    return []


def backbone_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return all weights and buffers except those of the last linear layer, by name.

    >>> list(backbone_weights(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))))
    ['0.weight', '0.bias']
    """
    last = last_linear(network)
    # A network that is only a linear layer has no backbone; no name starts with a null character.
    skipped = f"{last[0]}." if last and last[0] else "\0"
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(skipped)}


def global_pool(maps: Tensor) -> Tensor:
    """Return (B, C) means over all positions of (B, C, H, W) maps, or over the tokens of a (B, tokens, C) sequence.

    >>> import torch
    >>> global_pool(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3])
    """
    if maps.dim() == 3:
        return maps.mean(1)
    return maps.flatten(2).mean(2) if maps.dim() > 2 else maps


@contextlib.contextmanager
def capture_activations(
    module: nn.Module, *, inputs: bool, transform: Callable[[Tensor], Tensor] | None = None
) -> Iterator[list[Tensor]]:
    """Collect the inputs or outputs of a module inside a ``with`` block.

    Args:
        module: the module.
        inputs: collect its inputs; otherwise its outputs.
        transform: function applied to an output; its result is collected and replaces the output.

    >>> import torch
    >>> layer = nn.Linear(2, 1)
    >>> with capture_activations(layer, inputs=True) as captured:
    ...     _ = layer(torch.zeros(3, 2))
    >>> captured[0].shape
    torch.Size([3, 2])
    """
    captured: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        captured.append(output if transform is None else transform(output))
        return captured[-1]

    if inputs:
        handle = module.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    else:
        handle = module.register_forward_hook(keep)
    try:
        yield captured
    finally:
        # Also after an error: a hook that stays would keep the activations of every later pass in memory.
        handle.remove()

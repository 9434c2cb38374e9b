"""A network in layers that says where its stages end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import nn


class Staged(nn.Sequential):
    """Layers in order, by name. `stages` names those whose outputs are its features, from early to late."""

    stages: tuple[str, ...]

    def __init__(self, layers: Mapping[str, nn.Module], stages: Sequence[str]) -> None:
        super().__init__(OrderedDict(layers))
        self.stages = tuple(stages)

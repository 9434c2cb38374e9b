"""Sequential networks with named stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import nn


class Staged(nn.Sequential):
    """Named layers in order; `stages` names those whose outputs are features, from early to late."""

    stages: tuple[str, ...]

    def __init__(self, layers: Mapping[str, nn.Module], stages: Sequence[str]) -> None:
        super().__init__(OrderedDict(layers))
        self.stages = tuple(stages)

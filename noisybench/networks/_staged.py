"""A network in layers that says where its stages end."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Staged(nn.Sequential):
    """Layers in order. `stages` names those whose outputs are its features, from early to late."""

    stages: tuple[str, ...]

    def __init__(self, layers: Sequence[nn.Module], stages: Sequence[int]) -> None:
        super().__init__(*layers)
        self.stages = tuple(str(each) for each in stages)

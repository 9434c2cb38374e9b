"""Search of nearest neighbors as an auxiliary run, which label sets and seeds share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisybench.nn.neighbors import features_digest, nearest_neighbors
from noisybench.training.auxiliary import AuxiliaryRun

BLOCK = 1024
"""Number of examples whose neighbors are searched between two reports of progress."""


class NeighborSearch(AuxiliaryRun):
    """The nearest neighbors of each point among all others; one block of points after the other.

    Args:
        points: (N, D) rows of unit length.
        count: number of neighbors.
    """

    def __init__(self, points: Tensor, count: int) -> None:
        self._points, self._count = points, count
        self.device, self.examples, self.epochs = points.device, 0, -(-len(points) // BLOCK)
        self.title = f"{count} nearest neighbors · {len(points)} examples"
        self.cache_key = {"kind": "nearest neighbors", "points": features_digest(points), "count": count}
        self._found: list[dict[str, Tensor]] = []

    def train_epoch(self, epoch: int) -> float:
        """Search the neighbors of one block of points; there is no loss."""
        own = torch.arange(epoch * BLOCK, min((epoch + 1) * BLOCK, len(self._points)), device=self.device)
        similarities, neighbors = nearest_neighbors(self._points[own], self._points, self._count, own)
        # Positions take half of the memory and of the file as 32-bit numbers.
        self._found.append({"similarities": similarities.cpu(), "neighbors": neighbors.to("cpu", torch.int32)})
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the blocks so far."""
        return {"found": self._found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the blocks of an interrupted search."""
        self._found = list(state["found"])

    def result(self) -> dict[str, Tensor]:
        """Return (N, K) `similarities` and `neighbors`."""
        return {name: torch.cat([block[name] for block in self._found]) for name in self._found[0]}

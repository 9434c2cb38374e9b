"""Nearest neighbors by cosine similarity, and a classifier that lets them vote."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.utils.files import load_saved, saved_bytes, write_atomically

SIMILARITY_BYTES = 2**28
"""Memory limit for the similarities of the rows that are searched at a time."""


def unit_rows(points: Tensor) -> Tensor:
    """Return (N, D) points divided by their length, as float32; zeros stay zeros.

    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return functional.normalize(points.float(), dim=1)


@torch.no_grad()
def nearest_neighbors(queries: Tensor, points: Tensor, count: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the (M, K) largest cosine similarities of each query, in descending order, and the (M, K) points that have them.

    The search is exact: products of matrices in blocks of queries, in float32.

    Args:
        queries: (M, D) rows of unit length.
        points: (N, D) rows of unit length.
        count: K, at most N, or N - 1 with `own`.
        own: (M,) position of each query among the points, which is not its own neighbor; -1 if it is none of them.

    >>> points = unit_rows(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    >>> nearest_neighbors(points, points, 1, own=torch.arange(3))[1].squeeze(1)
    tensor([1, 0, 1])
    """
    block = max(1, SIMILARITY_BYTES // (4 * max(len(points), 1)))
    if torch.compiler.is_exporting():
        # An exported program has no loop over a number of rows that is not known yet.
        block = len(queries)
    parts = []
    for start in range(0, len(queries), block):
        similarities = queries[start : start + block] @ points.T
        if own is not None:
            position = own[start : start + block]
            rows = torch.nonzero(position >= 0).squeeze(1)
            similarities[rows, position[rows]] = -torch.inf
        parts.append(similarities.topk(count, dim=1))
    if not parts:
        return queries.new_empty(0, count), torch.empty(0, count, dtype=torch.int64, device=queries.device)
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def vote_shares(similarities: Tensor, classes: Tensor, num_classes: int, temperature: float | None = None) -> Tensor:
    """Return the (M, C) shares of the classes among the votes of the neighbors.

    Args:
        similarities: (M, K) similarities, the largest first.
        classes: (M, K) class of each neighbor.
        num_classes: C.
        temperature: a vote counts exp(similarity / temperature); None counts all votes alike.

    >>> classes = torch.tensor([[0, 1, 1]])
    >>> vote_shares(torch.tensor([[0.9, 0.5, 0.5]]), classes, 2)
    tensor([[0.3333, 0.6667]])
    >>> vote_shares(torch.tensor([[0.9, 0.5, 0.5]]), classes, 2, temperature=0.1).round(decimals=2)
    tensor([[0.9600, 0.0400]])
    """
    if temperature is None:
        votes = torch.full_like(similarities, 1 / similarities.shape[1])
    else:
        votes = (similarities / temperature).softmax(1)
    shares = votes.new_zeros(len(votes), num_classes)
    return shares.scatter_add(1, classes, votes)


def vote_scores(shares: Tensor) -> Tensor:
    """Return (M, C) finite scores whose softmax are the shares.

    >>> vote_scores(torch.tensor([[0.25, 0.75, 0.0]])).softmax(1).round(decimals=3)
    tensor([[0.2500, 0.7500, 0.0000]])
    """
    return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()


def features_digest(features: Tensor) -> str:
    """Return a hash of the shape and the values of float32 features.

    >>> features_digest(torch.zeros(2, 3)) == features_digest(torch.zeros(3, 2))
    False
    """
    digest = hashlib.sha256(str(tuple(features.shape)).encode())
    digest.update(features.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


class NeighborClassifier(nn.Linear):
    """Classifier by the votes of the nearest points: a linear layer of unit rows, whose outputs are similarities, and the votes.

    Attributes:
        weight: (N, D) points of unit length.
        targets: (N,) class of each point.
        num_classes: number of outputs C.
        count: number of neighbors that vote.
        temperature: temperature of the votes; None counts all alike.
        folder: folder that keeps the neighbors of queries, which other runs on the same features read; None keeps none.

    >>> layer = NeighborClassifier(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]), 2, count=1)
    >>> layer(torch.tensor([[5.0, 1.0], [1.0, 5.0]])).softmax(1).round(decimals=3)
    tensor([[1., 0.],
            [0., 1.]])
    """

    def __init__(
        self, points: Tensor, targets: Tensor, num_classes: int, count: int, temperature: float | None = None
    ) -> None:
        # On the meta device neither memory nor random numbers are used for weights that are replaced below.
        super().__init__(points.shape[1], len(points), bias=False, device="meta")
        self.weight = nn.Parameter(unit_rows(points), requires_grad=False)
        self.targets: Tensor
        self.register_buffer("targets", targets)
        self.num_classes, self.count, self.temperature = num_classes, count, temperature
        self.folder: Path | None = None
        self._digest = ""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the (B, C) logarithms of the shares of votes, from (B, D) features."""
        # Under autocast the product would be in bfloat16, which does not tell near neighbors apart.
        with torch.autocast(inputs.device.type, enabled=False):
            similarities, neighbors = self._search(unit_rows(inputs))
            return vote_scores(vote_shares(similarities, self.targets[neighbors], self.num_classes, self.temperature))

    def _search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        if self.folder is None:
            return nearest_neighbors(queries, self.weight, self.count)
        self._digest = self._digest or features_digest(self.weight)
        name = hashlib.sha256(f"{self._digest} {features_digest(queries)} {self.count}".encode()).hexdigest()[:20]
        file = self.folder / f"{name}.pt"
        content = load_saved(file, ("similarities", "neighbors"))
        if content is None:
            similarities, neighbors = nearest_neighbors(queries, self.weight, self.count)
            content = {"similarities": similarities.cpu(), "neighbors": neighbors.to("cpu", torch.int32)}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, saved_bytes(content))
        return content["similarities"].to(queries.device), content["neighbors"].to(queries.device, torch.int64)

    def __getstate__(self) -> dict[str, Any]:
        # A copy may be used where the folder does not exist.
        return {**super().__getstate__(), "folder": None}  # type: ignore[no-untyped-call]

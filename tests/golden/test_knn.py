"""Votes of nearest neighbors against the code of Wu et al."""

from __future__ import annotations

import torch

from noisybench.nn.neighbors import NeighborClassifier
from tests.golden.generators.knn import COUNT, TEMPERATURE
from tests.golden.vectors import load_golden


def test_shares_of_votes_are_the_authors() -> None:
    golden = load_golden("knn")
    votes = golden.tensor("votes")
    layer = NeighborClassifier(golden.tensor("points"), golden.tensor("targets"), 5, COUNT, TEMPERATURE)
    # Longer queries are the same queries.
    for scale in (1, 7):
        shares = layer(golden.tensor("queries") * scale).softmax(1)
        torch.testing.assert_close(shares, votes / votes.sum(1, keepdim=True), rtol=0, atol=2e-6)
        assert torch.equal(shares.argmax(1), votes.argmax(1))

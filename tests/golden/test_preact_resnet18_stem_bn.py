"""The network of DivideMix, PLS, LSA and ProMix against the authors' module."""

from __future__ import annotations

import torch

from noisybench.networks import build_network
from tests.golden.formulas import set_weights, waves
from tests.golden.vectors import load_golden


def test_weights_and_scores_are_those_of_the_authors_network() -> None:
    golden = load_golden("preact_resnet18_stem_bn")
    network = set_weights(build_network("preact_resnet18_stem_bn", 10, 3))
    assert sum(weight.numel() for weight in network.parameters()) == int(golden["weights"]) == 11_171_274
    image = waves((1, 3, 32, 32), 1)
    with torch.no_grad():
        # Evaluation first, because a pass in training mode changes the running statistics.
        for mode in ("eval", "train"):
            scores = network.train(mode == "train")(image)
            torch.testing.assert_close(scores, golden.tensor(mode), rtol=0, atol=1e-10)


def test_it_is_not_the_network_of_he_et_al() -> None:
    golden = load_golden("preact_resnet18_stem_bn")
    other = build_network("preact_resnet18", 10, 3)
    assert sum(weight.numel() for weight in other.parameters()) == int(golden["weights"]) + 896

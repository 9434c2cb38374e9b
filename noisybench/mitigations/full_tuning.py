"""Tuning of all weights."""

from __future__ import annotations

from torch import nn

from noisybench.mitigations._heads import Head
from noisybench.nn.frozen import Tuned, fresh_classifier, split_network


class FullTuning(Head):
    """Trains all weights of a pre-trained network, with a fresh classifier."""

    def build_model(self, network: nn.Module) -> nn.Module:
        """The backbone and a fresh classifier."""
        backbone, last = split_network(network)
        return Tuned(
            nn.Sequential(backbone, nn.Flatten()), nn.Identity(), fresh_classifier(last.in_features, last.out_features)
        )

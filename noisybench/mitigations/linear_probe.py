"""Linear probes."""

from __future__ import annotations

from torch import nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._heads import Head
from noisybench.nn.frozen import on_frozen


class LinearProbe(Head):
    """Trains a linear classifier on the frozen features of a pre-trained backbone.

    Its learning rate is ten times the budget's, which is made for heads with hidden layers (Chen et al. 2024).
    """

    rate_times: float = parameter(10.0, gt=0, low=0.1, high=100.0, log=True, help="times the budget's learning rate")

    def build_model(self, network: nn.Module) -> nn.Module:
        """The frozen backbone and a fresh classifier."""
        return on_frozen(network, lambda width: nn.Identity())

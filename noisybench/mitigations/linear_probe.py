"""Linear probing."""

from __future__ import annotations

from torch import nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._probe_heads import HeadBuilder
from noisybench.nn.frozen import with_frozen_backbone


class LinearProbe(HeadBuilder):
    """Train a linear classifier on frozen features of a pre-trained backbone (linear probing).

    The backbone is not trained, so it cannot memorize incorrect labels. The default learning rate is ten times that of
    the budget, which is chosen for heads with hidden layers (Chen et al. 2024).
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared=(
            "no weight of the backbone changes; the classifier has Kaiming-uniform weights and no bias at first; features "
            "that are computed once give the predictions of the whole network"
        ),
        deviations=(
            Deviation(
                "Chen et al. (2024) compute features with the transform of the evaluation; here the budget's augmentation "
                "applies",
                "all heads see the same inputs, so that they are compared with each other",
                "none without augmentation, which is the default",
            ),
        ),
    )

    lr_multiplier: float = parameter(
        10.0, gt=0, low=0.1, high=100.0, log=True, help="Factor applied to the budget's learning rate"
    )

    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the frozen backbone with a new classifier."""
        return with_frozen_backbone(network, lambda width: nn.Identity())

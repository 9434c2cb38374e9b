"""Full fine-tuning."""

from __future__ import annotations

from torch import nn

from noisybench.config.fidelity import Fidelity
from noisybench.mitigations._probe_heads import HeadBuilder
from noisybench.nn.frozen import BackboneWithHead, new_classifier, split_network


class FullFinetuning(HeadBuilder):
    """Fine-tune all weights of a pre-trained network with a new classifier.

    This is the usual transfer learning: the backbone is trained as well, and can memorize incorrect labels.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="the network without its classifier and the new one compute what the network does; every weight is trained",
    )

    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the backbone with a new classifier."""
        backbone, last = split_network(network)
        return BackboneWithHead(
            nn.Sequential(backbone, nn.Flatten()), nn.Identity(), new_classifier(last.in_features, last.out_features)
        )

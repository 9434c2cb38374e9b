"""Deep ensembles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import LossWrapper

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Ensemble(LossWrapper):
    """Train several networks with the rest of the stack, and average their predictions.

    This is the fair baseline for methods with two networks: `ensemble+cross_entropy`, `ensemble+mixup`. The networks
    start from different weights and see the same batches. Mitigations after it in the stack act on each network
    separately, mitigations before it act once for all: in `ensemble+mixup`, every network has its own mixup.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="there is no public reference; the tests hold each network to the weights that it has when it is "
        "trained alone, and the prediction to the mean of the probabilities",
        deviations=(
            Deviation(
                "all networks see the same batches in the same order; those of Lakshminarayanan et al. 2017 are "
                "shuffled independently",
                "one data stream for a run",
                "the diversity of the networks",
            ),
        ),
    )

    num_networks: int = parameter(2, ge=2, le=16, help="Number of networks")

    @property
    def requirements(self) -> Requirements:
        """Several networks that are deployed together."""
        return Requirements(networks=self.num_networks, ensemble="probabilities", trains_copies=True)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the sum of the losses of all networks; no network gets a gradient from another one's loss."""
        total = None
        for number in range(self.num_networks):
            task.active_network = number
            loss = inner_loss(batch)
            # A sum rather than a mean: each network gets the same gradient as if it were trained alone.
            total = loss if total is None else total + loss
        task.active_network = 0
        assert total is not None
        return total

"""Oracle pruning."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor, nn

from noisybench.config.fidelity import Fidelity
from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.mitigations._pruning import Pruning
from noisybench.training.mitigation import Requirements
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class OraclePruning(Pruning):
    """Leave out exactly the mislabeled examples.

    This is the upper bound of pruning: it knows the true status of every label, which is privileged information.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="it is an upper bound without reference; the tests hold that exactly the mislabeled examples are "
        "left out",
    )

    @property
    def requirements(self) -> Requirements:
        """The status of every label, which is privileged."""
        return dataclasses.replace(super().requirements, privileged=("label_status",))

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that a correctly labeled example of every class is left."""
        return self.check_kept(self._correct(), training_set)

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for correctly labeled examples."""
        return self._correct()

    def _correct(self) -> Tensor:
        status = self.privileged.label_status
        mislabeled: Tensor = (status == IN_DISTRIBUTION) | (status == OUT_OF_DISTRIBUTION)
        return ~mislabeled

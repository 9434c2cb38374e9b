"""Oracle pruning."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.mitigations._pruning import Pruning
from noisybench.training.mitigation import Requirements
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class OraclePruning(Pruning):
    """Leave out exactly the mislabeled examples (privileged upper bound of pruning)."""

    @property
    def requirements(self) -> Requirements:
        """The status of every label, which is privileged."""
        return dataclasses.replace(super().requirements, privileged=("label_status",))

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for correctly labeled examples."""
        status = self.privileged.label_status
        mislabeled: Tensor = (status == IN_DISTRIBUTION) | (status == OUT_OF_DISTRIBUTION)
        return ~mislabeled

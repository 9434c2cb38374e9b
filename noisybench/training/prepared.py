"""A run that is ready to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.training.auxiliary import AuxiliaryCost
from noisybench.training.stack import Stack


@dataclass
class PreparedRun:
    """A run that has passed all checks, with everything that it needs in memory.

    Attributes:
        spec: complete specification of the run.
        dataset: dataset with the label set applied.
        labels: label set.
        stack: mitigations, with the privileged information that they declare.
        auxiliary_costs: costs of the auxiliary runs that the noise model needs.
    """

    spec: RunSpec
    dataset: Dataset
    labels: LabelSet
    stack: Stack
    auxiliary_costs: Sequence[AuxiliaryCost] = ()

    @property
    def privileged(self) -> tuple[str, ...]:
        """Privileged information that the stack reads, or that selected its parameters."""
        provenance = self.spec.provenance
        # Parameters that were selected with privileged information depend on it, even if the stack reads none.
        searched = provenance.privileged if provenance else ()
        return tuple(sorted({*self.stack.requirements.privileged, *self.spec.preset_privileged, *searched}))

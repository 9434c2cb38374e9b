"""How a stack's parameters were chosen."""

from __future__ import annotations

from typing import Literal

from noisybench.config.parameters import parameter
from noisybench.training.mitigation import Mitigation


class Tuned(Mitigation):
    """Says that a search has chosen the stack's parameters, and by what; changes nothing in training.

    `noisybench search` puts it behind the configurations that it trains anew, so that nobody takes a tuned stack for
    one with its defaults, nor one that clean validation labels have chosen for one that never saw any.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    distributed_state = {}

    trials: int = parameter(20, ge=1, help="configurations that were tried", always_in_label=True)
    validation: Literal["noisy", "clean"] = parameter(
        "noisy", help="labels of the validation split that chose among them; clean ones are knowledge"
    )

    @property
    def privileged(self) -> tuple[str, ...]:
        """Clean validation labels, where they chose."""
        return ("clean_validation",) if self.validation == "clean" else ()

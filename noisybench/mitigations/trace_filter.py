"""Filters of traces."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from noisybench.errors import UserError
from noisybench.labels import IN_DISTRIBUTION
from noisybench.mitigation import Mitigation
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.task import Task
from noisybench.traces import decode, score
from noisybench.training_set import TrainingSet


class TraceFilter(Mitigation):
    """Trains on some traces alone, chosen by running their programs again; an epoch keeps its number of steps.

    `replay` drops traces with a step that does not follow from the prompt and the steps before; `answer` those with a wrong
    answer alone; `oracle` all that differ from the clean ones, which is knowledge; `random` as many as `replay` does, but
    any: what filtering costs in data.
    """

    tasks = ("chain_of_thought",)

    by: Literal["replay", "answer", "oracle", "random"] = parameter("replay", help="what is dropped", shown=True)

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Every filter."""
        return {"by": "replay"}, {"by": "answer"}, {"by": "oracle"}, {"by": "random"}

    @property
    def knowledge(self) -> tuple[str, ...]:
        """Which tokens are wrong, for the oracle."""
        return ("noise_states",) if self.by == "oracle" else ()

    def select(self, task: Task, training_set: TrainingSet) -> Tensor:
        """One for what is kept.

        Raises:
            UserError: nothing is left.
        """
        kept = self._kept(task, training_set)
        if not bool(kept.any()):
            raise UserError(
                f"mitigations.trace_filter: by={self.by} leaves none of {len(kept)} traces; choose another filter"
            )
        return kept.float()

    def _kept(self, task: Task, training_set: TrainingSet) -> Tensor:
        if self.by == "oracle":
            right: Tensor = ~(self.known.noise_states == IN_DISTRIBUTION).any(1)
            return right
        prompts, responses = training_set.inputs[:].cpu().numpy()[:, 0, 0], training_set.targets.cpu().numpy()
        scores = [score(prompt, decode(response)) for prompt, response in zip(prompts, responses, strict=True)]
        if self.by == "answer":
            return torch.tensor([each.right for each in scores])
        replayed = np.array([each.right_steps == each.steps for each in scores])
        if self.by == "random":
            replayed = replayed[Stream("trace filter", task.seed).permutation(len(replayed))]
        return torch.from_numpy(replayed)

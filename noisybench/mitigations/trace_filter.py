"""Filters of traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION
from noisybench.errors import UserError
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, SampleSelector
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class TraceFilter(SampleSelector, DetectorProvider):
    """Trains on some traces alone, chosen by running their programs again; an epoch keeps its number of steps.

    `replay` drops traces with a step that does not follow from the prompt and the steps before; `answer` those with a wrong
    answer alone, where a program tells it; `oracle` all that differ from the clean ones, which is knowledge; `random` as many
    as `replay` does, but any: what filtering costs in data. Traces that were cut are never kept.
    """

    tasks = ("chain_of_thought",)

    by: Literal["replay", "answer", "oracle", "random"] = parameter(
        "replay", help="what is dropped", always_in_label=True
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Every filter."""
        return {"by": "replay"}, {"by": "answer"}, {"by": "oracle"}, {"by": "random"}

    @property
    def requirements(self) -> Requirements:
        """The status of every token, for the oracle."""
        return Requirements(privileged=("label_status",) if self.by == "oracle" else ())

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Execute every trace again.

        Raises:
            UserError: executing does not tell what the filter needs.
        """
        form = training_set.traces
        assert form is not None
        prompts, responses = (
            form.decode(each.cpu().numpy()) for each in (training_set.inputs[:][:, 0, 0], training_set.targets)
        )
        judged = [form.check(*pair) for pair in zip(prompts, responses, strict=True)]
        if self.by == "answer" and any(each.answer_is_correct is None for each in judged):
            raise UserError(
                "mitigations.trace_filter: by=answer needs a program that tells the right answer, and word problems have none; "
                "use by=replay"
            )
        self.state["wrong_steps"] = torch.tensor([1 - each.num_correct_steps / len(each.steps) for each in judged])
        self.state["wrong_answer"] = torch.tensor([not each.answer_is_correct for each in judged])

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """One for what is kept.

        Raises:
            UserError: nothing is left.
        """
        kept = self._kept(task) & (training_set.targets != IGNORED).any(1)
        if not bool(kept.any()):
            raise UserError(
                f"mitigations.trace_filter: by={self.by} leaves none of {len(kept)} traces; choose another filter"
            )
        return kept.float()

    def _kept(self, task: Learner) -> Tensor:
        if self.by == "oracle":
            right: Tensor = ~(self.privileged.label_status == IN_DISTRIBUTION).any(1)
            return right.to(self.state["wrong_steps"].device)
        if self.by == "answer":
            return ~self.state["wrong_answer"]
        replayed = self.state["wrong_steps"] == 0
        if self.by == "random":
            replayed = replayed[torch.from_numpy(Stream("trace filter", task.seed).permutation(len(replayed)))]
        return replayed

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Share of wrong steps, or the wrong answer, where it judges traces by executing them."""
        if self.by == "oracle" or self.by == "random":
            return {}
        score = self.state["wrong_answer"].float() if self.by == "answer" else self.state["wrong_steps"]
        return {f"trace_filter_{self.by}": Detector(score, score > 0)}

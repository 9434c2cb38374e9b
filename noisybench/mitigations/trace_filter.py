"""Filters of reasoning traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED, IN_DISTRIBUTION
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector, DetectorProvider, SampleSelector
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noisybench.data.traces.formats import TraceCheck
    from noisybench.training.learner import Learner


class TraceFilter(SampleSelector, DetectorProvider):
    """Train only on traces that pass a filter, such as the execution of their steps.

    An epoch keeps its number of steps, however many traces are dropped. `execution` drops traces with a step that does
    not follow from the prompt and the previous steps; `answer` drops those with an incorrect answer, if a program
    computes the correct one or a field of the data has it; `oracle` drops all that differ from the clean traces, which
    is privileged information; `random` keeps as many traces as `execution`, but a random subset: the effect of data
    loss alone. Truncated traces are never kept.
    """

    tasks = ("chain_of_thought",)

    fidelity = Fidelity(
        reference="",
        commit="",
        compared=(
            "each filter keeps exactly the traces that its definition names: clean traces pass `execution`, correct answers "
            "pass `answer`, unchanged traces pass `oracle`, and `random` keeps as many as `execution`"
        ),
        deviations=(
            Deviation(
                "Havrilla and Iyer (2024) advise to filter traces with global errors, and publish no filter",
                "re-execution finds exactly the errors that a program can reveal",
                "not measurable",
            ),
        ),
    )

    by: Literal["execution", "answer", "oracle", "random"] = parameter(
        "execution", help="Criterion by which traces are dropped", always_in_label=True
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return every filter."""
        return {"by": "execution"}, {"by": "answer"}, {"by": "oracle"}, {"by": "random"}

    @property
    def requirements(self) -> Requirements:
        """The status of every token, for the oracle."""
        return Requirements(privileged=("label_status",) if self.by == "oracle" else ())

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that the program can check answers if they are the criterion, and that a trace is kept."""
        checks = self._check_traces(training_set)
        if self.by == "answer" and any(check.answer_is_correct is None for check in checks):
            return [
                "by=answer needs a program that computes the correct answer, or a field of the data that has it "
                "(dataset.answer_field); use by=execution"
            ]
        self._set_state(checks)
        if bool((self._kept(seed) & (training_set.targets != IGNORED).any(1)).any()):
            return []
        return [f"by={self.by} keeps none of {len(training_set)} traces; choose another filter"]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Execute every trace."""
        self._set_state(self._check_traces(training_set))

    def _set_state(self, checks: Sequence[TraceCheck]) -> None:
        self.state["wrong_steps"] = torch.tensor([1 - check.num_correct_steps / len(check.steps) for check in checks])
        self.state["wrong_answer"] = torch.tensor([not check.answer_is_correct for check in checks])

    @staticmethod
    def _check_traces(training_set: TrainingSet) -> list[TraceCheck]:
        """Return the result of executing every trace."""
        trace_format = training_set.traces
        assert trace_format is not None
        prompts, responses = (
            trace_format.decode(texts.cpu().numpy())
            for texts in (training_set.inputs[:][:, 0, 0], training_set.targets)
        )
        return [trace_format.check(*pair) for pair in zip(prompts, responses, strict=True)]

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return weight one for traces that are kept."""
        return (self._kept(task.seed) & (training_set.targets != IGNORED).any(1)).float()

    def _kept(self, seed: int) -> Tensor:
        if self.by == "oracle":
            correct: Tensor = ~(self.privileged.label_status == IN_DISTRIBUTION).any(1)
            return correct.to(self.state["wrong_steps"].device)
        if self.by == "answer":
            return ~self.state["wrong_answer"]
        executable = self.state["wrong_steps"] == 0
        if self.by == "random":
            # A permutation of the flags keeps exactly as many traces as `execution`.
            executable = executable[torch.from_numpy(Stream("trace filter", seed).permutation(len(executable)))]
        return executable

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the fraction of incorrect steps, or the incorrect answers, if traces are filtered by them."""
        if self.by in ("oracle", "random"):
            return {}
        score = self.state["wrong_answer"].float() if self.by == "answer" else self.state["wrong_steps"]
        return {f"trace_filter_{self.by}": Detector(score, score > 0)}

"""Self-consistency decoding."""

from __future__ import annotations

from collections import Counter
from typing import Any

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Decoder


class SelfConsistency(Decoder):
    """Sample several responses and return one with the most frequent answer (self-consistency).

    Training is unchanged (Wang et al. 2023). Responses without a readable answer do not vote; among equally frequent
    answers, the first sampled one wins. The score on test and validation problems is that of the vote. The cost of
    generation grows with the number of responses.
    """

    tasks = ("chain_of_thought",)

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="the returned response has the most frequent readable answer; of equally frequent ones, the first sampled",
        deviations=(
            Deviation(
                "Wang et al. (2023) sample 40 responses; here 5 by default",
                "the cost grows with the number, and most of the gain comes with the first ones",
                "depends on the model; set responses=40 for the paper's setting",
            ),
        ),
    )

    responses: int = parameter(5, ge=2, low=3, high=40, help="Number of responses sampled for each prompt")
    temperature: float = parameter(0.7, gt=0, low=0.3, high=1.0, help="Sampling temperature")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return three responses."""
        return ({"responses": 3},)

    @property
    def requirements(self) -> Requirements:
        """The same training as without it."""
        return Requirements(keeps_weights="it changes decoding only")

    def decode(self, task: Any, inputs: Any, length: int) -> list[str]:
        """Return the first response with the most frequent answer for each prompt."""
        trace_format = task.training_set.traces
        samples = [task.write(inputs, length, self.temperature, draw) for draw in range(1, self.responses + 1)]
        winners = []
        for responses in zip(*samples, strict=True):
            answers = [trace_format.extract_answer(response) for response in responses]
            votes = Counter(answer for answer in answers if answer is not None)
            # Equal counts are in order of insertion, so the first sampled answer wins a tie.
            winner = votes.most_common(1)[0][0] if votes else None
            winners.append(responses[answers.index(winner)])
        return winners

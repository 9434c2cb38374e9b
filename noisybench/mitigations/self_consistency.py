"""Self-consistency."""

from __future__ import annotations

from collections import Counter
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.training.roles import Decoder


class SelfConsistency(Decoder):
    """Writes several responses by sampling, and takes one with the most frequent answer (Wang et al. 2023).

    Training is as without it. Answers that cannot be read do not vote; of equally frequent ones the first drawn wins. The
    score of test and validation problems is then that of the vote; the cost of writing grows with the number of responses.
    """

    tasks = ("chain_of_thought",)

    responses: int = parameter(5, ge=2, low=3, high=40, help="written for each prompt")
    temperature: float = parameter(0.7, gt=0, low=0.3, high=1.0, help="at which they are sampled")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Three responses."""
        return ({"responses": 3},)

    def decode(self, task: Any, inputs: Any, length: int) -> list[str] | None:
        """The first response with the answer that most responses have."""
        form = task.training_set.traces
        drawn = [task.write(inputs, length, self.temperature, draw) for draw in range(1, self.responses + 1)]
        found = []
        for responses in zip(*drawn, strict=True):
            answers = [form.extract_answer(each) for each in responses]
            votes = Counter(each for each in answers if each is not None)
            winner = votes.most_common(1)[0][0] if votes else None
            found.append(responses[answers.index(winner)])
        return found

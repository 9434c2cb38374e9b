"""Chains of thought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from noisybench.tasks._trace_judge import TraceJudge
from torch import Tensor, nn

from noisybench.dataset import IGNORED, Dataset
from noisybench.networks import build_network
from noisybench.seeds import torch_seed
from noisybench.spec import Budget, RunSpec
from noisybench.stack import Stack
from noisybench.task import Task
from noisybench.traces import END
from noisybench.training_set import Batch, Planned, TrainingSet, cross_entropy

PORTION = 256
"""Traces that are evaluated at a time."""


class ChainOfThought(Task):
    """Language modelling of execution traces from scratch, after Havrilla and Iyer 2024: a decoder learns to write them.

    A prompt is given, and the response is learned token by token; loss is on the response and its end alone. The stack's
    mitigations see every token of a response as an example of its own. The score is the exact match of the answer that is
    decoded greedily for clean test problems. The record has besides: exact match when sampled at temperature 1 (at the
    end), share of responses without a readable answer, share of the written steps that follow from the steps
    before, mean length, and the loss on right and on wrong training tokens.
    """

    judge = TraceJudge

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        self._said: tuple[Tensor, Tensor] | None = None

    @classmethod
    def example_input(cls, dataset: Dataset) -> Tensor:
        """Tokens of a whole trace."""
        length = dataset.train.inputs.shape[3] + dataset.train.targets.shape[1] - 1
        return torch.zeros(1, length, dtype=torch.long)

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """The data are traces, and nothing augments them."""
        problems = []
        if dataset.train.targets.ndim != 2:
            problems.append(f"dataset: {dataset.name} has no traces; choose another task or dataset")
        if spec.budget.augmentation != "none":
            problems.append("budget.augmentation: traces are not augmented; set it to none")
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module) -> list[str]:
        """It writes tokens, and a whole trace fits."""
        if not hasattr(network, "context"):
            return [f"budget.network: `{spec.budget.network}` writes no tokens; take one such as decoder:64x2"]
        return []

    def build_network(self) -> nn.Module:
        """A network for the vocabulary."""
        return build_network(self.budget.network, self.training_set.num_classes, 1)

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt."""
        return int(self.training_set.inputs.shape[3])

    def logits(self, inputs: Tensor, network: int | None = None) -> Tensor:
        """(B T, V) scores of every response token, for (B, L) tokens of prompts and responses but the last."""
        found: Tensor = self.forwards[self.active if network is None else network](inputs)
        return found[:, self.prompt_length - 1 :].flatten(0, 1)

    def plain_objective(self, batch: Batch) -> Tensor:
        """Cross-entropy of the first network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def normalise(self, images: Tensor) -> Tensor:
        """Tokens on the training device."""
        return images.to(self.device)

    def tokens(self, prompts: Any, responses: Tensor) -> Tensor:
        """(B, P + T - 1) tokens that a network reads to give every token of the responses its score."""
        given = torch.as_tensor(prompts[:, 0, 0]).to(self.device).long()
        shown = responses[:, :-1].to(self.device).long()
        return torch.cat([given, shown.masked_fill(shown == IGNORED, END)], 1)

    def batches(self, steps: Sequence[Planned]) -> Iterator[Batch]:
        """Tokens with the places of every response token."""
        data = self.training_set
        length = data.targets.shape[1]
        own = torch.arange(length, device=self.device)
        for step in steps:
            responses = used(data.targets[step.index])
            labels = responses.flatten().long()
            valid = labels != IGNORED
            index = (step.index[:, None] * length + own[: responses.shape[1]]).flatten()
            views = {"weak": self.tokens(data.inputs[step.index.to(data.inputs.device)], responses)}
            yield Batch(views, labels.masked_fill(~valid, 0), index, data.num_classes, part=step.part, valid=valid)

    @torch.no_grad()
    def token_probabilities(self, prompts: Any, responses: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(B, L, V) probabilities of the deployed prediction for response tokens, given those before, by portions.

        L is the length of the longest response of a portion.
        """
        training = self.networks.training
        self.networks.eval()
        for start in range(0, len(responses), PORTION):
            place = slice(start, start + PORTION)
            inputs = self.tokens(prompts[place], used(responses[place]))
            found = [self.logits(inputs, each).float().softmax(1) for each in self.deployed]
            yield place, torch.stack(found).mean(0).view(len(inputs), -1, found[0].shape[1])
        self.networks.train(training)

    @torch.no_grad()
    def generate(self, prompts: Any, length: int, temperature: float = 0.0) -> Tensor:
        """(N, length) uint8 responses, `IGNORED` after their end, written token by token with a cache.

        Args:
            prompts: (N, 1, 1, P) tokens.
            length: greatest number of tokens.
            temperature: 0 takes the most likely token; else tokens are drawn, by a stream of their own.
        """
        training, network = self.networks.training, self.networks[0]
        self.networks.eval()
        generator = torch.Generator(self.device).manual_seed(torch_seed("generation", self.seed))
        found = torch.full((len(prompts), length), IGNORED, dtype=torch.uint8)
        for start in range(0, len(prompts), PORTION):
            given = torch.as_tensor(prompts[start : start + PORTION, 0, 0]).to(self.device).long()
            cache: list[Any] = []
            scores = network(given, cache)[:, -1]
            open_rows = torch.ones(len(given), dtype=torch.bool, device=self.device)
            for place in range(length):
                if temperature:
                    chosen = torch.multinomial((scores.float() / temperature).softmax(1), 1, generator=generator)[:, 0]
                else:
                    chosen = scores.argmax(1)
                written = torch.where(open_rows, chosen, torch.full_like(chosen, IGNORED))
                found[start : start + len(given), place] = written.to(torch.uint8).cpu()
                open_rows &= chosen != END
                if place + 1 == length or not bool(open_rows.any()):
                    break
                scores = network(chosen[:, None], cache)[:, -1]
        self.networks.train(training)
        return found

    def networks_changed(self) -> None:
        """Forget what was said with earlier weights."""
        super().networks_changed()
        self._said = None

    def training_predictions(self) -> Tensor:
        """(N, T) uint8 most likely tokens, each given the observed ones before it."""
        return self._training_pass()[0]

    def training_belief(self) -> Tensor:
        """(N, T) float16 probabilities of the observed tokens; 0 after the end."""
        return self._training_pass()[1]

    def _training_pass(self) -> tuple[Tensor, Tensor]:
        if self._said is None:
            data = self.training_set
            targets = data.targets
            predicted, belief = (
                torch.zeros_like(targets),
                torch.zeros(targets.shape, dtype=torch.float16, device=targets.device),
            )
            for place, found in self.token_probabilities(data.inputs, targets):
                length = found.shape[1]
                labels = targets[place, :length].long()
                known = labels != IGNORED
                chosen = found.gather(2, labels.masked_fill(~known, 0)[..., None]).squeeze(2)
                predicted[place, :length] = found.argmax(2).to(torch.uint8)
                belief[place, :length] = chosen.masked_fill(~known, 0).half()
            self._said = predicted, belief
        return self._said


def used(responses: Tensor) -> Tensor:
    """(B, T) responses without the columns after the longest one."""
    columns = (responses != IGNORED).any(0).nonzero()
    return responses[:, : int(columns[-1]) + 1] if len(columns) else responses[:, :1]

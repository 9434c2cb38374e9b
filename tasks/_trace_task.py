"""What the tasks that write traces have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.spec import Budget, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.networks import build_network
from noisybench.tasks._tokenizers import IGNORE_INDEX, TokenBatch, Tokenizer, TokenProbabilities, build_tokenizer
from noisybench.tasks._trace_evaluator import TraceEvaluator
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import torch_seed

PORTION = 256
"""Traces that are evaluated at a time."""


class TraceTask(Task):
    """Language modelling of traces: what a network reads, its loss, and what it writes."""

    evaluator = TraceEvaluator

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        assert training_set.traces is not None
        self.tokenizer: Tokenizer = build_tokenizer(training_set.traces, self.networks[0])

    @classmethod
    def example_input(cls, dataset: Dataset) -> None:
        """Whoever writes tokens takes all."""

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """The data are traces, and nothing augments them."""
        problems = []
        if dataset.trace_format is None:
            problems.append(f"dataset: {dataset.name} has no traces; choose another task or dataset")
        if spec.budget.augmentation != "none":
            problems.append("budget.augmentation: traces are not augmented; set it to none")
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """It writes tokens, and a whole trace fits."""
        if not hasattr(network, "context_length"):
            return [f"budget.network: `{spec.budget.network}` writes no tokens; take one such as decoder:64x2"]
        assert dataset.trace_format is not None
        needed = build_tokenizer(dataset.trace_format, network).max_length(dataset)
        if needed > network.context_length:
            return [
                f"budget.network: the longest trace needs a context of {needed} tokens with its prompt, but "
                f"`{spec.budget.network}` has {network.context_length}; take one such as decoder:64x2x{needed}, or shorter traces"
            ]
        return []

    def build_network(self) -> nn.Module:
        """A network for the vocabulary."""
        return build_network(self.budget.network, self.training_set.num_classes, 1)

    def logits(self, inputs: TokenBatch, network: int | None = None) -> Tensor:
        """(B T, V) scores of every response token."""
        found = self._forward(self.forwards[self.active_network if network is None else network], inputs)
        return found[:, inputs.prompt_length - 1 :].flatten(0, 1)

    @staticmethod
    def _forward(network: Any, inputs: TokenBatch, cache: Any = None) -> Tensor:
        scores: Tensor = network(
            inputs.tokens, first_position=inputs.first_position, has_padding=inputs.has_padding, cache=cache
        )
        return scores

    def default_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the first network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def normalize(self, images: Tensor) -> Tensor:
        """Tokens on the training device."""
        return images.to(self.device)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """What is read, with the places of every token in the responses."""
        data = self.training_set
        length = data.targets.shape[1]
        for step in steps:
            labels, places = self.tokenizer.encode_responses(used(data.targets[step.index]))
            prompts = self._prompts(data.inputs[step.index.to(data.inputs.device)])
            observed = labels.flatten()
            valid = observed != IGNORE_INDEX
            yield Batch(
                {"weak": self.tokenizer.batch(prompts, labels)},
                observed.clamp_min(0),
                (step.index[:, None] * length + places).flatten(),
                self.tokenizer.vocabulary_size,
                phase=step.phase,
                has_label=valid,
            )

    def _prompts(self, inputs: Any) -> Tensor:
        """(B, P) characters on the training device."""
        return torch.as_tensor(inputs[:, 0, 0]).to(self.device)

    @torch.no_grad()
    def token_probabilities(self, inputs: Any, responses: Tensor) -> Iterator[TokenProbabilities]:
        """What the deployed prediction says of responses, each token given those before it, by portions."""
        training = self.networks.training
        self.networks.eval()
        for start in range(0, len(responses), PORTION):
            place = slice(start, start + PORTION)
            characters = used(responses[place]).to(self.device)
            labels, places = self.tokenizer.encode_responses(characters)
            reading = self.tokenizer.batch(self._prompts(inputs[place]), labels)
            scores = [self.logits(reading, each).float().softmax(1) for each in self.deployed_networks]
            probabilities = torch.stack(scores).mean(0).view(*labels.shape, -1)
            own = (
                probabilities.gather(2, labels.clamp_min(0)[..., None])
                .squeeze(2)
                .masked_fill(labels == IGNORE_INDEX, 0)
            )
            yield TokenProbabilities(place, characters, labels, places, own, probabilities.argmax(2))
        self.networks.train(training)

    def write(self, inputs: Any, length: int, temperature: float = 0.0, draw: int = 0) -> list[str]:
        """Responses to (N, 1, 1, P) prompts, written token by token.

        Args:
            inputs: prompts.
            length: greatest number of tokens.
            temperature: 0 takes the most likely token; else tokens are drawn, by a stream of their own.
            draw: number of the stream.
        """
        return [
            text
            for start in range(0, len(inputs), PORTION)
            for text in self.tokenizer.decode(
                self._generated(inputs[start : start + PORTION], length, temperature, (start, draw))
            )
        ]

    @torch.no_grad()
    def _generated(self, inputs: Any, length: int, temperature: float, names: tuple[int, int]) -> Tensor:
        """(N, length) tokens, `IGNORE_INDEX` after their end; keys and values of earlier tokens are kept."""
        training = self.networks.training
        network: Any = self.networks[0]
        self.networks.eval()
        generator = torch.Generator(self.device).manual_seed(torch_seed("generation", self.seed, *names))
        reading, cache = self.tokenizer.batch(self._prompts(inputs)), network.new_cache()
        length = min(length, network.context_length - reading.tokens.shape[1] - reading.first_position + 1)
        found = torch.full((len(inputs), length), IGNORE_INDEX, device=self.device)
        going = torch.ones(len(inputs), dtype=torch.bool, device=self.device)
        for place in range(length):
            scores = self._forward(network, reading, cache)[:, -1].float()
            if temperature:
                chosen = torch.multinomial((scores / temperature).softmax(1), 1, generator=generator)[:, 0]
            else:
                chosen = scores.argmax(1)
            found[:, place] = chosen.masked_fill(~going, IGNORE_INDEX)
            going &= chosen != self.tokenizer.end_token
            if not bool(going.any()):
                break
            reading = TokenBatch(chosen[:, None], 0, reading.first_position, reading.has_padding)
        self.networks.train(training)
        return found

    def training_predictions(self) -> Tensor:
        """(N, T) uint8 most likely characters, each given the observed ones before it; where a token is wrong, none."""
        return self._training_pass()[0]

    def training_label_quality(self) -> Tensor:
        """(N, T) float16 probabilities of the observed tokens; 0 after the end."""
        return self._training_pass()[1]

    def _training_pass(self) -> tuple[Tensor, Tensor]:
        if "training_pass" not in self.cache:
            data = self.training_set
            predicted = torch.full_like(data.targets, IGNORED)
            belief = torch.zeros(data.targets.shape, dtype=torch.float16, device=data.targets.device)
            for said in self.token_probabilities(data.inputs, data.targets):
                width, shown = said.characters.shape[1], said.characters != IGNORED
                own = self.tokenizer.expand_to_characters(said.probabilities, said.characters, said.starts)
                belief[said.rows, :width] = own.masked_fill(~shown, 0).half()
                predicted[said.rows, :width] = self.tokenizer.predicted_characters(said).masked_fill(~shown, IGNORED)
            self.cache["training_pass"] = predicted, belief
        training_pass: tuple[Tensor, Tensor] = self.cache["training_pass"]
        return training_pass


def used(responses: Tensor) -> Tensor:
    """(B, T) responses without the columns after the longest one."""
    columns = (responses != IGNORED).any(0).nonzero()
    return responses[:, : int(columns[-1]) + 1] if len(columns) else responses[:, :1]

"""Shared parts of the tasks that generate traces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.networks import build_network
from noisybench.tasks._dense import DenseTask
from noisybench.tasks._tokenizers import IGNORE_INDEX, TokenBatch, Tokenizer, TokenProbabilities, build_tokenizer
from noisybench.tasks._trace_evaluator import TraceEvaluator
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.roles import Decoder
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import torch_seed

EVAL_BATCH_SIZE = 256
"""Number of traces that are evaluated at a time."""


class TraceTask(DenseTask):
    """Base class of tasks that model traces as language: batches of tokens, loss, probabilities and generation."""

    evaluator = TraceEvaluator

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        assert training_set.traces is not None
        self.tokenizer: Tokenizer = build_tokenizer(training_set.traces, self.networks[0])

    @classmethod
    def example_input(cls, dataset: Dataset) -> None:
        """Return None: `check_network` covers it."""

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return problems if the dataset has no traces, or if the budget augments them."""
        problems = []
        if dataset.trace_format is None:
            problems.append(f"dataset: {dataset.name} has no traces; choose another task or dataset")
        if spec.budget.augmentation != "none":
            problems.append("budget.augmentation: traces cannot be augmented; set it to none")
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """Return a problem if the network does not generate tokens, or if its context is too short for the traces."""
        if not hasattr(network, "context_length"):
            return [
                f"budget.network: `{spec.budget.network}` does not generate tokens; choose a decoder such as decoder:64x2"
            ]
        assert dataset.trace_format is not None
        required = build_tokenizer(dataset.trace_format, network).max_length(dataset)
        if required > network.context_length:
            return [
                f"budget.network: the longest trace with its prompt needs a context of {required} tokens, but "
                f"`{spec.budget.network}` has {network.context_length}; choose a network such as "
                f"decoder:64x2x{required}, or shorter traces"
            ]
        return []

    def build_network(self) -> nn.Module:
        """Return a network for the vocabulary."""
        return build_network(self.budget.network, self.training_set.num_classes, 1)

    def logits(self, inputs: TokenBatch, network: int | None = None) -> Tensor:
        """Return the (B T, V) scores of every response token."""
        scores = self._forward(self.forwards[self.active_network if network is None else network], inputs)
        # The scores at a position are those of the next token, so the last token of the prompt predicts the first one.
        return scores[:, inputs.prompt_length - 1 :].flatten(0, 1)

    @staticmethod
    def _forward(network: Any, inputs: TokenBatch, cache: Any = None) -> Tensor:
        scores: Tensor = network(
            inputs.tokens, first_position=inputs.first_position, has_padding=inputs.has_padding, cache=cache
        )
        return scores

    def default_loss(self, batch: Batch) -> Tensor:
        """Return the (B T,) cross-entropy of the active network."""
        return cross_entropy(self.logits(batch.inputs), batch)

    def normalize(self, images: Tensor) -> Tensor:
        """Return tokens on the training device."""
        return images.to(self.device)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Yield batches of tokens, with the position of the first character of each token in the training set."""
        data = self.training_set
        length = data.targets.shape[1]
        for step in steps:
            # Columns after the longest response of this batch would only cost time in attention.
            labels, starts = self.tokenizer.encode_responses(trim(data.targets[step.index]))
            prompts = self._prompts(data.inputs[step.index.to(data.inputs.device)])
            observed = labels.flatten()
            yield Batch(
                {"weak": self.tokenizer.batch(prompts, labels)},
                # Padding needs a valid class for the loss kernel; `has_label` excludes it afterward.
                observed.clamp_min(0),
                # (B T,) positions of characters rather than of tokens, so that the state that mitigations keep per
                # label has the shape of the targets under any tokenizer.
                # Padding has the index of the first character, since it must have one.
                (step.index[:, None] * length + starts.masked_fill(labels == IGNORE_INDEX, 0)).flatten(),
                self.tokenizer.vocabulary_size,
                phase=step.phase,
                has_label=observed != IGNORE_INDEX,
            )

    def _prompts(self, inputs: Any) -> Tensor:
        """Return the (B, P) characters of (B, 1, 1, P) prompts on the training device."""
        return torch.as_tensor(inputs[:, 0, 0]).to(self.device)

    @torch.no_grad()
    def token_probabilities(self, inputs: Any, responses: Tensor) -> Iterator[TokenProbabilities]:
        """Yield the probabilities of the deployed prediction for responses, each token given those before it.

        Args:
            inputs: (N, 1, 1, P) prompts.
            responses: (N, T) characters.
        """
        training = self.networks.training
        self.networks.eval()
        for start in range(0, len(responses), EVAL_BATCH_SIZE):
            rows = slice(start, start + EVAL_BATCH_SIZE)
            characters = trim(responses[rows]).to(self.device)
            labels, starts = self.tokenizer.encode_responses(characters)
            batch = self.tokenizer.batch(self._prompts(inputs[rows]), labels)
            by_network = [self.logits(batch, number) for number in self.stack.deployed_networks]
            by_token = self.stack.combine(by_network).view(*labels.shape, -1)  # (B, T, V)
            of_labels = by_token.gather(2, labels.clamp_min(0)[..., None]).squeeze(2)
            of_labels = of_labels.masked_fill(labels == IGNORE_INDEX, 0)
            yield TokenProbabilities(rows, characters, labels, starts, of_labels, by_token.argmax(2))
        self.networks.train(training)

    def respond(self, inputs: Any, length: int) -> list[str]:
        """Return responses of at most ``length`` tokens to (N, 1, 1, P) prompts, greedy unless the stack decodes them."""
        for decoder in self.stack.with_role(Decoder):
            return decoder.decode(self, inputs, length)
        return self.write(inputs, length)

    def write(self, inputs: Any, length: int, temperature: float = 0.0, draw: int = 0) -> list[str]:
        """Generate responses token by token.

        Args:
            inputs: (N, 1, 1, P) prompts.
            length: largest number of tokens.
            temperature: 0 takes the most likely token; above, tokens are sampled from a random stream of their own.
            draw: number of the random stream.
        """
        return [
            text
            for start in range(0, len(inputs), EVAL_BATCH_SIZE)
            for text in self.tokenizer.decode(
                self._generate(inputs[start : start + EVAL_BATCH_SIZE], length, temperature, (start, draw))
            )
        ]

    @torch.no_grad()
    def _generate(self, inputs: Any, length: int, temperature: float, names: tuple[int, int]) -> Tensor:
        """Return (N, length) generated tokens, `IGNORE_INDEX` after their end."""
        training = self.networks.training
        network: Any = self.networks[0]
        self.networks.eval()
        # Named by the first row and the draw: sampling neither depends on earlier evaluations nor disturbs the
        # training.
        generator = torch.Generator(self.device).manual_seed(torch_seed("generation", self.seed, *names))
        # The cache keeps keys and values of earlier tokens, so that each step reads only the newest token.
        batch, cache = self.tokenizer.batch(self._prompts(inputs)), network.new_cache()
        # The network reads the prompt and all generated tokens but the last one, hence the 1.
        length = min(length, network.context_length - batch.tokens.shape[1] - batch.first_position + 1)
        generated = torch.full((len(inputs), length), IGNORE_INDEX, device=self.device)
        is_unfinished = torch.ones(len(inputs), dtype=torch.bool, device=self.device)
        for position in range(length):
            scores = self._forward(network, batch, cache)[:, -1].float()
            if temperature:
                tokens = torch.multinomial((scores / temperature).softmax(1), 1, generator=generator)[:, 0]
            else:
                tokens = scores.argmax(1)
            # Rows that have ended stay in the batch until all have, so that the cache keeps its shape.
            generated[:, position] = tokens.masked_fill(~is_unfinished, IGNORE_INDEX)
            is_unfinished &= tokens != self.tokenizer.end_token
            # Waits for the device at every step, which costs less than generating up to the full length.
            if not bool(is_unfinished.any()):
                break
            # The position of the first column stays, because the network adds the number of cached tokens.
            batch = TokenBatch(tokens[:, None], 0, batch.first_position, batch.has_padding)
        self.networks.train(training)
        return generated

    def predict_training_set(self) -> tuple[Tensor, Tensor]:
        """Return the (N, T) most likely characters, each given the observed ones before it, and their label quality.

        Characters of a token that is not the most likely one are `IGNORED` if tokens have several characters.
        """
        data = self.training_set
        predicted = torch.full_like(data.targets, IGNORED)
        # Half precision, because there is one value for every character of the training set.
        label_quality = torch.zeros(data.targets.shape, dtype=torch.float16, device=data.targets.device)
        for output in self.token_probabilities(data.inputs, data.targets):
            width, is_end = output.characters.shape[1], output.characters == IGNORED
            quality = self.tokenizer.expand_to_characters(output.probabilities, output.characters, output.starts)
            label_quality[output.rows, :width] = quality.masked_fill(is_end, 0).half()
            characters = self.tokenizer.predicted_characters(output)
            predicted[output.rows, :width] = characters.masked_fill(is_end, IGNORED)
        return predicted, label_quality


def trim(responses: Tensor) -> Tensor:
    """Return (B, T) responses without the columns after the longest one.

    Example:
        >>> trim(torch.tensor([[1, 2, IGNORED], [3, IGNORED, IGNORED]])).tolist()
        [[1, 2], [3, 255]]
    """
    columns = (responses != IGNORED).any(0).nonzero()
    return responses[:, : int(columns[-1]) + 1] if len(columns) else responses[:, :1]

"""Shared parts of the tasks that generate traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.data.traces.formats import TraceFormat
from noisybench.errors import TrainingError
from noisybench.networks import build_network
from noisybench.tasks._dense import DenseTask
from noisybench.tasks._token_batches import IGNORE_INDEX, PromptBatch, TokenBatch
from noisybench.tasks._tokenizers import Tokenizer, TokenProbabilities, build_tokenizer
from noisybench.tasks._trace_evaluator import TraceEvaluator
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.roles import Decoder
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import torch_seed

EVAL_BATCH_SIZE = 256
"""Number of traces that are evaluated at a time."""


PACKING_TOLERANCE = 0.01
"""Largest change of a score that rounding explains, as a fraction of the largest score."""


class TraceTask(DenseTask):
    """Base class of tasks that model traces as language: batches of tokens, loss, probabilities and generation."""

    evaluator = TraceEvaluator
    batchings = ("bucketed", "packed")

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        assert training_set.traces is not None
        self.tokenizer = self.make_tokenizer(self.settings, training_set.traces, self.networks[0])
        if budget.batching == "bucketed":
            self.sampler.lengths = self._num_characters()

    @classmethod
    def make_tokenizer(cls, settings: Mapping[str, Any], trace_format: TraceFormat, network: Any) -> Tokenizer:
        """Return the tokenizer of a network, given the parameters of the task."""
        return build_tokenizer(trace_format, network)

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
        required = cls.make_tokenizer(spec.task.parameters, dataset.trace_format, network).max_length(dataset)
        if required > network.context_length:
            longer = (
                "one with a longer context"
                if hasattr(network, "tokenizer")
                else f"a network such as decoder:64x2x{required}"
            )
            return [
                f"budget.network: the longest trace with its prompt needs a context of {required} tokens, but "
                f"`{spec.budget.network}` has {network.context_length}; choose {longer}, or shorter traces"
            ]
        return []

    def on_fit_start(self) -> None:
        """Start training, after a check that the network keeps the traces of a packed row apart.

        Raises:
            TrainingError: it does not.
        """
        super().on_fit_start()
        if self.budget.batching == "packed":
            self._check_packing()

    def _num_characters(self) -> Tensor:
        """Return the (N,) numbers of characters of the training traces, on the host."""
        prompts = torch.as_tensor(self.training_set.inputs[:][:, 0, 0])
        return num_characters(prompts).cpu() + num_characters(self.training_set.targets).cpu()

    @torch.no_grad()
    def _check_packing(self) -> None:
        training = self.networks.training
        self.networks.eval()
        order = self._num_characters().argsort(stable=True)
        # If the two shortest traces have no place in a row of the longest one, no traces share a row.
        rows = torch.cat([order[-1:], order[:2]]).to(self.training_set.targets.device)
        (batch,) = self.batches([BatchPlan(rows)])
        alone, packed = (self.logits(replace(batch.inputs, is_packed=flag)) for flag in (False, True))
        self.networks.train(training)
        difference = float((alone - packed)[batch.has_label].abs().max())
        if difference > PACKING_TOLERANCE * float(alone.abs().max().clamp_min(1)):
            raise TrainingError(
                f"budget.batching=packed: in a row with other traces, the scores of {self.budget.network} change by up to "
                f"{difference:.2g}, because it ignores the mask between traces; set budget.batching=bucketed"
            )

    def build_network(self) -> nn.Module:
        """Return a network for the vocabulary."""
        return build_network(self.budget.network, self.training_set.num_classes, 1)

    def logits(self, inputs: TokenBatch, network: int | None = None) -> Tensor:
        """Return the (B T, V) scores of every response token."""
        forward = self.forwards[self.active_network if network is None else network]
        rows = inputs.rows()
        scores: Tensor = forward(rows.tokens, has_padding=inputs.has_padding, positions=rows.positions, mask=rows.mask)
        return scores.flatten(0, 1)[rows.places.flatten()]

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
            prompts = torch.as_tensor(data.inputs[step.index.to(data.inputs.device)][:, 0, 0]).to(self.device)
            observed = labels.flatten()
            tokens = replace(self.tokenizer.batch(prompts, labels), is_packed=self.budget.batching == "packed")
            yield Batch(
                {"weak": tokens},
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

    @torch.no_grad()
    def token_probabilities(self, inputs: Any, responses: Tensor) -> Iterator[TokenProbabilities]:
        """Yield the probabilities of the deployed prediction for responses, each token given those before it.

        Args:
            inputs: (N, 1, 1, P) prompts.
            responses: (N, T) characters.
        """
        training = self.networks.training
        self.networks.eval()
        prompts = torch.as_tensor(inputs[:, 0, 0])
        for rows in batches_by_length(num_characters(prompts).cpu() + num_characters(responses).cpu()):
            characters = trim(responses[rows.to(responses.device)]).to(self.device)
            labels, starts = self.tokenizer.encode_responses(characters)
            batch = self.tokenizer.batch(prompts[rows.to(prompts.device)].to(self.device), labels)
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
        prompts, responses = torch.as_tensor(inputs[:, 0, 0]), [""] * len(inputs)
        for number, rows in enumerate(batches_by_length(num_characters(prompts).cpu())):
            # Named by the first row and the draw: sampling neither depends on earlier evaluations nor disturbs the
            # training.
            names = (number * EVAL_BATCH_SIZE, draw)
            tokens = self._generate(prompts[rows.to(prompts.device)].to(self.device), length, temperature, names)
            for row, text in zip(rows.tolist(), self.tokenizer.decode(tokens), strict=True):
                responses[row] = text
        return responses

    @torch.no_grad()
    def _generate(self, prompts: Tensor, length: int, temperature: float, names: tuple[int, int]) -> Tensor:
        """Return the (N, length) tokens that follow (N, P) characters, `IGNORE_INDEX` after their end."""
        training = self.networks.training
        network: Any = self.networks[0]
        self.networks.eval()
        generator = torch.Generator(self.device).manual_seed(torch_seed("generation", self.seed, *names))
        # The cache keeps keys and values of earlier tokens, so that each step reads only the newest token.
        batch, cache = self.tokenizer.prompt_batch(prompts), network.new_cache()
        # The network reads the prompt and all generated tokens but the last one, hence the 1.
        length = min(length, network.context_length - batch.tokens.shape[1] - batch.first_position + 1)
        generated = torch.full((len(prompts), length), IGNORE_INDEX, device=self.device)
        is_unfinished = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        for position in range(length):
            scores = network(
                batch.tokens, first_position=batch.first_position, has_padding=batch.has_padding, cache=cache
            )[:, -1].float()
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
            batch = PromptBatch(tokens[:, None], batch.first_position, batch.has_padding)
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


def num_characters(texts: Tensor) -> Tensor:
    """Return the (N,) numbers of characters of (N, L) texts.

    Example:
        >>> num_characters(torch.tensor([[1, 2, IGNORED], [3, IGNORED, IGNORED]])).tolist()
        [2, 1]
    """
    return (texts != IGNORED).sum(1)


def batches_by_length(lengths: Tensor, size: int = EVAL_BATCH_SIZE) -> tuple[Tensor, ...]:
    """Return the positions of (N,) examples in ascending length, in batches: a batch is as wide as its longest example.

    Example:
        >>> batches_by_length(torch.tensor([3, 1, 2]), size=2)
        (tensor([1, 2]), tensor([0]))
    """
    return torch.split(lengths.argsort(stable=True), size) if len(lengths) else ()


def trim(responses: Tensor) -> Tensor:
    """Return (B, T) responses without the columns after the longest one.

    Example:
        >>> trim(torch.tensor([[1, 2, IGNORED], [3, IGNORED, IGNORED]])).tolist()
        [[1, 2], [3, 255]]
    """
    columns = (responses != IGNORED).any(0).nonzero()
    return responses[:, : int(columns[-1]) + 1] if len(columns) else responses[:, :1]

"""Tokenizers of traces: one token per character, or the tokens of a pretrained language model."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.data.traces.formats import TraceFormat
from noisybench.networks._text_encodings import Encoding, TextEncodings
from noisybench.tasks._token_batches import IGNORE_INDEX, PromptBatch, TokenBatch, join


@dataclass(frozen=True)
class TokenProbabilities:
    """Probabilities that the deployed prediction gives to the tokens of some responses.

    Attributes:
        rows: (B,) rows of the responses.
        characters: (B, C) characters.
        labels: (B, T) tokens, `IGNORE_INDEX` after their end.
        starts: (B, T) positions of the first character of each token, ascending; after their end, the number of
            characters or more.
        probabilities: (B, T) probabilities of the labels, 0 after their end.
        predicted: (B, T) most likely tokens.
    """

    rows: Tensor
    characters: Tensor
    labels: Tensor
    starts: Tensor
    probabilities: Tensor
    predicted: Tensor


class Tokenizer(abc.ABC):
    """Contract of a tokenizer: characters to tokens and back.

    Attributes:
        vocabulary_size: number of tokens.
        end_token: token that ends a response.
        padding_token: number of the padding, outside the vocabulary.
        aligns_responses: whether all responses begin at one position, that after the longest prompt.
    """

    aligns_responses = False
    vocabulary_size: int
    end_token: int
    padding_token: int

    @abc.abstractmethod
    def encode_prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """Return (B, P) int64 tokens of (B, C) characters, padded on the left, and the position of the first column."""

    @abc.abstractmethod
    def max_length(self, dataset: Dataset) -> int:
        """Return the largest number of tokens of a prompt together with its response."""

    def prompt_batch(self, prompts: Tensor) -> PromptBatch:
        """Return (B, C) characters of prompts, to be continued."""
        tokens, first_position = self.encode_prompts(prompts)
        # Padding is on the left, so the first column has some if any column does.
        return PromptBatch(tokens, first_position, bool((tokens[:, 0] == self.padding_token).any()))

    def batch(self, prompts: Tensor, labels: Tensor) -> TokenBatch:
        """Return (B, C) characters of prompts, followed by (B, T) labels without the last token."""
        return join(self.prompt_batch(prompts), labels, self.padding_token, self.aligns_responses)

    @abc.abstractmethod
    def encode_responses(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the labels and the starts of (B, C) responses, as in `TokenProbabilities`."""

    @abc.abstractmethod
    def decode(self, tokens: Tensor) -> list[str]:
        """Return the texts of (B, T) generated tokens, `IGNORE_INDEX` after their end."""

    @abc.abstractmethod
    def expand_to_characters(self, values: Tensor, responses: Tensor, starts: Tensor) -> Tensor:
        """Return (B, C) values of characters from (B, T) values of the tokens that they belong to."""

    def predicted_characters(self, output: TokenProbabilities) -> Tensor:
        """Return the (B, C) most likely characters; `IGNORED` where the most likely token is not the label.

        A different token may have another number of characters, so its characters have no counterpart in the response.
        """
        is_label = (output.predicted == output.labels).long()
        is_correct = self.expand_to_characters(is_label, output.characters, output.starts).bool()
        return output.characters.masked_fill(~is_correct, IGNORED)


class CharacterTokenizer(Tokenizer):
    """Tokenizer with one token per character of a trace format."""

    aligns_responses = True

    def __init__(self, trace_format: TraceFormat) -> None:
        self._trace_format = trace_format
        self.vocabulary_size = len(trace_format.vocabulary)
        self.end_token = trace_format.vocabulary.index(trace_format.end)
        self.padding_token = self.vocabulary_size

    def encode_prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """Return the characters without the columns that are empty in all rows, and the number of these columns."""
        # Shared empty columns only cost time in attention. Their number is returned, so that a prompt keeps its
        # positional embeddings whatever else is in its batch.
        is_used = (prompts != IGNORED).any(0)
        # `argmax` has no kernel for booleans; of equal values it returns the first.
        first_position = int(is_used.byte().argmax())
        tokens = prompts[:, first_position:].long()
        return tokens.masked_fill(tokens == IGNORED, self.padding_token), first_position

    def encode_responses(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the characters as labels; each starts at its own column."""
        labels = responses.long()
        starts = torch.arange(responses.shape[1], device=responses.device).expand_as(labels)
        return labels.masked_fill(labels == IGNORED, IGNORE_INDEX), starts

    def max_length(self, dataset: Dataset) -> int:
        """Return the number of all columns, which noisy responses may fill."""
        return int(dataset.train.inputs.shape[3] + dataset.train.targets.shape[1] - 1)

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the characters as texts."""
        characters = tokens.masked_fill(tokens == IGNORE_INDEX, IGNORED)
        return self._trace_format.decode(characters.cpu().numpy())

    def expand_to_characters(self, values: Tensor, responses: Tensor, starts: Tensor) -> Tensor:
        """Return the values unchanged."""
        return values

    def predicted_characters(self, output: TokenProbabilities) -> Tensor:
        """Return the most likely tokens, including those that are not the label."""
        return output.predicted.to(output.characters.dtype)


class PretrainedTokenizer(Tokenizer):
    """Tokenizer of a Hugging Face model, whose end-of-text token ends a response."""

    def __init__(self, trace_format: TraceFormat, network: Any) -> None:
        self._trace_format, self._tokenizer = trace_format, network.tokenizer
        self._encodings = TextEncodings(network.tokenizer)
        self.vocabulary_size = int(network.vocabulary_size)
        self.end_token, self.padding_token = int(network.end_token), int(network.padding_token)

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        # Special tokens would end up between a prompt and its response, which are tokenized separately.
        return self._encodings.encode(texts)

    def encode_prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """Return the tokens, padded on the left, and 0: the network counts positions from the start of each text."""
        texts = map(self.prompt_text, self._trace_format.decode(prompts.cpu().numpy()))
        encodings = self._tokenize(list(texts))
        return self._pad([each.tokens for each in encodings], self.padding_token, left=True).to(prompts.device), 0

    def prompt_text(self, prompt: str) -> str:
        """Return the text before a response: the prompt itself."""
        return prompt

    def encode_responses(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of the responses, with the end last, and the starts of their characters."""
        texts = self._trace_format.decode(responses.cpu().numpy())
        # The pretrained vocabulary has a token of its own for the end, so the end character of the format is cut off
        # first.
        bodies = [text.removesuffix(self._trace_format.end) for text in texts]
        tokens, starts = [], []
        for text, body, encoding in zip(texts, bodies, self._tokenize(bodies), strict=True):
            # The end token stands for the end character, which is the one after the body.
            has_end = len(text) > len(body)
            tokens.append(np.append(encoding.tokens, [self.end_token] * has_end))
            starts.append(np.append(encoding.starts, [len(body)] * has_end))
        device = responses.device
        # Padding starts after the last character, so that no character belongs to it.
        return self._pad(tokens, IGNORE_INDEX).to(device), self._pad(starts, responses.shape[1]).to(device)

    def _pad(self, rows: Sequence[NDArray[np.integer[Any]]], value: int, left: bool = False) -> Tensor:
        width = max(1, max((len(row) for row in rows), default=1))
        padded = torch.full((len(rows), width), value)
        for number, row in enumerate(rows):
            padded[number, slice(width - len(row), None) if left else slice(len(row))] = torch.from_numpy(row)
        return padded

    def max_length(self, dataset: Dataset) -> int:
        """Return the tokens of the longest prompt plus those of the longest clean response; noise may add a few."""
        splits = [dataset.train, dataset.validation, dataset.test, *dataset.shifted_tests.values()]
        prompts = [
            self.prompt_text(text) for split in splits for text in self._trace_format.decode(split.inputs[:][:, 0, 0])
        ]
        responses = [text for split in splits for text in self._trace_format.decode(split.targets)]
        return sum(
            max((len(encoding.tokens) for encoding in self._tokenize(texts)), default=0)
            for texts in (prompts, responses)
        )

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the decoded texts; a generated end token becomes the end of the trace format."""
        texts = []
        for row in tokens.tolist():
            ids = [token for token in row if token not in (IGNORE_INDEX, self.end_token)]
            texts.append(self._tokenizer.decode(ids) + (self._trace_format.end if self.end_token in row else ""))
        return texts

    def expand_to_characters(self, values: Tensor, responses: Tensor, starts: Tensor) -> Tensor:
        """Return for each character the value of the last token that starts at or before it."""
        # Several tokens may start at one character, of which each is a part, so their starts are searched, not counted.
        positions = torch.arange(responses.shape[1], device=starts.device).expand(len(starts), -1).contiguous()
        numbers = torch.searchsorted(starts.contiguous(), positions, right=True) - 1
        return values.gather(1, numbers.clamp_min(0))


def build_tokenizer(trace_format: TraceFormat, network: Any) -> Tokenizer:
    """Return the tokenizer of a network: its own one, or one token per character."""
    if hasattr(network, "tokenizer"):
        return PretrainedTokenizer(trace_format, network)
    return CharacterTokenizer(trace_format)

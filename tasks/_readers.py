"""How a network reads traces: as characters, or as the tokens of a pre-trained language model."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.data.traces.formats import TraceFormat

NO_LABEL = -1


@dataclass(frozen=True)
class Reading:
    """What a network reads in one step.

    Attributes:
        tokens: (B, P + T - 1) int64, prompts and responses but for the last token.
        columns: of them that are the prompts', P.
        first: position of the first column, where prompts of the whole dataset are longer than those of this batch.
        padded: whether some prompts have padding before them.
    """

    tokens: Tensor
    columns: int
    first: int
    padded: bool
    dtype = torch.float32
    """Of what is computed from them."""


@dataclass(frozen=True)
class Spoken:
    """What the deployed prediction says of some responses.

    Attributes:
        rows: of the responses.
        characters: (B, C) uint8.
        labels: (B, T) tokens, `NO_LABEL` after their end.
        places: (B, T) characters at which they begin.
        own: (B, T) probabilities of the labels, 0 after their end.
        likely: (B, T) most likely tokens.
    """

    rows: slice
    characters: Tensor
    labels: Tensor
    places: Tensor
    own: Tensor
    likely: Tensor


class Reader(abc.ABC):
    """Contract of a reader: characters to tokens and back.

    Attributes:
        size: number of tokens.
        end: the token that ends a response.
        padding: the number that stands for no token.
    """

    size: int
    end: int
    padding: int

    @abc.abstractmethod
    def prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """(B, P) int64 tokens of (B, C) uint8 characters, with padding before them, and the position of the first column."""

    @abc.abstractmethod
    def longest(self, dataset: Dataset) -> int:
        """Tokens that the longest prompt and response together may have."""

    def reading(self, prompts: Tensor, labels: Tensor | None = None) -> Reading:
        """What a network reads: prompts alone, or with (B, T) labels but for the last column."""
        given, first = self.prompts(prompts)
        padded = bool((given[:, 0] == self.padding).any())
        shown = given if labels is None else torch.cat([given, labels[:, :-1].clamp_min(0)], 1)
        return Reading(shown, given.shape[1], first, padded)

    @abc.abstractmethod
    def labels(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) int64 tokens of (B, C) uint8 characters, `NO_LABEL` after their end, and the characters where they begin."""

    @abc.abstractmethod
    def texts(self, tokens: Tensor) -> list[str]:
        """Texts of (B, T) written tokens, `NO_LABEL` after their end."""

    @abc.abstractmethod
    def spread(self, values: Tensor, responses: Tensor, places: Tensor) -> Tensor:
        """(B, C) values of characters, from (B, T) values of the tokens that they belong to."""

    def likely(self, said: Spoken) -> Tensor:
        """(B, C) most likely characters; where a token is wrong, none."""
        right = self.spread((said.likely == said.labels).long(), said.characters, said.places).bool()
        return said.characters.masked_fill(~right, IGNORED)


class CharacterReader(Reader):
    """Each character is a token."""

    def __init__(self, form: TraceFormat) -> None:
        self._form = form
        self.size, self.end = len(form.vocabulary), form.vocabulary.index(form.end)
        self.padding = self.size

    def prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """The characters, without the columns that are empty in all rows."""
        used = (prompts != IGNORED).any(0)
        first = int(used.byte().argmax())
        given = prompts[:, first:].long()
        return given.masked_fill(given == IGNORED, self.padding), first

    def labels(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """The characters, each at its own place."""
        labels = responses.long()
        places = torch.arange(responses.shape[1], device=responses.device).expand_as(labels)
        return labels.masked_fill(labels == IGNORED, NO_LABEL), places

    def longest(self, dataset: Dataset) -> int:
        """All columns: there may be as many characters after noise."""
        return int(dataset.train.inputs.shape[3] + dataset.train.targets.shape[1] - 1)

    def texts(self, tokens: Tensor) -> list[str]:
        """The characters."""
        return self._form.decode(tokens.masked_fill(tokens == NO_LABEL, IGNORED).to(torch.uint8).cpu().numpy())

    def spread(self, values: Tensor, responses: Tensor, places: Tensor) -> Tensor:
        """The same values."""
        return values

    def likely(self, said: Spoken) -> Tensor:
        """The most likely tokens, wrong ones as well."""
        return said.likely.to(torch.uint8)


class TokenReader(Reader):
    """A Hugging Face tokenizer's tokens; the end of a response is the one that ends a text."""

    def __init__(self, form: TraceFormat, network: Any) -> None:
        self._form, self._tokenizer = form, network.tokenizer
        self.size, self.end, self.padding = (int(getattr(network, name)) for name in ("size", "end", "padding"))

    def _tokens(self, texts: list[str]) -> Any:
        return self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)

    def prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """Tokens of the prompts, the shorter ones padded before; positions are counted from where each text begins."""
        found = self._tokens(self._form.decode(prompts.cpu().numpy()))["input_ids"]
        return self._filled(found, self.padding, True).to(prompts.device), 0

    def labels(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the responses, the end last, with the character at which each begins."""
        texts = self._form.decode(responses.cpu().numpy())
        bodies = [text.removesuffix(self._form.end) for text in texts]
        found = self._tokens(bodies)
        tokens, starts = [], []
        for text, body, ids, offsets in zip(texts, bodies, found["input_ids"], found["offset_mapping"], strict=True):
            ended = len(text) > len(body)
            tokens.append([*ids, *([self.end] if ended else [])])
            starts.append([*(start for start, _ in offsets), *([len(body)] if ended else [])])
        device = responses.device
        return self._filled(tokens, NO_LABEL, False).to(device), self._filled(starts, 0, False).to(device)

    def _filled(self, rows: list[list[int]], value: int, left: bool) -> Tensor:
        width = max(1, max((len(each) for each in rows), default=1))
        found = torch.full((len(rows), width), value)
        for row, each in enumerate(rows):
            if each:
                found[row, slice(width - len(each), None) if left else slice(len(each))] = torch.tensor(each)
        return found

    def longest(self, dataset: Dataset) -> int:
        """The longest prompt with the longest of the known responses; noise may make a response some tokens longer."""
        splits = [dataset.train, dataset.validation, dataset.test, *dataset.shifted_tests.values()]
        texts = [(self._form.decode(each.inputs[:][:, 0, 0]), self._form.decode(each.targets)) for each in splits]
        prompts, responses = (
            max((len(ids) for each in texts for ids in self._tokens(each[part])["input_ids"]), default=0)
            for part in (0, 1)
        )
        return prompts + responses

    def texts(self, tokens: Tensor) -> list[str]:
        """What the tokenizer makes of them, with the end of a trace where they end."""
        found = []
        for row in tokens.tolist():
            ids = [each for each in row if each not in (NO_LABEL, self.end)]
            found.append(self._tokenizer.decode(ids) + (self._form.end if self.end in row else ""))
        return found

    def spread(self, values: Tensor, responses: Tensor, places: Tensor) -> Tensor:
        """Each token's value for all characters up to the next one."""
        begins = torch.zeros(responses.shape, dtype=torch.long, device=places.device)
        begins.scatter_(1, places, 1)
        begins[:, 0] = 1
        return values.gather(1, (begins.cumsum(1) - 1).clamp_max(values.shape[1] - 1))


def reader_of(form: TraceFormat, network: Any) -> Reader:
    """The way in which a network reads."""
    return TokenReader(form, network) if hasattr(network, "tokenizer") else CharacterReader(form)

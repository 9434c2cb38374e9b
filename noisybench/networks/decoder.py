"""Small decoder-only transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.errors import UserError

EXAMPLE = "16x1"
HEADS, CONTEXT = 4, 512


@dataclass
class Cache:
    """What a decoder keeps of the tokens that it was given before.

    Attributes:
        layers: keys and values of each layer, (B, heads, length, width / heads).
        shown: (B, length) which of them are tokens, not padding; None where all are.
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    shown: Tensor | None = None


class Decoder(nn.Module):
    """Pre-norm layers of causal attention and a GELU perceptron, learned positions, no dropout.

    Padding, whose number is `padding`, may stand before a text; nothing attends to it, and positions are counted from the column
    that the caller says, so that a text has the same scores however much padding a batch needs.

    Attributes:
        context: greatest number of tokens.
        padding: the number that stands for no token.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, context: int) -> None:
        super().__init__()
        self.context, self.padding = context, vocabulary
        self.tokens, self.positions = nn.Embedding(vocabulary + 1, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for each in (self.tokens, self.positions):
            nn.init.normal_(each.weight, std=0.02)

    def forward(self, tokens: Tensor, first: int = 0, padded: bool = False, cache: Cache | None = None) -> Tensor:
        """(B, L, V) scores of the token after each of (B, L) tokens; more than `context` are refused.

        Args:
            tokens: those that follow what is in the cache.
            first: position of the first column.
            padded: whether there may be padding; without it, attention is faster.
            cache: of earlier tokens; the present ones are added to it.
        """
        earlier = cache.layers[0][0].shape[2] if cache is not None and cache.layers else 0
        start, length = first + earlier, tokens.shape[1]
        if start + length > self.context:
            raise RuntimeError(f"a trace of {start + length} tokens is too long: {self.context} fit")
        mask = self._mask(tokens, cache, earlier) if padded else None
        found = self.tokens(tokens) + self.positions(torch.arange(start, start + length, device=tokens.device))
        for number, layer in enumerate(self.layers):
            found = layer(found, cache, number, mask)
        scores: Tensor = self.scores(self.norm(found))
        return scores

    def start(self) -> Cache:
        """What to give along with a prompt, so that one token after the other can follow."""
        return Cache()

    def _mask(self, tokens: Tensor, cache: Cache | None, earlier: int) -> Tensor:
        """(B, 1, L, earlier + L) where each token may look: at itself and at what is shown before it."""
        shown = tokens != self.padding
        if cache is not None:
            shown = shown if cache.shown is None else torch.cat([cache.shown, shown], 1)
            cache.shown = shown
        length = tokens.shape[1]
        rows = torch.arange(earlier, earlier + length, device=tokens.device)[:, None]
        columns = torch.arange(earlier + length, device=tokens.device)
        return ((columns <= rows) & shown[:, None] | (columns == rows))[:, None]


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: Tensor, cache: Cache | None, number: int, mask: Tensor | None) -> Tensor:
        batch, length, width = inputs.shape
        parts = self.project(self.first(inputs)).view(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        if cache is not None:
            if number < len(cache.layers):
                before = cache.layers[number]
                keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
                cache.layers[number] = keys, values
            else:
                cache.layers.append((keys, values))
        if mask is None and keys.shape[2] > length > 1:
            # Several new tokens after earlier ones: the last row sees all, each before it one less.
            rows = torch.arange(keys.shape[2] - length, keys.shape[2], device=keys.device)[:, None]
            mask = torch.arange(keys.shape[2], device=keys.device) <= rows
        causal = mask is None and length > 1
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
        inputs = inputs + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        found: Tensor = inputs + self.perceptron(self.second(inputs))
        return found


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """A transformer for traces.

    Args:
        num_classes: size of the vocabulary.
        channels: not used; tokens have none.
        argument: width, a multiple of 4, number of layers, and perhaps the context, such as ``64x2`` or ``64x2x1024``.

    Raises:
        UserError: the argument is not of this form.
    """
    found = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", argument)
    width, layers, context = (int(each or CONTEXT) for each in found.groups()) if found else (0, 0, 0)
    if not width or width % HEADS or not layers or not context:
        raise UserError(
            f"budget.network: decoder takes width (a multiple of {HEADS}), layers and perhaps the context, such as "
            f"decoder:64x2 or decoder:64x2x1024, but got decoder:{argument}"
        )
    return Decoder(num_classes, width, layers, context)

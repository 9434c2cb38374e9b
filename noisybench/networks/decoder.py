"""Small decoder-only transformers."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.errors import UserError

EXAMPLE = "16x1"
HEADS, CONTEXT = 4, 512

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, (B, heads, length, width / heads)."""


class Decoder(nn.Module):
    """Pre-norm layers of causal attention and a GELU perceptron, learned positions, no dropout.

    Attributes:
        context: greatest number of tokens.
    """

    context = CONTEXT

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(CONTEXT, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for each in (self.tokens, self.positions):
            nn.init.normal_(each.weight, std=0.02)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, L, V) scores of the token after each of (B, L) tokens; more than `context` are refused.

        Args:
            tokens: those that follow what is in the cache.
            cache: of earlier tokens; the present ones are added to it.
        """
        start = cache[0][0].shape[2] if cache else 0
        if start + tokens.shape[1] > CONTEXT:
            raise RuntimeError(f"a trace of {start + tokens.shape[1]} tokens is too long: {CONTEXT} fit")
        places = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        found = self.tokens(tokens) + self.positions(places)
        for number, layer in enumerate(self.layers):
            found = layer(found, cache, number)
        scores: Tensor = self.scores(self.norm(found))
        return scores


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: Tensor, cache: Cache | None, number: int) -> Tensor:
        batch, length, width = inputs.shape
        parts = self.project(self.first(inputs)).view(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        if cache is not None:
            if number < len(cache):
                keys, values = torch.cat([cache[number][0], keys], 2), torch.cat([cache[number][1], values], 2)
                cache[number] = keys, values
            else:
                cache.append((keys, values))
        # With earlier tokens in the cache there is one new token, which sees all.
        causal = keys.shape[2] == length
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
        inputs = inputs + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        found: Tensor = inputs + self.perceptron(self.second(inputs))
        return found


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """A transformer for traces.

    Args:
        num_classes: size of the vocabulary.
        channels: not used; tokens have none.
        argument: width and number of layers, such as ``64x2``; the width is a multiple of 4.

    Raises:
        UserError: the argument is no such pair.
    """
    found = re.fullmatch(r"(\d+)x(\d+)", argument)
    width, layers = (int(each) for each in found.groups()) if found else (0, 0)
    if not width or width % HEADS or not layers:
        raise UserError(
            f"budget.network: decoder takes width (a multiple of {HEADS}) and layers, such as decoder:64x2, but got "
            f"decoder:{argument}"
        )
    return Decoder(num_classes, width, layers)

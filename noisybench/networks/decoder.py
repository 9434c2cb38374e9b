"""Small decoder-only transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.errors import UserError

EXAMPLE = "16x1"
NUM_HEADS, DEFAULT_CONTEXT_LENGTH = 4, 512


@dataclass
class KeyValueCache:
    """Keys and values of earlier tokens, for token-by-token generation.

    Attributes:
        layers: keys and values of each layer, (B, heads, length, width / heads).
        is_token: (B, length) mask of the tokens that are not padding; None if none are.
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    is_token: Tensor | None = None


class Decoder(nn.Module):
    """Decoder-only transformer: pre-norm causal attention, GELU perceptrons, learned positions, no dropout.

    Texts may be padded on the left with `padding_token`. No token attends to padding, and the caller gives the position of
    the first column, so that the scores of a text do not depend on the padding of its batch.

    Attributes:
        context_length: largest number of tokens.
        padding_token: number of the padding, outside the vocabulary.

    Example:
        >>> decoder = Decoder(vocabulary_size=10, width=8, num_layers=1, context_length=16)
        >>> decoder(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 10])
    """

    def __init__(self, vocabulary_size: int, width: int, num_layers: int, context_length: int) -> None:
        super().__init__()
        self.context_length, self.padding_token = context_length, vocabulary_size
        # The padding has an embedding but no score, so that it can be read and never generated.
        self.tokens, self.positions = nn.Embedding(vocabulary_size + 1, width), nn.Embedding(context_length, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(num_layers))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, vocabulary_size)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(
        self,
        tokens: Tensor,
        first_position: int = 0,
        has_padding: bool = False,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the (B, L, V) scores of the token after each of (B, L) tokens.

        Args:
            tokens: tokens that follow those in the cache.
            first_position: position of the first column.
            has_padding: whether there may be padding; attention is faster without it.
            cache: cache of earlier tokens, to which these tokens are added.
            positions: (B, L) positions of the tokens, or (1, L) if all rows have the same; by default, those from the first
                one on.
            mask: (B, 1, L, L) bool, True where a token attends to another one; by default, to itself and to those before it.

        Raises:
            RuntimeError: there are more than `context_length` tokens.
        """
        num_cached = cache.layers[0][0].shape[2] if cache is not None and cache.layers else 0
        start, length = first_position + num_cached, tokens.shape[1]
        # Without this check a GPU would fail with an assertion on the device, after which the process cannot use it.
        if start + length > self.context_length:
            raise RuntimeError(
                f"a trace of {start + length} tokens is too long: the context has {self.context_length} tokens"
            )
        if mask is None and has_padding:
            mask = self._mask(tokens, cache, num_cached)
        if positions is None:
            positions = torch.arange(start, start + length, device=tokens.device)
        hidden = self.tokens(tokens) + self.positions(positions)
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, cache, number, mask)
        scores: Tensor = self.scores(self.norm(hidden))
        return scores

    def new_cache(self) -> KeyValueCache:
        """Return an empty cache, to be passed with a prompt and with every token after it."""
        return KeyValueCache()

    def _mask(self, tokens: Tensor, cache: KeyValueCache | None, num_cached: int) -> Tensor:
        """Return the (B, 1, L, num_cached + L) attention mask: each token sees itself and the earlier tokens."""
        is_token = tokens != self.padding_token
        if cache is not None:
            is_token = is_token if cache.is_token is None else torch.cat([cache.is_token, is_token], 1)
            cache.is_token = is_token
        length = tokens.shape[1]
        rows = torch.arange(num_cached, num_cached + length, device=tokens.device)[:, None]
        columns = torch.arange(num_cached + length, device=tokens.device)
        # Padding sees itself, because a softmax over no columns would be NaN.
        return ((columns <= rows) & is_token[:, None] | (columns == rows))[:, None]


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: Tensor, cache: KeyValueCache | None, number: int, mask: Tensor | None) -> Tensor:
        batch, length, width = inputs.shape
        projected = self.project(self.first(inputs)).view(batch, length, 3, NUM_HEADS, width // NUM_HEADS)
        # Each is (B, heads, L, width / heads).
        queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
        if cache is not None:
            if number < len(cache.layers):
                cached_keys, cached_values = cache.layers[number]
                keys, values = torch.cat([cached_keys, keys], 2), torch.cat([cached_values, values], 2)
                cache.layers[number] = keys, values
            else:
                cache.layers.append((keys, values))
        if mask is None and keys.shape[2] > length > 1:
            # Several new tokens after cached ones: the last row sees all columns, each row before it one less.
            # `is_causal` would align the diagonal with the first column instead.
            rows = torch.arange(keys.shape[2] - length, keys.shape[2], device=keys.device)[:, None]
            mask = torch.arange(keys.shape[2], device=keys.device) <= rows
        # A single token sees every column. The flag instead of a mask lets PyTorch choose its fused kernels.
        is_causal = mask is None and length > 1
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=is_causal)
        inputs = inputs + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        hidden: Tensor = inputs + self.perceptron(self.second(inputs))
        return hidden


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """Build a decoder-only transformer for traces.

    Args:
        num_classes: size of the vocabulary.
        channels: unused, since tokens have no channels.
        argument: width (a multiple of 4), number of layers and optionally the context length, such as ``64x2`` or
            ``64x2x1024``.

    Raises:
        UserError: the argument does not have this form.

    Example:
        >>> build(10, 1, "64x2").context_length
        512
    """
    width, num_layers, context_length = parse_size("decoder", argument)
    return Decoder(num_classes, width, num_layers, context_length)


def parse_size(family: str, argument: str) -> tuple[int, int, int]:
    """Return width, number of layers and context length of a transformer.

    Args:
        family: name of the family, for messages.
        argument: size, such as ``64x2`` or ``64x2x1024``.

    Raises:
        UserError: the argument does not have this form.

    Example:
        >>> parse_size("decoder", "64x2")
        (64, 2, 512)
    """
    match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", argument)
    width, num_layers, context_length = (
        (int(number or DEFAULT_CONTEXT_LENGTH) for number in match.groups()) if match else (0, 0, 0)
    )
    if not width or width % NUM_HEADS or not num_layers or not context_length:
        raise UserError(
            f"budget.network: {family} takes the width (a multiple of {NUM_HEADS}), the number of layers and optionally the "
            f"context length, such as {family}:64x2 or {family}:64x2x1024, but got {family}:{argument}"
        )
    return width, num_layers, context_length

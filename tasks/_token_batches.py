"""Traces as language models read them: prompts to continue, and prompts with their responses, packed or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE_INDEX = -1
"""Label of a position after the end of a response."""


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that a language model continues.

    Attributes:
        tokens: (B, P) int64 prompts, padded on the left.
        first_position: position of the first column; positive if this batch lacks the longest prompts of the dataset.
        has_padding: whether some prompts are padded.
    """

    tokens: Tensor
    first_position: int
    has_padding: bool


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with their responses, one trace in each row.

    Attributes:
        tokens: (B, L) int64 prompts, each followed by its response without the last token, and by any tokens.
        positions: (B, L) positions of the tokens, or (1, L) if they are the same in all rows.
        label_columns: (B, T) columns of the tokens that predict the labels.
        lengths: (B,) numbers of tokens that count.
        has_padding: whether there are empty prompts, which have a token of padding.
        is_packed: whether the network reads several traces in each row.
    """

    tokens: Tensor
    positions: Tensor
    label_columns: Tensor
    lengths: Tensor
    has_padding: bool = False
    is_packed: bool = False
    dtype = torch.float32
    """Type of the values that a network computes from the tokens."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> TokenBatch:
        """Return some of the traces."""
        positions = self.positions if len(self.positions) == 1 else self.positions[rows]
        return replace(
            self,
            tokens=self.tokens[rows],
            positions=positions,
            label_columns=self.label_columns[rows],
            lengths=self.lengths[rows],
        )

    def rows(self) -> TokenRows:
        """Return the tokens as a network reads them, with the places at which it predicts the labels."""
        if self.is_packed and len(self) > 1 and not self.has_padding:
            return pack(self)
        starts = torch.arange(len(self), device=self.tokens.device)[:, None] * self.tokens.shape[1]
        return TokenRows(self.tokens, self.positions, starts + self.label_columns, None)


@dataclass(frozen=True)
class TokenRows:
    """Tokens as a network reads them.

    Attributes:
        tokens: (R, L) tokens.
        positions: (R, L) positions of the tokens, or (1, L).
        places: (B, T) places of the tokens that predict the labels, counted row by row.
        mask: (R, 1, L, L) bool, True where a token attends to another one; None if it attends to all before it.
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor
    mask: Tensor | None


def join(prompts: PromptBatch, labels: Tensor, padding_token: int, is_aligned: bool) -> TokenBatch:
    """Return prompts, each followed by its response.

    Args:
        prompts: prompts.
        labels: (B, T) tokens of the responses, `IGNORE_INDEX` after their end.
        padding_token: number of the padding in the prompts.
        is_aligned: whether all responses begin at one position, that after the longest prompt, or each after its prompt.

    Example:
        >>> prompts = PromptBatch(torch.tensor([[9, 1], [2, 3]]), first_position=0, has_padding=True)
        >>> batch = join(prompts, torch.tensor([[4, 5], [6, -1]]), padding_token=9, is_aligned=True)
        >>> batch.tokens.tolist(), batch.positions.tolist(), batch.label_columns.tolist()
        ([[1, 4], [2, 3]], [[1, 2], [0, 1]], [[0, 1], [1, 1]])
    """
    width = prompts.tokens.shape[1]
    # An empty prompt keeps one column, which predicts the first token of its response.
    prompt_lengths = (prompts.tokens != padding_token).sum(1).clamp_min(1)
    # The last token is only predicted, never read.
    lengths = prompt_lengths + ((labels != IGNORE_INDEX).sum(1) - 1).clamp_min(0)
    skipped = width - prompt_lengths
    # One copy to the host for all that it has to know.
    longest, least, most, shortest = torch.stack(
        [lengths.max(), skipped.min(), skipped.max(), (prompts.tokens != padding_token).sum(1).min()]
    ).tolist()
    # Tokens after the end are never attended to by those before, and their loss is masked; any valid token will do.
    joined = torch.cat([prompts.tokens, labels[:, :-1].clamp_min(0)], 1)
    columns = torch.arange(longest, device=joined.device)[None]
    if least == most:
        tokens, positions = joined[:, least : least + longest], columns + (prompts.first_position + least) * is_aligned
    else:
        # Tokens that do not count have no place of their own, so that they repeat the last one.
        sources = (columns + skipped[:, None]).clamp_max(joined.shape[1] - 1)
        tokens, positions = joined.gather(1, sources), sources + prompts.first_position if is_aligned else columns
    label_columns = prompt_lengths[:, None] - 1 + torch.arange(labels.shape[1], device=joined.device)
    # Labels that do not exist are predicted by the last token, since an index needs some value.
    label_columns = label_columns.minimum(lengths[:, None] - 1)
    return TokenBatch(tokens, positions, label_columns, lengths, has_padding=shortest == 0)


def pack(batch: TokenBatch) -> TokenRows:
    """Return traces one after the other in rows of the length of the longest one.

    Each trace keeps its positions, and its tokens attend to each other alone, so that its scores are those of a row of its
    own. The longest traces are placed first, each in the first row with enough room.

    Example:
        >>> tokens = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
        >>> batch = TokenBatch(tokens, torch.arange(3)[None], torch.tensor([[2], [0], [1]]), torch.tensor([3, 1, 2]))
        >>> rows = pack(batch)
        >>> rows.tokens.tolist(), rows.positions.tolist(), rows.places.tolist()
        ([[1, 2, 3], [5, 6, 4]], [[0, 1, 2], [0, 1, 0]], [[2], [5], [4]])
    """
    lengths, device = batch.lengths.tolist(), batch.tokens.device
    width = max(lengths)
    starts, room = [0] * len(lengths), list[int]()
    for trace in sorted(range(len(lengths)), key=lambda trace: -lengths[trace]):
        row = next((row for row, left in enumerate(room) if left >= lengths[trace]), len(room))
        room += [width] * (row == len(room))
        starts[trace] = (row + 1) * width - room[row]
        room[row] -= lengths[trace]
    size = len(room) * width
    first = torch.tensor(starts, device=device)[:, None]
    columns = torch.arange(batch.tokens.shape[1], device=device)
    # Columns that do not count are written to a place after the end, which is cut off.
    targets = torch.where(columns < batch.lengths[:, None], first + columns, size)

    def place(values: Tensor, empty: int) -> Tensor:
        packed = values.new_full((size + 1,), empty)
        return packed.index_put((targets,), values.expand_as(targets))[:size].view(-1, width)

    owners = place(torch.arange(len(lengths), device=device)[:, None], -1)
    is_earlier = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    mask = (owners[:, :, None] == owners[:, None]) & is_earlier
    return TokenRows(place(batch.tokens, 0), place(batch.positions, 0), first + batch.label_columns, mask[:, None])

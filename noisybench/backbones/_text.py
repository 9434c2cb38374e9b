"""Text encoders: tokens, pooling and normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noisybench.backbones import BATCH_SIZE, module_digest
from noisybench.data.texts import texts_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len", "last"]
"""Mean of the tokens, first token, largest value of the tokens, sum over the root of their number, or last token."""


@dataclass(frozen=True)
class TextBackbone:
    """A frozen encoder of transformers that maps texts to features.

    Attributes:
        module: encoder.
        tokenizer: tokenizer of transformers.
        size: largest number of tokens; the rest of longer texts is not read.
        pooling: way from the features of the tokens to those of the text.
        normalize: whether features have unit length.
        lower_case: whether texts are changed to lower case before they are divided into tokens.
    """

    module: nn.Module
    tokenizer: Any
    size: int
    pooling: Pooling = "mean"
    normalize: bool = False
    lower_case: bool = False
    reads: Literal["images", "texts"] = "texts"

    def adapted(self, inputs: NDArray[Any]) -> TextBackbone:
        """Return the backbone, whose preprocessing does not depend on the training inputs."""
        return self

    def encode(self, texts: list[str], device: torch.device) -> Tensor:
        """Return the (B, D) features of texts."""
        from torch.nn import functional

        given = [text.lower() for text in texts] if self.lower_case else texts
        tokens = self.tokenizer(given, padding=True, truncation=True, max_length=self.size, return_tensors="pt")
        hidden = self.module(**tokens.to(device)).last_hidden_state.float()
        features = pooled(hidden, tokens["attention_mask"].to(device), self.pooling)
        return functional.normalize(features, dim=1) if self.normalize else features

    def encode_all(self, inputs: NDArray[Any], device: torch.device) -> Tensor:
        """Return the (N, D) float32 features of (N, 1, 1, 1) texts on the CPU."""
        import torch

        texts = texts_of(inputs)
        # Texts of similar length share a batch, because all texts of a batch take the time of the longest.
        order = np.argsort([len(text) for text in texts], kind="stable")
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        parts = [self.encode([texts[row] for row in batch.tolist()], device).cpu() for batch in batches]
        features = torch.cat(parts)
        return features[torch.from_numpy(np.argsort(order))]

    def digest(self) -> str:
        """Return the SHA-256 of the weights, the tokenizer and the pooling, which decide the features."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        # A fast tokenizer stores its last truncation, which is no property of it.
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        kind = (
            type(self.tokenizer).__name__ if backend is None else str(backend.normalizer) + str(backend.pre_tokenizer)
        )
        settings = (self.size, self.pooling, self.normalize, self.lower_case, kind, vocabulary)
        return module_digest(self.module, repr(settings))


def pooled(hidden: Tensor, is_token: Tensor, pooling: Pooling) -> Tensor:
    """Return the (B, D) features of texts.

    Args:
        hidden: (B, T, D) features of the tokens.
        is_token: (B, T) ones for tokens, zeros for padding.
        pooling: way from tokens to texts.

    Example:
        >>> import torch
        >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> [pooled(hidden, torch.tensor([[1, 1, 0]]), way).item() for way in ("mean", "cls", "max", "last")]
        [2.0, 1.0, 3.0, 3.0]
    """
    if pooling == "cls":
        return hidden[:, 0]
    weights = is_token[:, :, None].to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(weights == 0, float("-inf")).amax(1)
    if pooling == "last":
        # Padding may be on either side.
        positions = is_token.cumsum(1).argmax(1)
        return hidden[range(len(hidden)), positions]
    count = weights.sum(1).clamp_min(1)
    return (hidden * weights).sum(1) / (count.sqrt() if pooling == "mean_sqrt_len" else count)

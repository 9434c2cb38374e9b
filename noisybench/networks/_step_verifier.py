"""A verifier of solutions: a language model that reads a problem with steps, and a classifier of the last step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noisybench.data.texts import PADDING
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.networks._text_encodings import TextEncodings
from noisybench.networks.decoder import Decoder
from noisybench.nn.features import capture_activations

NUM_BYTES = 256
"""Vocabulary of a decoder that reads UTF-8."""

NUM_SURPRISES = 4
"""Number of the most surprising tokens of the steps whose negative log-likelihoods are features."""

END_OF_PROBLEM = ord("\n")
"""Byte after which the steps begin."""


class StepVerifier(nn.Module):
    """Language model with a linear classifier of the steps that it has read.

    Features are the state of the model after the last token, and the negative log-likelihoods of the most surprising
    tokens of the steps, in nats: a model that has learned to solve problems is surprised by errors.

    Attributes:
        model: decoder of bytes, or a language model of Hugging Face.

    Args:
        model: the language model.
        num_classes: number of classes of a step.

    Example:
        >>> from noisybench.data.texts import text_bytes, text_inputs
        >>> verifier = StepVerifier(Decoder(NUM_BYTES, width=8, num_layers=1, context_length=16), 2)
        >>> verifier(torch.from_numpy(text_bytes(text_inputs(["1+1?\\n1+1=2\\n", "2?\\n2\\n"])))).shape
        torch.Size([2, 2])
    """

    def __init__(self, model: Any, num_classes: int) -> None:
        super().__init__()
        self.model = model
        self._encodings = None if isinstance(model, Decoder) else TextEncodings(model.tokenizer)
        # After the model, since the last linear layer of a network is its classifier.
        self.classifier = nn.Linear(self._output_layer.in_features + NUM_SURPRISES, num_classes)

    @property
    def vocabulary_size(self) -> int:
        """Number of scores that the model gives at each token."""
        return self._output_layer.out_features

    @property
    def _output_layer(self) -> nn.Linear:
        """Layer from the states of the model to the scores of its vocabulary."""
        layer: nn.Linear = (
            self.model.scores if isinstance(self.model, Decoder) else self.model.model.get_output_embeddings()
        )
        return layer

    def forward(self, texts: Tensor) -> Tensor:
        """Return the (B, C) scores of (B, 1, 1, L) bytes, padded on the right with `PADDING`."""
        scores: Tensor = self.classifier(self._features(texts[:, 0, 0].long()))
        return scores

    def _features(self, content: Tensor) -> Tensor:
        tokens, is_step = self._read(content)
        if tokens.shape[1] > self.model.context_length:
            raise UserError(
                f"inputs: a solution has {tokens.shape[1]} tokens, but the context of the verifier has "
                f"{self.model.context_length}; shorten it, or train with a longer context"
            )
        with capture_activations(self._output_layer, inputs=True) as seen:
            scores = self.model(tokens, has_padding=False)
        # No token attends to the padding after it, so that the last token has the same state in every batch.
        last = (tokens != self.model.padding_token).sum(1) - 1
        state = seen[-1][torch.arange(len(tokens), device=tokens.device), last]
        following = tokens[:, 1:].clamp_max(scores.shape[2] - 1)
        surprise = -scores[:, :-1].float().log_softmax(2).gather(2, following[..., None]).squeeze(2)
        surprise = surprise.masked_fill(~is_step[:, 1:], 0)
        largest = nn.functional.pad(surprise, (0, NUM_SURPRISES)).topk(NUM_SURPRISES, 1).values
        return torch.cat([state.float(), largest], 1)

    def _read(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, T) tokens of (B, L) bytes, padded on the right, and the mask of those of steps."""
        if self._encodings is not None:
            return self._tokenize(content, self._encodings)
        lengths = (content != PADDING).sum(1)
        content = content[:, : int(lengths.max())]
        is_end = content == END_OF_PROBLEM
        is_step = (is_end.cumsum(1) - is_end.long() > 0) & (content != PADDING)
        return content.masked_fill(content == PADDING, self.model.padding_token), is_step

    def _tokenize(self, content: Tensor, known: TextEncodings) -> tuple[Tensor, Tensor]:
        texts = texts_of_bytes(content)
        encodings = known.encode(texts)
        width = max(1, max(len(encoding.tokens) for encoding in encodings))
        tokens = torch.full((len(texts), width), self.model.padding_token)
        is_step = torch.zeros(len(texts), width, dtype=torch.bool)
        for row, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            count = len(encoding.tokens)
            tokens[row, :count] = torch.from_numpy(encoding.tokens)
            is_step[row, :count] = torch.from_numpy(encoding.starts > text.find("\n"))
        return tokens.to(content.device), is_step.to(content.device)


def texts_of_bytes(content: Tensor) -> list[str]:
    """Return the texts of (B, L) bytes of UTF-8, padded with `PADDING`.

    Example:
        >>> texts_of_bytes(torch.tensor([[195, 169, 255], [97, 98, 99]]))
        ['é', 'abc']
    """
    rows = content.to(torch.uint8).cpu().numpy()
    return [row[row != PADDING].tobytes().decode() for row in rows]


def build_verifier(name: str, num_classes: int) -> StepVerifier:
    """Return a verifier on a language model by the name of its network.

    Args:
        name: value of `budget.network`: a decoder, which then reads bytes, or a model of Hugging Face.
        num_classes: number of classes of a step.

    Example:
        >>> build_verifier("decoder:8x1", 2).model.context_length
        512
    """
    return StepVerifier(build_network(name, NUM_BYTES, 1), num_classes)

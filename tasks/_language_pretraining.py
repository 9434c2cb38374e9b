"""Pre-training of a verifier as a language model of the training solutions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.data.texts import PADDING
from noisybench.networks import build_network
from noisybench.networks._step_verifier import NUM_BYTES
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.sampler import group_by_length
from noisybench.utils.seeds import Stream, torch_seed

LEARNING_RATE, WEIGHT_DECAY, WARMUP_STEPS, BATCH_SIZE = 0.003, 0.01, 100, 64
"""AdamW with a cosine schedule after a linear warm-up of at most a tenth of the steps."""


class LanguagePretraining(AuxiliaryRun):
    """Training of a decoder to predict each byte of complete solutions; it sees no label of a step.

    Args:
        name: network, such as ``decoder:64x2``.
        texts: (N, 1, 1, L) bytes of the training examples, the steps of each solution in order.
        digest: digest of the texts.
        epochs: number of epochs.
        seed: seed of the run.
        device: training device.
        bucketed: train on batches of texts of similar length.
    """

    def __init__(
        self,
        name: str,
        texts: Tensor,
        digest: str,
        epochs: int,
        seed: int,
        device: torch.device,
        bucketed: bool = False,
    ) -> None:
        self.epochs, self.device = epochs, device
        self._texts = complete_texts(texts[:, 0, 0]).to(device)
        self.examples = len(self._texts)
        self.title = f"language-model pre-training · {name}"
        self.cache_key = {
            "kind": "language-model pre-training", "inputs": digest, "network": name, "epochs": epochs, "seed": seed,
            "bucketed": bucketed,
        }  # fmt: skip
        self._lengths = num_bytes(self._texts).cpu() if bucketed else None
        self._seed = seed
        torch.manual_seed(torch_seed("language-model pre-training", seed))
        self.model: Any = build_network(name, NUM_BYTES, 1).to(device)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch in random order, and return the mean loss of a batch in nats per byte."""
        self.model.train()
        generator = torch.Generator().manual_seed(torch_seed("language-model order", self._seed, epoch))
        order = torch.randperm(self.examples, generator=generator)
        if self._lengths is not None:
            order = group_by_length(order, self._lengths, BATCH_SIZE, Stream("buckets", self._seed, epoch))
        batches = torch.split(order, BATCH_SIZE)
        total = torch.zeros((), device=self.device)
        for number, rows in enumerate(batches):
            self._set_learning_rate(epoch * len(batches) + number, self.epochs * len(batches))
            loss = self._loss(self._texts[rows.to(self.device)].long())
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            total += loss.detach()
        return float(total / len(batches))

    def _loss(self, content: Tensor) -> Tensor:
        content = content[:, : int(num_bytes(content).max())]
        expected = content[:, 1:].masked_fill(content[:, 1:] == PADDING, -1)
        tokens = content[:, :-1].masked_fill(content[:, :-1] == PADDING, self.model.padding_token)
        return functional.cross_entropy(self.model(tokens).flatten(0, 1), expected.flatten(), ignore_index=-1)

    def _set_learning_rate(self, step: int, steps: int) -> None:
        warmup = min(WARMUP_STEPS, 1 + steps // 10)
        factor = min(1.0, (step + 1) / warmup) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the decoder and the optimizer."""
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the decoder and the optimizer."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        """Return the weights of the decoder."""
        return {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}


def num_bytes(texts: Tensor) -> Tensor:
    """Return the (N,) numbers of bytes of (N, L) texts, padded with `PADDING`.

    Example:
        >>> num_bytes(torch.tensor([[97, 255], [97, 98]])).tolist()
        [1, 2]
    """
    return (texts != PADDING).sum(1)


def complete_texts(texts: Tensor) -> Tensor:
    """Return the (M, L) texts that are not the beginning of the next one: the last step of each solution.

    Args:
        texts: (N, L) bytes, padded on the right with `PADDING`.

    Example:
        >>> complete_texts(torch.tensor([[97, 255], [97, 98], [97, 255]]))
        tensor([[ 97,  98],
                [ 97, 255]])
    """
    return texts[is_complete(texts)]


def is_complete(texts: Tensor) -> Tensor:
    """Return the (N,) mask of the texts that are not the beginning of the next one, on the device of (N, L) bytes."""
    continues = ((texts[:-1] == texts[1:]) | (texts[:-1] == PADDING)).all(1) & (texts[:-1] != texts[1:]).any(1)
    return torch.cat([~continues, continues.new_ones(len(texts[-1:]))])

"""A weak network that is trained on few images with clean masks: an auxiliary run for pseudo-labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.data.targets import IGNORED
from noisybench.networks.unet import UNet
from noisybench.nn.weights import weights_digest
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.utils.seeds import torch_seed

BATCH_SIZE = 8
STEPS = 10
"""Optimizer steps of an epoch: few images alone would give one or two."""

LEARNING_RATE = 3e-3


class WeakNetwork(AuxiliaryRun):
    """U-Net that is trained on few images with clean masks, and predicts the masks of all.

    Images are mirrored at random. It runs on one thread of the CPU, so that the masks do not depend on the number of
    threads.

    Args:
        splits: (N, C, H, W) uint8 images by name, whose masks are predicted.
        rows: positions of the images with masks in the split ``train``.
        masks: (K, H, W) uint8 clean masks of these images, with `IGNORED` for pixels without a label.
        num_classes: number of classes, including the background.
        epochs: number of epochs.
        width: number of channels at full resolution.
        seed: random seed.
    """

    def __init__(
        self,
        splits: dict[str, Tensor],
        rows: Tensor,
        masks: Tensor,
        num_classes: int,
        epochs: int,
        width: int,
        seed: int,
    ) -> None:
        self.splits, self.masks, self.seed = splits, masks.long(), seed
        self.images, self.device = splits["train"][rows], torch.device("cpu")
        self.epochs, self.examples = epochs, STEPS * min(BATCH_SIZE, len(rows))
        self.title = f"pseudo-labels · weak network · {epochs} epochs · {len(rows)} images"
        self.cache_key = {
            "kind": "weak network for pseudo-labels",
            "inputs": weights_digest(splits),
            "shapes": {name: list(images.shape) for name, images in splits.items()},
            "masks": weights_digest({"rows": rows, "masks": masks}),
            "settings": [num_classes, epochs, width, seed],
        }
        with reproducible("weak network", seed):
            self.network = UNet(num_classes, self.images.shape[1], width)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch, and return the mean cross-entropy."""
        with reproducible("weak network", self.seed, epoch):
            self.network.train()
            return sum(self._step() for _ in range(STEPS)) / STEPS

    def _step(self) -> float:
        rows = torch.randint(len(self.images), (min(BATCH_SIZE, len(self.images)),))
        images, masks = _normalized(self.images[rows]), self.masks[rows]
        # The mean cross-entropy of no pixel is NaN, and so would be all weights.
        if (masks == IGNORED).all():
            return 0.0
        if torch.rand(()) < 0.5:
            images, masks = images.flip(3), masks.flip(2)
        loss = functional.cross_entropy(self.network(images), masks, ignore_index=IGNORED)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore weights and optimizer."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def result(self) -> dict[str, Tensor]:
        """Return the (N, H, W) uint8 masks of every split."""
        with reproducible("weak network", self.seed, "result"):
            self.network.eval()
            return {
                name: torch.cat(
                    [self.network(_normalized(part)).argmax(1).to(torch.uint8) for part in torch.split(images, 32)]
                )
                for name, images in self.splits.items()
            }


def _normalized(images: Tensor) -> Tensor:
    return (images.float() - 127.5) / 64


@contextlib.contextmanager
def reproducible(*names: object) -> Iterator[None]:
    """Draw PyTorch's random numbers from a named stream, and compute on one thread, within the context.

    Example:
        >>> def draw():
        ...     with reproducible("example"):
        ...         return torch.rand(1)
        >>> bool(draw() == draw())
        True
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(*names))
            yield
    finally:
        torch.set_num_threads(threads)

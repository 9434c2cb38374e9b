"""Networks that measure whether masks have the shape of auxiliary masks: a patch discriminator and a variational one."""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT = 16
"""Number of dimensions of the latent code of a mask."""

CODE_SIZE = 32
"""Side to which masks are resized before they are encoded."""

PRIOR_WEIGHT = 0.02
"""Weight of the distance of a code from the prior, relative to the reconstruction error per pixel."""


class ShapeConstraint(nn.Module, abc.ABC):
    """Measure of how well masks have a shape, whose features can calibrate a generator.

    Attributes:
        num_features: length of the feature vectors.
    """

    num_features: int

    @abc.abstractmethod
    def features(self, masks: Tensor) -> Tensor:
        """Return the (B, num_features) pooled features of (B, 1, H, W) masks in [0, 1]."""

    @abc.abstractmethod
    def generator_loss(self, masks: Tensor) -> Tensor:
        """Return how much generated masks deviate from the shape of auxiliary masks, with gradients for them."""

    @abc.abstractmethod
    def own_loss(self, auxiliary: Tensor, generated: Tensor) -> Tensor:
        """Return the loss with which the constraint itself is trained."""


class PatchDiscriminator(ShapeConstraint):
    """Least-squares discriminator of overlapping patches (PatchGAN, Isola et al. 2017).

    Example:
        >>> network = PatchDiscriminator(1, width=4)
        >>> network.features(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 8])
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.num_features = 2 * width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.scores = nn.Conv2d(2 * width, 1, 3, padding=1)

    def features(self, masks: Tensor) -> Tensor:
        """Return the mean of the last features over all patches."""
        pooled: Tensor = self.layers(masks).mean((2, 3))
        return pooled

    def generator_loss(self, masks: Tensor) -> Tensor:
        """Return the squared distance of the scores from 1, the score of real inputs."""
        distance: Tensor = (self.scores(self.layers(masks)) - 1).square().mean()
        return distance

    def own_loss(self, auxiliary: Tensor, generated: Tensor) -> Tensor:
        """Return the squared distances from 1 for real and from 0 for generated inputs."""
        real, fake = (self.scores(self.layers(masks)) for masks in (auxiliary, generated))
        loss: Tensor = ((real - 1).square().mean() + fake.square().mean()) / 2
        return loss


class VariationalConstraint(ShapeConstraint):
    """Variational auto-encoder that is fitted to auxiliary masks; other masks deviate in reconstruction and latent code.

    Example:
        >>> network = VariationalConstraint(width=4)
        >>> network.generator_loss(torch.rand(2, 1, 16, 16)).ndim
        0
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features, self.width = 4 * width, width
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.side = CODE_SIZE // 8
        self.code = nn.Linear(4 * width * self.side**2, 2 * LATENT)
        self.start = nn.Linear(LATENT, 4 * width * self.side**2)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        )  # fmt: skip

    def features(self, masks: Tensor) -> Tensor:
        """Return the mean of the encoder's last features."""
        pooled: Tensor = self.encoder(_resized(masks)).mean((2, 3))
        return pooled

    def generator_loss(self, masks: Tensor) -> Tensor:
        """Return the squared reconstruction error per pixel, and the distance of the code from the prior."""
        resized = _resized(masks)
        mean, _ = self._encode(resized)
        # The mean of the code without noise: the deviation of a mask should not vary from call to call.
        error = (torch.sigmoid(self._decode(mean)) - resized).square().mean()
        return error + PRIOR_WEIGHT * mean.square().mean()

    def own_loss(self, auxiliary: Tensor, generated: Tensor) -> Tensor:
        """Return the negative evidence lower bound of auxiliary masks in nats per pixel; generated ones do not count."""
        resized = _resized(auxiliary)
        mean, log_variance = self._encode(resized)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = functional.binary_cross_entropy_with_logits(self._decode(code), resized)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return error + divergence / CODE_SIZE**2

    def _encode(self, resized: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.code(self.encoder(resized).flatten(1)).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)

    def _decode(self, code: Tensor) -> Tensor:
        start = self.start(code).view(-1, 4 * self.width, self.side, self.side)
        logits: Tensor = self.decoder(functional.relu(start))
        return logits


def _resized(masks: Tensor) -> Tensor:
    """Return masks in the size that is encoded."""
    if masks.shape[2:] == (CODE_SIZE, CODE_SIZE):
        return masks
    return functional.interpolate(masks, size=(CODE_SIZE, CODE_SIZE), mode="bilinear", antialias=True)

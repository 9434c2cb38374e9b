"""Translation of images to masks that is learned without pairs: an auxiliary run for pseudo-labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.networks.unet import UNet
from noisybench.nn.weights import weights_digest
from noisybench.noise_models._pseudo_label_runs import reproducible
from noisybench.noise_models._shape_constraints import PatchDiscriminator, ShapeConstraint, VariationalConstraint
from noisybench.training.auxiliary import AuxiliaryRun

BATCH_SIZE = 8
LEARNING_RATE = 5e-4
CYCLE_WEIGHT = 5.0
SHAPE_WEIGHT = {"patch_gan": 1.0, "vae": 20.0}
"""Weight of a shape constraint, relative to the discriminator of images."""

FITTING_SHARE, FITTING_STEPS, FITTING_RATE = 0.5, 30, 5e-3
"""Additional epochs in which the variational constraint is fitted before the translation, relative to its epochs, with the
steps of each and their learning rate: 600 steps for 40 epochs, after which the error hardly falls."""


@dataclass(frozen=True)
class TranslationSettings:
    """Settings of an unpaired translation.

    Attributes:
        constraint: shape constraint of generated masks.
        calibration: scale the channels of the generator by the constraint's features of a first mask.
        epochs: epochs of the translation.
        width: number of channels at full resolution.
        seed: random seed.
    """

    constraint: Literal["none", "patch_gan", "vae"] = "vae"
    calibration: bool = False
    epochs: int = 40
    width: int = 8
    seed: int = 0


class Generator(nn.Module):
    """U-Net from images to masks, whose lowest channels can be calibrated by the features of a shape constraint.

    Example:
        >>> generator = Generator(1, 4, PatchDiscriminator(1, 4))
        >>> generator(torch.randn(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, channels: int, width: int, constraint: ShapeConstraint | None) -> None:
        super().__init__()
        self.network = with_instance_norm(UNet(1, channels, width))
        self.excitation: nn.Module | None = None
        if constraint is not None:
            lowest = 8 * width
            self.excitation = nn.Sequential(
                nn.Linear(constraint.num_features, lowest), nn.ReLU(), nn.Linear(lowest, lowest)
            )
        # In a list, so that the constraint is no part of this module's weights.
        self._constraint = [constraint]
        self._scale: Tensor | None = None
        self.network.down[-1].register_forward_hook(self._calibrate)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 1, H, W) logits."""
        self._scale = None
        logits: Tensor = self.network(images)
        constraint = self._constraint[0]
        if constraint is None or self.excitation is None:
            return logits
        with torch.no_grad():
            features = constraint.features(logits.sigmoid())
        # Twice the sigmoid: an excitation of zero leaves the channels as they are.
        self._scale = 2 * torch.sigmoid(self.excitation(features))[:, :, None, None]
        calibrated: Tensor = self.network(images)
        return calibrated

    def _calibrate(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output if self._scale is None else output * self._scale


class AdversarialTranslation(AuxiliaryRun):
    """Generators from images to masks and back, trained with unpaired images and masks.

    An image is translated to a mask and back, and a mask to an image and back, and both must return (cycle consistency).
    Translated masks are made binary on the way back, with the gradient of the probabilities, since gray values could hide
    the image. A discriminator scores translated images, and the shape constraint translated masks. Everything runs on one
    thread of the CPU, so that the masks do not depend on the number of threads.

    Args:
        splits: (N, C, H, W) uint8 images by name; the generator is trained on those of ``train`` and applied to all.
        auxiliary: (M, H, W) bool auxiliary masks.
        settings: settings of the translation.
    """

    def __init__(self, splits: dict[str, Tensor], auxiliary: Tensor, settings: TranslationSettings) -> None:
        self.splits, self.settings, self.device = splits, settings, torch.device("cpu")
        images = splits["train"]
        pixels = images.float()
        self.mean, self.deviation = float(pixels.mean()), max(float(pixels.std()), 1e-6)
        self.auxiliary = auxiliary[:, None].float()
        self.examples = len(images)
        self.fitting_epochs = max(1, round(FITTING_SHARE * settings.epochs)) if settings.constraint == "vae" else 0
        self.epochs = self.fitting_epochs + settings.epochs
        calibrated = ", calibrated" if settings.calibration else ""
        self.title = f"pseudo-labels · {settings.constraint}{calibrated} · {self.epochs} epochs · {len(images)} images"
        self.cache_key = {
            "kind": "adversarial pseudo-labels",
            "inputs": weights_digest(splits),
            "shapes": {name: list(images.shape) for name, images in splits.items()},
            "auxiliary": weights_digest({"masks": auxiliary}),
            **asdict(settings),
        }
        with reproducible("pseudo-labels", settings.seed):
            self._build(images.shape[1])

    def _build(self, channels: int) -> None:
        settings = self.settings
        self.constraint: ShapeConstraint | None = None
        if settings.constraint == "patch_gan":
            self.constraint = PatchDiscriminator(1, settings.width)
        elif settings.constraint == "vae":
            self.constraint = VariationalConstraint(settings.width)
        self.to_mask = Generator(channels, settings.width, self.constraint if settings.calibration else None)
        # One channel of noise, since a mask does not determine the texture of its image.
        self.to_image = with_instance_norm(UNet(channels, 2, settings.width))
        self.discriminator = PatchDiscriminator(channels, settings.width)
        generators = [*self.to_mask.parameters(), *self.to_image.parameters()]
        self.optimizers = {"generators": _adam(generators), "discriminator": _adam(self.discriminator.parameters())}
        if self.constraint is not None:
            rate = FITTING_RATE if settings.constraint == "vae" else LEARNING_RATE
            self.optimizers["constraint"] = _adam(self.constraint.parameters(), rate)

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch, and return the mean loss of the generators; of the constraint, while it is fitted."""
        with reproducible("pseudo-labels", self.settings.seed, epoch):
            if epoch < self.fitting_epochs:
                return sum(self._fit_constraint() for _ in range(FITTING_STEPS)) / FITTING_STEPS
            order = torch.split(torch.randperm(len(self.splits["train"])), BATCH_SIZE)
            return sum(self._translate(rows) for rows in order) / len(order)

    def _fit_constraint(self) -> float:
        masks = self._draw_masks(2 * BATCH_SIZE)
        assert self.constraint is not None
        return self._step("constraint", self.constraint.own_loss(masks, masks))

    def _translate(self, rows: Tensor) -> float:
        images, masks = self._normalized("train", rows), self._draw_masks(len(rows))
        logits, made_images = self.to_mask(images), self._make_images(masks)
        made_masks = logits.sigmoid()
        binary = (made_masks > 0.5).float() + made_masks - made_masks.detach()
        cycle = functional.l1_loss(self._make_images(binary), images) + functional.binary_cross_entropy_with_logits(
            self.to_mask(made_images), masks
        )
        loss = self.discriminator.generator_loss(made_images) + CYCLE_WEIGHT * cycle
        if self.constraint is not None:
            loss = loss + SHAPE_WEIGHT[self.settings.constraint] * self.constraint.generator_loss(made_masks)
        value = self._step("generators", loss)
        # After the generators' step, whose gradients would otherwise remain in the discriminators.
        self._step("discriminator", self.discriminator.own_loss(images, made_images.detach()))
        if self.settings.constraint == "patch_gan" and self.constraint is not None:
            self._step("constraint", self.constraint.own_loss(masks, made_masks.detach()))
        return value

    def _step(self, name: str, loss: Tensor) -> float:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return float(loss.detach())

    def _normalized(self, split: str, rows: Tensor | slice) -> Tensor:
        return (self.splits[split][rows].float() - self.mean) / self.deviation

    def _draw_masks(self, count: int) -> Tensor:
        return self.auxiliary[torch.randint(len(self.auxiliary), (count,))]

    def _make_images(self, masks: Tensor) -> Tensor:
        images: Tensor = self.to_image(torch.cat([2 * masks - 1, torch.randn_like(masks)], 1))
        return images

    def state_dict(self) -> dict[str, Any]:
        """Return weights and optimizers."""
        return {
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore weights and optimizers."""
        for name, network in self._networks().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def _networks(self) -> dict[str, nn.Module]:
        networks = {"to_mask": self.to_mask, "to_image": self.to_image, "discriminator": self.discriminator}
        return networks if self.constraint is None else {**networks, "constraint": self.constraint}

    @torch.no_grad()
    def result(self) -> dict[str, Tensor]:
        """Return the (N, H, W) uint8 masks of every split."""
        with reproducible("pseudo-labels", self.settings.seed, "result"):
            return {name: self._predict(name) for name in self.splits}

    def _predict(self, split: str) -> Tensor:
        images = self.splits[split]
        masks = torch.zeros((len(images), *images.shape[2:]), dtype=torch.uint8)
        for start in range(0, len(images), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            masks[rows] = (self.to_mask(self._normalized(split, rows))[:, 0] > 0).to(torch.uint8)
        return masks


def with_instance_norm(network: UNet) -> UNet:
    """Replace batch normalization, whose running statistics would mix two kinds of inputs; return the network."""
    for block in (*network.down, *network.up):
        assert isinstance(block, nn.Sequential)
        for position, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                block[position] = nn.InstanceNorm2d(layer.num_features, affine=True)
    return network


def _adam(parameters: Any, rate: float = LEARNING_RATE) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))

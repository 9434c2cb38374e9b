"""Contrastive pre-training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.nn.features import backbone_weights, last_linear
from noisybench.nn.weights import load_backbone_weights
from noisybench.training.augmentation import contrastive_view
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.mitigation import Mitigation, Requirements
from noisybench.training.training_set import TrainingSet
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SimCLR(Mitigation):
    """Initialize networks by contrastive pre-training without labels (SimCLR).

    Two views of an image are trained to agree, and those of different images to differ (Chen et al. 2020). The
    backbones are pre-trained on the run's own training images, including mislabeled and out-of-distribution ones, with
    the normalized-temperature cross-entropy; the classifiers start fresh. Pre-training has a separate seed, so that a
    suite trains it once for each dataset and network; its full cost is charged to every run that starts from it. Stack
    it with any method: `simclr+lsa`, `simclr+cross_entropy`.

    `checkpoint` loads weights from a file instead (solo-learn, torchvision, timm, or a plain state dict), which is
    privileged information. Every weight of the backbone must be in the file with its shape.

    The paper trains with LARS and very large batches; here it is SGD with a cosine schedule, and without blur, as is
    usual for images of this size.
    """

    fidelity = Fidelity(
        reference="https://github.com/vturrisi/solo-learn",
        commit="9187ea39c2c3f43c455ab06664d2b019a9802954",
        license="MIT",
        compared="loss and gradient of the projections of 16 images in two views at temperatures 0.1, 0.2 and 1; solo-learn is "
        "what the authors of LSA pre-train with. The layout of their checkpoints is part of the card of lsa",
        difference="0 in the loss, 1.5e-8 in the gradient",
        golden=("simclr",),
        deviations=(
            Deviation(
                "SGD at 0.1 with a cosine schedule for 100 epochs by default; solo-learn on CIFAR: LARS at 0.4 with a warm-up "
                "for 1000 epochs",
                "budgets of one GPU or CPU",
                "epochs, learning_rate and weight_decay are parameters; the optimizer is not. None with `checkpoint`",
            ),
            Deviation(
                "the projection head is as wide as the features and ends in 128 dimensions; solo-learn: 2048 and 256",
                "the size of the paper",
                "its output is a parameter, its width is not. None with `checkpoint`",
            ),
            Deviation(
                "views keep at least 0.2 of the area and are not blurred; solo-learn: at least 0.08, blurred half of the time",
                "small images",
                "smallest_crop is a parameter; blur is not available. None with `checkpoint`",
            ),
        ),
    )

    epochs: int = parameter(100, ge=1, low=50, high=1000, log=True, help="Number of pre-training epochs")
    batch_size: int = parameter(256, ge=2, help="Number of images per batch; each has two views")
    learning_rate: float = parameter(
        0.1, gt=0, low=0.01, high=1.0, log=True, help="Learning rate at the start of the cosine schedule"
    )
    weight_decay: float = parameter(1e-4, ge=0, help="Weight decay of pre-training")
    temperature: float = parameter(0.2, gt=0, low=0.05, high=1.0, log=True, help="Temperature of the contrastive loss")
    projection: int = parameter(128, ge=2, help="Output dimension of the projection head, which has one hidden layer")
    smallest_crop: float = parameter(
        0.2, gt=0, le=1, low=0.08, high=0.5, help="Smallest fraction of the image area in a view"
    )
    pretraining_seed: int = parameter(0, ge=0, help="Random seed of pre-training (independent of `seed`)")
    checkpoint: Path | None = parameter(None, help="File with backbone weights to load instead of pre-training")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return two epochs of pre-training."""
        return ({"epochs": 2, "batch_size": 32},)

    @property
    def requirements(self) -> Requirements:
        """Control of the initial weights, which are privileged if they come from a file."""
        privileged = ("pretrained_weights",) if self.checkpoint else ()
        return Requirements(privileged=privileged, sets_initial_weights=True)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the network has a backbone, and that the checkpoint, if any, has all its weights."""
        if last_linear(network) is None:
            return [
                f"`{budget.network}` has no linear classifier that pre-training could leave out; choose another network"
            ]
        if self.checkpoint is None:
            return []
        try:
            load_backbone_weights(expand_user(self.checkpoint), backbone_weights(network), "checkpoint")
        except UserError as error:
            return error.problems
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Load the pre-trained backbone into every network."""
        expected = backbone_weights(task.networks[0])
        if self.checkpoint is not None:
            weights = load_backbone_weights(expand_user(self.checkpoint), expected, "checkpoint")
        else:
            weights = task.auxiliary(_PreTraining(self, task, training_set))
        for network in task.networks:
            # Merged with the current state: loading stays strict, and the classifier keeps its fresh weights.
            network.load_state_dict({**network.state_dict(), **weights})


class _PreTraining(AuxiliaryRun):
    """Pre-training as an auxiliary run."""

    def __init__(self, settings: SimCLR, task: Learner, training_set: TrainingSet) -> None:
        self.settings, self.task, self.inputs = settings, task, training_set.inputs
        self.device = task.device
        self.epochs, budget = settings.epochs, task.budget
        self.flip = budget.augmentation == "crop_flip"
        # A run with a checkpoint does not pre-train, so the path must not split the cache.
        parameters = {name: value for name, value in settings.parameters.items() if name != "checkpoint"}
        self.title = f"simclr · {budget.network} · {len(self.inputs)} images"
        self.cache_key = {
            "kind": "simclr",
            **parameters,
            "inputs": training_set.inputs_digest,
            "network": budget.network,
            "precision": budget.precision,
            "channels_last": budget.channels_last,
            "flip": self.flip,
        }
        self.size = min(settings.batch_size, len(self.inputs))
        # Whole batches only: a smaller one would have fewer negative pairs, and a loss on another scale.
        self.steps = len(self.inputs) // self.size
        self.examples = self.steps * self.size
        # Weights depend on the seed of pre-training only, so that runs with different seeds can share the result.
        torch.manual_seed(torch_seed("simclr", "initialisation", settings.pretraining_seed))
        self.network = task.build_network().to(task.device)
        last = last_linear(self.network)
        assert last is not None  # checked before training
        width = last[1].in_features
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, settings.projection)).to(
            task.device
        )
        self.optimizer = torch.optim.SGD(
            [*self.network.parameters(), *self.head.parameters()],
            lr=settings.learning_rate,
            momentum=0.9,
            weight_decay=settings.weight_decay,
        )

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch over the images without the last, smaller batch, and return the mean loss."""
        settings, task = self.settings, self.task
        # Random numbers depend on the epoch only: a resumed run draws the same without a stored generator state.
        names = ("simclr", settings.pretraining_seed, epoch)
        generator = torch.Generator(task.device).manual_seed(torch_seed("augmentation", *names))
        order = torch.from_numpy(Stream("order", *names).permutation(len(self.inputs)))
        self.network.train()
        # The sum stays on the device, so that no step waits for it.
        total = torch.zeros((), device=task.device)
        for step in range(self.steps):
            progress = (epoch + step / self.steps) / self.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            index = order[step * self.size : (step + 1) * self.size].to(self.inputs.device)
            images = self.inputs[index].to(task.device, non_blocking=True)
            views = [
                contrastive_view(images, generator, flip=self.flip, smallest=settings.smallest_crop) for _ in range(2)
            ]
            # A new context in every step: within one, torch caches converted weights across optimizer steps.
            with task.autocast():
                # Augmentation expects raw pixels, so normalization follows it; both views share one pass.
                projected = self.head(
                    task.features_of(self.network, torch.cat([task.normalize(view) for view in views]))
                )
                loss = agreement_loss(projected, settings.temperature)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            total += loss.detach()
        return total.item() / self.steps

    def state_dict(self) -> dict[str, Any]:
        """Return the state of network, head and optimizer."""
        return {
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore network, head and optimizer."""
        self.network.load_state_dict(state["network"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        """Return the weights of the backbone."""
        return backbone_weights(self.network)


def agreement_loss(projected: Tensor, temperature: float) -> Tensor:
    """Return the normalized-temperature cross-entropy in nats (NT-Xent, Chen et al. 2020).

    Args:
        projected: (2B, D) projections; rows i and i + B are views of the same image.
        temperature: temperature of the softmax over cosine similarities.

    >>> agreement_loss(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), temperature=1.0)
    tensor(0.5514)
    """
    directions = functional.normalize(projected.float(), dim=1)
    similarity = directions @ directions.T / temperature  # (2B, 2B)
    similarity.fill_diagonal_(-torch.inf)  # a view is not compared with itself
    half = len(projected) // 2
    partner = torch.arange(2 * half, device=projected.device).roll(half)
    return functional.cross_entropy(similarity, partner)

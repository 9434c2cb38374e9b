"""Contrastive pre-training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.nn.features import backbone_weights, classifier
from noisybench.nn.weights import matching_weights
from noisybench.training.augmentation import contrastive_view
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.mitigation import Mitigation, Requirements
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SimCLR(Mitigation):
    """Start from weights learned without labels: two views of an image agree, other images disagree (Chen et al. 2020).

    The networks' backbones are pre-trained on the run's own training images, wrong ones included, with the
    normalised-temperature cross-entropy; the classifiers start fresh. Pre-training has a seed of its own, so that a
    suite trains it once for a dataset and network; its whole cost is charged to every run that starts from it. Stack
    it with anything: `simclr+lsa`, `simclr+cross_entropy`.

    `checkpoint` takes weights from a file instead (solo-learn, torchvision, timm, or a plain state dict), which is declared
    knowledge. Every weight of the backbone must be in it, with its shape.

    The paper trains with LARS and very large batches; here it is SGD with a cosine schedule, and no blur, as is usual
    for images of this size.
    """

    epochs: int = parameter(100, ge=1, low=50, high=1000, log=True, help="epochs of pre-training")
    batch_size: int = parameter(256, ge=2, help="images in a batch; each has two views")
    learning_rate: float = parameter(
        0.1, gt=0, low=0.01, high=1.0, log=True, help="at the start of the cosine schedule"
    )
    weight_decay: float = parameter(1e-4, ge=0, help="of pre-training")
    temperature: float = parameter(0.2, gt=0, low=0.05, high=1.0, log=True, help="of the contrastive loss")
    projection: int = parameter(128, ge=2, help="dimensions that are compared, after a hidden layer")
    smallest_crop: float = parameter(0.2, gt=0, le=1, low=0.08, high=0.5, help="share of the image in a view, at least")
    pretraining_seed: int = parameter(0, ge=0, help="of the pre-training; the run's seed does not change it")
    checkpoint: Path | None = parameter(None, help="a file with weights of the backbone, instead of pre-training")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Two epochs of pre-training."""
        return ({"epochs": 2, "batch_size": 32},)

    @property
    def requirements(self) -> Requirements:
        """Initial weights, which are privileged where they come from a file."""
        privileged = ("pretrained_weights",) if self.checkpoint else ()
        return Requirements(privileged=privileged, sets_initial_weights=True)

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """The network has a backbone, and the checkpoint, if any, has all its weights."""
        if classifier(network) is None:
            return [
                f"`{budget.network}` has no linear classifier to leave out of the pre-training; choose another network"
            ]
        if self.checkpoint is None:
            return []
        try:
            matching_weights(self.checkpoint.expanduser(), backbone_weights(network), "checkpoint")
        except UserError as error:
            return error.problems
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Give every network the pre-trained backbone."""
        wanted = backbone_weights(task.networks[0])
        if self.checkpoint is not None:
            weights = matching_weights(self.checkpoint.expanduser(), wanted, "checkpoint")
        else:
            weights = task.auxiliary(_PreTraining(self, task, training_set))
        for network in task.networks:
            network.load_state_dict({**network.state_dict(), **weights})


class _PreTraining(AuxiliaryRun):
    """The pre-training as an auxiliary run."""

    def __init__(self, settings: SimCLR, task: Learner, training_set: TrainingSet) -> None:
        self.settings, self.task, self.inputs = settings, task, training_set.inputs
        self.device = task.device
        self.epochs, budget = settings.epochs, task.budget
        self.flip = budget.augmentation == "crop_flip"
        own = {name: value for name, value in settings.parameters.items() if name != "checkpoint"}
        self.title = f"simclr · {budget.network} · {len(self.inputs)} images"
        self.cache_key = {
            "kind": "simclr",
            **own,
            "inputs": training_set.inputs_digest,
            "network": budget.network,
            "precision": budget.precision,
            "channels_last": budget.channels_last,
            "flip": self.flip,
        }
        self.size = min(settings.batch_size, len(self.inputs))
        self.steps = len(self.inputs) // self.size
        self.examples = self.steps * self.size
        torch.manual_seed(torch_seed("simclr", "initialisation", settings.pretraining_seed))
        self.network = task.build_network().to(task.device)
        if budget.channels_last:
            self.network.to(memory_format=torch.channels_last)
        found = classifier(self.network)
        assert found is not None  # checked before
        width = found[1].in_features
        self.last = found[1]
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
        """One pass over the images, without a last batch that is smaller."""
        settings, task = self.settings, self.task
        names = ("simclr", settings.pretraining_seed, epoch)
        generator = torch.Generator(task.device).manual_seed(torch_seed("augmentation", *names))
        order = torch.from_numpy(Stream("order", *names).permutation(len(self.inputs)))
        self.network.train()
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
            with task.autocast():
                projected = self.head(
                    task.features_of(self.network, torch.cat([task.normalize(each) for each in views]))
                )
                loss = agreement_loss(projected, settings.temperature)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            total += loss.detach()
        return total.item() / self.steps

    def state_dict(self) -> dict[str, Any]:
        """Network, head and optimiser."""
        return {
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.network.load_state_dict(state["network"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        """The backbone's weights."""
        return backbone_weights(self.network)


def agreement_loss(projected: Tensor, temperature: float) -> Tensor:
    """Normalised-temperature cross-entropy in nats (NT-Xent, Chen et al. 2020).

    Args:
        projected: (2B, D); row i and row i + B are views of the same image, all others are of other images.
        temperature: of the softmax over cosine similarities.
    """
    directions = functional.normalize(projected.float(), dim=1)
    similarity = directions @ directions.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    half = len(projected) // 2
    partner = torch.arange(2 * half, device=projected.device).roll(half)
    return functional.cross_entropy(similarity, partner)

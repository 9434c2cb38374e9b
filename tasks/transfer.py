"""Tuning of pre-trained networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.config.resolve import resolve
from noisybench.config.spec import Budget, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.lazy import MemmapImages
from noisybench.errors import UserError
from noisybench.networks import published_weights
from noisybench.nn.features import backbone_weights
from noisybench.nn.frozen import BackboneWithHead, FrozenBackbone
from noisybench.nn.spectrum import largest_singular_value_ratio, singular_value_entropy, singular_values
from noisybench.nn.weights import load_backbone_weights
from noisybench.tasks._images import ImageTask
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.learner import Outputs
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.utils.seeds import torch_seed

PRETRAINING_FIELDS = ("dataset", "noise", "budget", "seed")


class Transfer(ImageTask):
    """Tunes a pre-trained network on a further dataset, and tests it there and on shifted copies (Chen et al. 2024).

    The stack says what is tuned: `linear_probe`, `mlp_probe` and `nmtune` a head on the frozen backbone, `lora` low-rank
    changes of it, `full_finetuning` (or any stack without one of these) all weights. Everything that serves classification
    serves here, so that `elr+linear_probe` meets noise in the labels of the further dataset.

    The backbone is the budget's network. Its weights come from a pre-training on labels that may be wrong
    (`pretraining`: a dataset, its noise, a budget), from a file (`checkpoint`), or from those that torchvision or timm have
    `published`. With the dataset `features` the frozen backbone is the user's own, and the network is `features`. With a
    frozen backbone and no augmentation, every feature is computed once.

    Pre-training is part of the cell: stacks are compared on the same backbone, and its cost is charged to each run.
    Accuracy on shifted test sets (`dataset.test_shifts`) stands beside the accuracy on the dataset itself; nothing is
    chosen by it. At the end of training the record has the singular value entropy of the test features and the
    largest singular value ratio (minus the log of the first one's share: larger is weaker), of the backbone's features
    and of those that enter the classifier, in one `spectrum`; values of different ones do not compare.
    """

    compatible_with = "classification"

    pretraining: dict[str, Any] | None = parameter(
        None, help="what the backbone is trained on first: dataset, noise, budget, seed (by default that of the run)"
    )
    checkpoint: Path | None = parameter(None, help="a file with weights of the backbone")
    published: bool = parameter(False, help="download the weights that torchvision or timm have for the network")
    backbone: str = parameter("", help="a name for the cell, such as eta=0.1, where a checkpoint or features are given")
    spectrum: Literal["raw", "l2", "l2_rowmean", "l2_colmean"] = parameter(
        "l2_rowmean", help="features as they are, of norm one, and minus each row's or column's mean"
    )

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        self._known: dict[int, tuple[Any, Tensor]] = {}
        self._pretraining_accuracy: float | None = None

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """There is one source of weights, and the data are what it is for."""
        settings, problems = spec.task.parameters, super().check(spec, dataset)
        given = [name for name in ("pretraining", "checkpoint", "published") if settings[name]]
        if spec.budget.network == "features" and given:
            problems.append(f"task.{given[0]}: features have no backbone to be given weights; leave it out")
        elif spec.budget.network != "features" and len(given) != 1:
            problems.append(
                f"task: give one source of the backbone's weights (pretraining, checkpoint or published), but there "
                f"{'are ' + ', '.join(given) if given else 'is none'}"
            )
        pixels = dataset.train.inputs[:1]
        if pixels.dtype != "uint8" and spec.budget.augmentation != "none":
            problems.append("budget.augmentation: features cannot be augmented; set it to none")
        if pixels.dtype != "uint8" and spec.budget.network != "features":
            problems.append("budget.network: the dataset holds features; set it to `features`")
        problems += [
            f"mitigations.{each.name}: it gives the networks their initial weights, but those of the backbone are given by the "
            "task; leave one of them out"
            for each in spec.mitigations
            if each.build().requirements.sets_initial_weights
        ]
        if settings["pretraining"]:
            try:
                _resolved(settings["pretraining"], spec.budget.network, spec.seed)
            except UserError as error:
                problems += error.problems
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """A file of weights has all that the network needs."""
        file = spec.task.parameters["checkpoint"]
        try:
            if file:
                load_backbone_weights(Path(file).expanduser(), backbone_weights(network), "task.checkpoint")
        except UserError as error:
            return error.problems
        return []

    def prepare(self) -> None:
        """Give every network the pre-trained weights of the backbone."""
        wanted = backbone_weights(self.networks[0])
        if self.pretraining:
            run = _PreTraining(self, _resolved(self.pretraining, self.budget.network, self.seed))
            found = self.auxiliary(run)
            self._pretraining_accuracy = float(found.pop("observed_accuracy"))
        elif self.checkpoint:
            found = load_backbone_weights(self.checkpoint.expanduser(), wanted, "task.checkpoint")
        elif self.published:
            found = published_weights(self.budget.network, wanted)
        else:
            return
        self.load_pretrained(found)

    def normalize(self, images: Tensor) -> Tensor:
        """As for images; features are taken as they are."""
        return images.to(self.device) if images.dim() == 2 else super().normalize(images)

    def batches(self, steps: Sequence[BatchPlan]) -> Iterator[Batch]:
        """Batches of features that were computed once, where nothing changes them; else of augmented images."""
        data = self.training_set
        if not self._constant or self.stack.requirements.views != ("weak",):
            yield from super().batches(steps)
            return
        features = self._features(data.inputs)
        for step in steps:
            yield Batch(
                {"weak": features[step.index]}, data.targets[step.index], step.index, data.num_classes, phase=step.phase
            )

    def evaluate(self, inputs: Tensor | DiskTensor, network: int, stage: int | None = None) -> Outputs:
        """As for images, from known features where the backbone is frozen."""
        if stage is None and self._constant:
            inputs = self._features(inputs)
        return super().evaluate(inputs, network, stage)

    def final_diagnostics(self, inputs: Tensor | DiskTensor) -> dict[str, float]:
        """Flatness of the spectra of the backbone's features and of those that enter the classifier."""
        found = {"pretraining_accuracy": self._pretraining_accuracy} if self._pretraining_accuracy is not None else {}
        network = self.networks[0]
        if isinstance(network, BackboneWithHead) and isinstance(network.backbone, FrozenBackbone):
            found |= self._flatness("backbone", self._features(inputs))
        return found | self._flatness("classifier_input", self._collected(inputs, network))

    def _flatness(self, name: str, features: Tensor) -> dict[str, float]:
        singular = singular_values(features.cpu(), self.spectrum)
        return {
            f"{name}.singular_value_entropy": singular_value_entropy(singular),
            f"{name}.largest_singular_value_ratio": largest_singular_value_ratio(singular),
        }

    @property
    def _constant(self) -> bool:
        """Whether every network sees the same features of an example each time."""
        frozen = [
            isinstance(each, BackboneWithHead) and isinstance(each.backbone, FrozenBackbone) for each in self.networks
        ]
        return all(frozen) and self.budget.augmentation == "none"

    def _features(self, inputs: Tensor | DiskTensor) -> Tensor:
        """(N, D) features from the frozen backbone, computed once for the same inputs."""
        if id(inputs) not in self._known:
            network = self.networks[0]
            assert isinstance(network, BackboneWithHead)
            # The inputs are kept as well, so that no others can come to have their number.
            self._known[id(inputs)] = (inputs, self._collected(inputs, network.backbone))
        return self._known[id(inputs)][1]

    @torch.no_grad()
    def _collected(self, inputs: Tensor | DiskTensor, network: nn.Module) -> Tensor:
        training, size, parts = network.training, self.eval_batch_size(inputs), []
        network.eval()
        for start in range(0, len(inputs), size):
            images = self.normalize(inputs[start : start + size])
            with self.autocast():
                seen = network(images) if isinstance(network, FrozenBackbone) else self.features_of(network, images)
            parts.append(seen.float())
        network.train(training)
        return torch.cat(parts)


def _resolved(pretraining: dict[str, Any], network: str, seed: int) -> RunSpec:
    """The pre-training as a run of its own, of plain cross-entropy.

    Raises:
        UserError: every problem found.
    """
    unknown = [key for key in pretraining if key not in PRETRAINING_FIELDS]
    budget = pretraining.get("budget") or {}
    problems = [f"{key}: it has {', '.join(PRETRAINING_FIELDS)} alone" for key in unknown]
    if not isinstance(budget, dict) or budget.get("network", network) != network:
        problems.append(f"budget: its network is that of the run, {network}; leave it out there")
    try:
        if not problems:
            fields = {key: value for key, value in pretraining.items() if value is not None}
            return resolve({"seed": seed, **fields, "budget": {**budget, "network": network}})
    except UserError as error:
        problems += error.problems
    raise UserError(*(f"task.pretraining.{each}" for each in problems))


class _PreTraining(AuxiliaryRun):
    """Plain training on the labels of another dataset, as they are observed."""

    def __init__(self, task: Transfer, spec: RunSpec) -> None:
        self.device, self.epochs = task.device, spec.budget.epochs
        dataset = spec.dataset.build().load()
        labels = spec.noise.build().apply(dataset)
        applied = labels.apply_to(dataset)
        images = applied.train.inputs
        inputs = DiskTensor(images) if isinstance(images, MemmapImages) else torch.from_numpy(images)
        channels = task.training_set.inputs.shape[1]
        if inputs.shape[1] != channels:
            raise UserError(
                f"task.pretraining.dataset: its images have {inputs.shape[1]} channels, but those of the run {channels}"
            )
        self.data = TrainingSet(inputs, torch.from_numpy(labels.train), applied.num_classes)
        self.examples = len(self.data)
        noise = spec.noise.display_name(hide=("path", "seed"))
        self.title = f"pre-training · {spec.dataset_label} · {noise} · {spec.budget.network}"
        self.cache_key = {
            "kind": "pre-training",
            "inputs": self.data.inputs_digest,
            "targets": self.data.targets_digest,
            "classes": self.data.num_classes,
            "budget": spec.budget.model_dump(mode="json"),
            "seed": spec.seed,
        }
        seed = torch_seed("pre-training", spec.seed)
        self.worker = ImageTask(spec.budget, seed, self.data, Stack([])).to(self.device)
        self.data.move_to(self.device)
        self.optimizer: Any = self.worker.configure_optimizers()

    def train_epoch(self, epoch: int) -> float:
        """As the run itself would."""
        return train_epoch(self.worker, self.optimizer, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the networks and the optimizer."""
        return {"network": self.worker.networks.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of the networks and the optimizer."""
        self.worker.networks.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def result(self) -> dict[str, Tensor]:
        """The backbone's weights, and how many of the observed labels the whole network has learned."""
        predicted = self.worker.training_outputs(0).probabilities.argmax(1)
        learned = (predicted == self.data.targets.to(predicted.device)).double().mean()
        return {**backbone_weights(self.worker.networks[0]), "observed_accuracy": learned}

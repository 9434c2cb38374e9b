"""Transfer learning from pretrained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.config.parameters import parameter
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.texts import is_text
from noisybench.errors import UserError
from noisybench.networks import published_weights
from noisybench.nn.features import backbone_weights
from noisybench.nn.frozen import has_frozen_backbone
from noisybench.nn.spectrum import largest_singular_value_ratio, singular_value_entropy, singular_values
from noisybench.nn.weights import load_backbone_weights
from noisybench.tasks._constant_features import ConstantFeatureTask
from noisybench.tasks._images import BUDGET_VIEWS
from noisybench.tasks._pretraining import Pretraining, load_pretraining, resolve_pretraining
from noisybench.training.roles import ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor, TrainingSet
from noisybench.training.views import describe_view
from noisybench.utils.places import expand_user

FEATURE_NETWORKS = ("features", "features_mlp")
"""Networks, and families of networks, whose inputs are precomputed features."""


class Transfer(ConstantFeatureTask):
    """Transfer learning: adapt a pretrained network to a downstream dataset, and test it there and on shifted copies.

    The stack decides what is trained (Chen et al. 2024): `linear_probe`, `mlp_probe` and `nmtune` train a head on the frozen
    backbone, `lora` trains low-rank updates, and `full_finetuning` (or any stack without one of these) trains all weights.
    All mitigations for classification can be used, so that `elr+linear_probe` handles noisy downstream labels.

    The backbone is the budget's network. Its weights come from pre-training on possibly noisy labels (`pretraining`: a
    dataset, its noise, a budget), from a file (`checkpoint`), or from torchvision or timm (`published`). With the dataset
    `features`, the features are precomputed, and the network is `features` or `features_mlp:WIDTHS`. With a frozen
    backbone and no augmentation, every feature is computed once.

    Pre-training is part of the setting: stacks are compared on the same backbone, and its cost is charged to each run.
    Accuracy on shifted test sets (`dataset.test_shifts`) is reported beside the accuracy on the dataset itself and never
    used for selection. At the end of training the record has the singular value entropy of the test features and the largest
    singular value ratio (minus the logarithm of the share of the largest one: larger is weaker), both for the features of the
    backbone and for those that enter the classifier. Values of different `spectrum` settings are not comparable.

    Example:
        >>> images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
        >>> data = TrainingSet(images, torch.arange(8) % 2, num_classes=2)
        >>> task = Transfer(Budget(network="mlp:4", epochs=1), seed=0, training_set=data, stack=Stack([]))
        >>> sorted(task.final_diagnostics(images))
        ['classifier_input.largest_singular_value_ratio', 'classifier_input.singular_value_entropy']
    """

    compatible_with = "classification"

    pretraining: dict[str, Any] | None = parameter(
        None,
        help="Pre-training of the backbone: dataset, noise, budget, and seed (default: that of the run)",
        access="run",
    )
    checkpoint: Path | None = parameter(None, help="File with the weights of the backbone")
    published: bool = parameter(
        False, help="Whether to download the weights that torchvision or timm publish", access="weights"
    )
    backbone: str = parameter(
        "", help="Name of the backbone in the setting, such as eta=0.1, for a checkpoint or features", access="value"
    )
    spectrum: Literal["raw", "l2", "l2_rowmean", "l2_colmean"] = parameter(
        "l2_rowmean",
        help="Normalization of the features before their spectrum: none, unit norm, and centered rows or columns",
    )

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        self._pretraining_accuracy: float | None = None

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return problems if there is not exactly one source of weights, or if the dataset does not fit it."""
        settings, problems = spec.task.parameters, super().check(spec, dataset)
        sources = [name for name in ("pretraining", "checkpoint", "published") if settings[name]]
        is_for_features = spec.budget.network.partition(":")[0] in FEATURE_NETWORKS
        if is_for_features and sources:
            problems.append(f"task.{sources[0]}: features have no backbone to load weights into; remove it")
        elif not is_for_features and len(sources) != 1:
            problems.append(
                f"task: give one source of the backbone's weights (pretraining, checkpoint or published), but there "
                f"{'are ' + ', '.join(sources) if sources else 'is none'}"
            )
        inputs = dataset.train.inputs[:1]
        if is_text(inputs):
            return [
                f"dataset: {spec.dataset.name} holds texts, and networks train on their features; compute them with "
                "`noisybench embed`, --backbone minilm and -o features.npz, and train with dataset=features "
                "dataset.path=features.npz"
            ]
        if inputs.dtype != "uint8" and spec.budget.augmentation != "none":
            problems.append("budget.augmentation: features cannot be augmented; set it to none")
        if inputs.dtype != "uint8" and not is_for_features:
            problems.append(
                "budget.network: the dataset holds features; set it to `features`, a linear classifier, or to "
                "`features_mlp:256`, one with a hidden layer"
            )
        if inputs.dtype != "uint8":
            problems += [
                f"mitigations.{component.name}: it trains on views of images ({', '.join(map(describe_view, views))}), but the "
                "dataset holds features; choose another mitigation, or parameters without these views"
                for component in spec.mitigations
                if (views := [view for view in component.build().requirements.views if view not in BUDGET_VIEWS])
            ]
        problems += [
            f"mitigations.{component.name}: it sets the initial weights of the networks, but the task sets those of the "
            "backbone; remove one of them"
            for component in spec.mitigations
            if component.build().requirements.sets_initial_weights
        ]
        if spec.budget.network.startswith("features_mlp:"):
            problems += [
                f"mitigations.{component.name}: it freezes the layers before the classifier, but those of "
                f"{spec.budget.network} are not pre-trained; set budget.network to features"
                for component in spec.mitigations
                if component.name != "full_finetuning" and isinstance(component.build(), ModelBuilder)
            ]
        # Resolved before training too, so that a mistake in its fields is reported with all the others.
        if settings["pretraining"]:
            try:
                pretraining = resolve_pretraining(settings["pretraining"], spec.budget.network, spec.seed)
                load_pretraining(pretraining, dataset.train.inputs.shape[1])
            except UserError as error:
                problems += error.problems
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: nn.Module, dataset: Dataset) -> list[str]:
        """Return problems if the network has other outputs, or if the checkpoint lacks weights of it."""
        file, problems = spec.task.parameters["checkpoint"], super().check_network(spec, network, dataset)
        try:
            # Only checks the file, before anything is trained; `prepare` loads the weights.
            if file:
                load_backbone_weights(expand_user(Path(file)), backbone_weights(network), "task.checkpoint")
        except UserError as error:
            problems += error.problems
        return problems

    def prepare(self) -> None:
        """Load the pretrained weights of the backbone into every network."""
        expected = backbone_weights(self.networks[0])
        if self.pretraining:
            run = Pretraining(self, resolve_pretraining(self.pretraining, self.budget.network, self.seed))
            weights = self.auxiliary(run)
            # Stored among the weights, because the result of an auxiliary run consists of tensors only; removed here,
            # because the networks have no such weight.
            self._pretraining_accuracy = float(weights.pop("observed_accuracy"))
        elif self.checkpoint:
            weights = load_backbone_weights(expand_user(self.checkpoint), expected, "task.checkpoint")
        elif self.published:
            weights = published_weights(self.budget.network, expected)
        else:
            return
        self.load_pretrained(weights)

    def final_diagnostics(self, inputs: Tensor | DiskTensor) -> dict[str, float]:
        """Return the flatness of the spectra of the backbone's features and of those that enter the classifier."""
        diagnostics = {}
        if self._pretraining_accuracy is not None:
            diagnostics["pretraining_accuracy"] = self._pretraining_accuracy
        network = self.networks[0]
        entering = self.extract_features(inputs, network)
        flatness = self._flatness(entering)
        if has_frozen_backbone(network):
            features = self.constant_features(inputs)
            # A linear probe classifies the features themselves, whose singular values take longer than an epoch.
            of_backbone = flatness if torch.equal(features, entering) else self._flatness(features)
            diagnostics |= {f"backbone.{name}": value for name, value in of_backbone.items()}
        return diagnostics | {f"classifier_input.{name}": value for name, value in flatness.items()}

    def _flatness(self, features: Tensor) -> dict[str, float]:
        singular = singular_values(features.cpu(), self.spectrum)
        return {
            "singular_value_entropy": singular_value_entropy(singular),
            "largest_singular_value_ratio": largest_singular_value_ratio(singular),
        }

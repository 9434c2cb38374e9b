"""Verification of the steps of solutions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.texts import is_text, texts_of
from noisybench.data.traces.steps import StepPlaces
from noisybench.errors import UserError
from noisybench.networks._step_verifier import StepVerifier, build_verifier
from noisybench.networks._text_encodings import TextEncodings
from noisybench.networks.decoder import Decoder
from noisybench.nn.frozen import has_frozen_backbone
from noisybench.tasks._constant_features import ConstantFeatureTask
from noisybench.tasks._language_pretraining import LanguagePretraining, num_bytes
from noisybench.tasks._step_evaluator import StepEvaluator
from noisybench.training.learner import Outputs
from noisybench.training.mitigation import public_name
from noisybench.training.roles import ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.training_set import DiskTensor

EVAL_BATCH_SIZE, MAX_EVAL_SCORES = 256, 2**26
"""Number of texts to evaluate at a time, and of the scores of their tokens: 256 MiB in single precision."""


class StepVerification(ConstantFeatureTask):
    """Verification of the steps of solutions: whether a step, and every step before it, is correct.

    The verifier is a language model, a decoder of bytes or one of Hugging Face, with a classifier on its state after the
    step and on the likelihood that it gives to the tokens of the steps. A decoder can first learn to write the training
    solutions, without their labels (`pretraining_epochs`). The stack decides what is trained: `linear_probe` and
    `mlp_probe` train a head on frozen features, which are computed once, any other stack trains all weights.

    The score is the accuracy of the test steps. The record also has the F1 of the first incorrect step (as in
    ProcessBench: the harmonic mean of the accuracies on solutions with and without an error), and the accuracy of the
    solution that the verifier prefers among those of each problem, beside that of a random one and of the best one.

    Example:
        >>> import torch
        >>> from noisybench.config.budget import Budget
        >>> from noisybench.data.texts import text_bytes
        >>> from noisybench.tasks.datasets.traced_steps import TracedSteps
        >>> from noisybench.training.stack import Stack
        >>> from noisybench.training.training_set import TrainingSet
        >>> dataset = TracedSteps(train_problems=4, test_problems=2).load()
        >>> inputs = torch.from_numpy(text_bytes(dataset.train.inputs))
        >>> data = TrainingSet(inputs, torch.from_numpy(dataset.train.targets), dataset.num_classes)
        >>> task = StepVerification(Budget(network="decoder:16x1"), seed=0, training_set=data, stack=Stack([]))
        >>> task.predict(inputs[:3]).shape
        torch.Size([3, 2])
    """

    compatible_with = "classification"
    evaluator = StepEvaluator
    # Of a text, the second view is equal to the first.
    views = ("weak", "weak_2")
    batchings = ("bucketed",)

    pretraining_epochs: int = parameter(
        0, ge=0, le=1000, help="Number of epochs in which a decoder first learns to write the training solutions"
    )

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return problems if the dataset has no steps, or if the budget or the stack changes their texts."""
        if not is_text(dataset.train.inputs[:1]):
            return [f"dataset: {spec.dataset.name} has no steps of solutions; choose step_file or traced_steps"]
        problems: list[str] = []
        try:
            for split in (dataset.train, dataset.validation, dataset.test):
                StepPlaces.of(split)
        except UserError as error:
            problems += error.problems
        if spec.budget.augmentation != "none":
            problems.append("budget.augmentation: texts cannot be augmented; set it to none")
        problems += [
            f"mitigations.{component.name}: it sets initial weights by pre-training on images; remove it, or set "
            "task.pretraining_epochs to pre-train a decoder on texts"
            for component in spec.mitigations
            if component.build().requirements.sets_initial_weights
        ]
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """Return problems if the network is no language model or reads mixed texts, or if its context is too short."""
        name = spec.budget.network
        if not hasattr(network, "context_length"):
            return [
                f"budget.network: `{name}` reads no texts; choose a decoder such as decoder:64x2, or a language model such as "
                "huggingface:FOLDER"
            ]
        is_decoder = isinstance(network, Decoder)
        if spec.task.parameters["pretraining_epochs"] and not is_decoder:
            return [f"task.pretraining_epochs: `{name}` is pre-trained already; set it to 0"]
        stack = Stack([component.build() for component in spec.mitigations])
        # The mean of two texts, byte by byte, is no text; features of a frozen model are vectors, which have means.
        if stack.requirements.mixes_samples and not _freezes(stack, network):
            return [
                f"mitigations.{public_name(mitigation)}: it mixes inputs, but texts have no mean; add mlp_probe or "
                "linear_probe, which train on features of a frozen model, or remove it"
                for mitigation in stack.mitigations
                if mitigation.requirements.mixes_samples
            ]
        if spec.budget.batching and not spec.task.parameters["pretraining_epochs"] and _freezes(stack, network):
            return ["budget.batching: features of a frozen model all have the same size; set it to null"]
        splits = (dataset.train, dataset.validation, dataset.test)
        longest, text = _longest([text for split in splits for text in texts_of(split.inputs[:])], network)
        if longest <= network.context_length:
            return []
        advice = f"decoder:64x2x{longest}" if is_decoder else "a model with a longer context"
        return [
            f"budget.network: the solution of {text[:40]!r} needs a context of {longest} tokens, but `{name}` has "
            f"{network.context_length}; choose {advice}, or leave out longer solutions"
        ]

    @classmethod
    def example_input(cls, dataset: Dataset) -> None:
        """Return None: `check_network` covers it."""

    def build_network(self) -> nn.Module:
        """Return a verifier on the language model of the budget."""
        return build_verifier(self.budget.network, self.training_set.num_classes)

    def prepare(self) -> None:
        """Train the decoder as a language model, if the task says so."""
        if not self.pretraining_epochs:
            return
        data = self.training_set
        run = LanguagePretraining(
            self.budget.network,
            data.inputs[:],
            data.inputs_digest,
            self.pretraining_epochs,
            self.seed,
            self.device,
            bucketed=self.budget.batching == "bucketed",
        )
        weights = self.auxiliary(run)
        self.load_pretrained({f"model.{name}": tensor.to(self.device) for name, tensor in weights.items()})

    def normalize(self, images: Tensor) -> Tensor:
        """Return bytes of texts as floating-point numbers, so that targets may be soft, or features unchanged."""
        return images.to(self.device).float()

    def build_models(self) -> None:
        """Replace every network by the model that the stack builds from it; features of frozen ones have no lengths."""
        super().build_models()
        if self.budget.batching == "bucketed" and not self.has_constant_features:
            self.sampler.lengths = num_bytes(self.training_set.inputs[:][:, 0, 0]).cpu()

    def evaluate(self, inputs: Tensor | DiskTensor, network: int, stage: int | None = None) -> Outputs:
        """Return the predictions of one network, computed for texts of similar length at a time."""
        if len(inputs.shape) == 2 or (stage is None and self.has_constant_features):
            return super().evaluate(inputs, network, stage)
        order, back = _by_length(inputs)
        outputs = super().evaluate(inputs[order], network, stage)
        return Outputs(outputs.logits[back], None if outputs.features is None else outputs.features[back])

    def extract_features(self, inputs: Tensor | DiskTensor, network: nn.Module) -> Tensor:
        """Return the (N, D) features that a network computes of texts, of similar length at a time."""
        order, back = _by_length(inputs)
        return super().extract_features(inputs[order], network)[back]

    def start_epoch(self) -> None:
        """Start an epoch; texts of different lengths cannot be replayed as one CUDA graph."""
        self.captured.enabled = self.captured.enabled and self.has_constant_features
        super().start_epoch()

    def eval_batch_size(self, inputs: Tensor | DiskTensor) -> int:
        """Return the number of inputs to evaluate at a time: few texts, whose scores take memory, or many features."""
        if len(inputs.shape) == 2:
            return super().eval_batch_size(inputs)
        (verifier,) = (module for module in self.networks[0].modules() if isinstance(module, StepVerifier))
        return max(1, min(EVAL_BATCH_SIZE, MAX_EVAL_SCORES // (inputs.shape[-1] * verifier.vocabulary_size)))


def _by_length(inputs: Tensor | DiskTensor) -> tuple[Tensor, Tensor]:
    """Return the positions of texts in ascending length, on their device, and the positions that lead back."""
    order = num_bytes(inputs[:][:, 0, 0]).argsort(stable=True)
    return order, order.argsort()


def _freezes(stack: Stack, network: nn.Module) -> bool:
    """Return True if the stack trains a head on features of the frozen network, which is on the meta device."""
    if not stack.with_role(ModelBuilder):
        return False
    with torch.device("meta"):
        return has_frozen_backbone(stack.build_model(copy.deepcopy(network)))


def _longest(texts: Sequence[str], network: Any) -> tuple[int, str]:
    """Return the largest number of tokens of a text, and the text."""
    if isinstance(network, Decoder):
        return max((len(text.encode()), text) for text in texts)
    encodings = TextEncodings(network.tokenizer).encode(texts)
    return max((len(encoding.tokens), text) for text, encoding in zip(texts, encodings, strict=True))

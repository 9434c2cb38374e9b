"""Roles of mitigations: the parts of a run that a mitigation changes. Each role has one abstract method.

A mitigation may have several roles: ``class DivideMix(LossFunction, EpochPlanner, DetectorProvider)``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.mitigation import BatchLoss, Mitigation
from noisybench.training.training_set import DiskTensor, TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class LossFunction(Mitigation, abc.ABC):
    """A mitigation that defines the training loss. A stack has at most one; without it the task's default is used.

    >>> from noisybench.training.batch import cross_entropy
    >>> class HalfCrossEntropy(LossFunction):
    ...     def loss(self, task, batch):
    ...         return 0.5 * cross_entropy(task.logits(batch.inputs), batch)
    >>> isinstance(HalfCrossEntropy(), Mitigation)
    True
    """

    @abc.abstractmethod
    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return (B,) nats per sample. `batch.targets` are (B, C) probabilities, as changed by loss wrappers."""


class LossWrapper(Mitigation, abc.ABC):
    """A mitigation that changes the batch or the value of the rest of the stack's loss.

    >>> class Halved(LossWrapper):
    ...     def wrap_loss(self, task, batch, inner_loss):
    ...         return 0.5 * inner_loss(batch)
    >>> Halved().wrap_loss(None, 4.0, lambda batch: batch)
    2.0
    """

    @abc.abstractmethod
    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return (B,) nats per sample from the loss of the rest of the stack."""


class SampleSelector(Mitigation, abc.ABC):
    """A mitigation that weights or leaves out training examples once, before training.

    >>> import torch
    >>> class FirstHalf(SampleSelector):
    ...     def sample_weights(self, task, training_set):
    ...         return (torch.arange(len(training_set)) < len(training_set) / 2).float()
    >>> FirstHalf().sample_weights(None, [10, 20, 30, 40])
    tensor([1., 1., 0., 0.])
    """

    @abc.abstractmethod
    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) finite weights >= 0; zero leaves an example out."""


class EpochPlanner(Mitigation, abc.ABC):
    """A mitigation that decides which examples each step of an epoch contains. A stack has at most one.

    >>> class OneBatch(EpochPlanner):
    ...     def plan_epoch(self, task):
    ...         return [BatchPlan(task.shuffled())]
    >>> OneBatch().requirements.networks
    1
    """

    @abc.abstractmethod
    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """Return the steps of the next epoch; None uses batches of the shuffled training set."""


class GradientTransform(Mitigation, abc.ABC):
    """A mitigation that changes the gradients of every step, after the backward pass and before they are clipped.

    >>> class Halved(GradientTransform):
    ...     def transform_gradients(self, task):
    ...         for parameter in task.networks.parameters():
    ...             parameter.grad.mul_(0.5)
    >>> issubclass(Halved, Mitigation)
    True
    """

    @abc.abstractmethod
    def transform_gradients(self, task: Learner) -> None:
        """Change gradients in place, as replayed steps on a GPU need. They are sums over all processes."""


class StepCallback(Mitigation, abc.ABC):
    """A mitigation that runs code after every optimizer step, such as a moving average of weights.

    >>> class Clamped(StepCallback):
    ...     def on_step_end(self, task):
    ...         for parameter in task.networks.parameters():
    ...             parameter.data.clamp_(-1, 1)
    >>> issubclass(Clamped, Mitigation)
    True
    """

    @abc.abstractmethod
    def on_step_end(self, task: Learner) -> None:
        """Run after the optimizer has changed the weights; change weights in place, as replayed steps need."""


class ModelBuilder(Mitigation, abc.ABC):
    """A mitigation that replaces the network to train: another head, a frozen backbone, adapters. At most one.

    >>> class Frozen(ModelBuilder):
    ...     def build_model(self, network):
    ...         return network.requires_grad_(False)
    >>> Frozen().build_model(nn.Linear(2, 3)).weight.requires_grad
    False
    """

    @abc.abstractmethod
    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the network to train, built from the task's network with its initial weights."""


class PostProcessor(Mitigation, abc.ABC):
    """A mitigation that changes the trained networks after the last epoch.

    >>> class ZeroBias(PostProcessor):
    ...     def refine(self, task, training_set):
    ...         for network in task.networks:
    ...             nn.init.zeros_(network.bias)
    ...         return True
    >>> issubclass(ZeroBias, Mitigation)
    True
    """

    @abc.abstractmethod
    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Change the networks, and return True if any of them was changed."""

    def training_logits(self, network: int) -> Tensor | None:
        """Return the (N, C) scores of the training examples after `refine`, if not those of the changed network itself.

        Args:
            network: number of the network.
        """
        return None

    def rebuild(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        """Give a newly built network the modules that `refine` has put into it, before saved weights are loaded.

        Args:
            network: network as the rest of the stack builds it.
            weights: its saved weights by name.
        """


class Decoder(Mitigation, abc.ABC):
    """A mitigation that decodes responses in another way than greedily, for tasks that generate text. At most one.

    >>> class Silent(Decoder):
    ...     def decode(self, task, inputs, length):
    ...         return [""] * len(inputs)
    >>> Silent().decode(None, ["1 + 1"], 8)
    ['']
    """

    @abc.abstractmethod
    def decode(self, task: Any, inputs: Any, length: int) -> list[str]:
        """Return one response of at most `length` tokens for each prompt."""


@dataclass
class Detector:
    """Scores of one detector of label noise for the training set.

    Attributes:
        score: (N,) finite numbers, higher where the label is more likely incorrect.
        flagged: (N,) bool, True where the detector considers the label incorrect.
        mixture: weights, means and standard deviations of two components fitted to the score, if any.

    >>> import torch
    >>> losses = torch.tensor([0.1, 2.3])
    >>> Detector(losses, losses > 1.0).flagged
    tensor([False,  True])
    """

    score: Tensor
    flagged: Tensor
    mixture: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None


class DetectorProvider(Mitigation, abc.ABC):
    """A mitigation that detects label noise. The evaluator compares its detectors with the clean labels.

    >>> import torch
    >>> class FlagsNothing(DetectorProvider):
    ...     def detectors(self, task, training_set):
    ...         return {"constant": Detector(torch.zeros(len(training_set)), torch.zeros(len(training_set)) > 0)}
    >>> list(FlagsNothing().detectors(None, [1, 2]))
    ['constant']
    """

    @abc.abstractmethod
    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the detectors by name, as they are after the current epoch."""


@dataclass
class Probe:
    """Additional classifiers that the evaluator scores beside the deployed prediction. None of them is deployed.

    Attributes:
        axis: name of the quantity in which the classifiers differ, such as ``rank``.
        positions: (R,) increasing values of that quantity.
        predict: maps inputs to (R + controls, N) predicted classes.
        controls: names of further classifiers that are not on the axis.
        energy: maps (N, K) centered targets of the training set to the (R,) fractions that each position can express.
        diagnostics: numbers about the features.

    >>> import torch
    >>> Probe("rank", [1, 2], lambda inputs: torch.zeros(2, len(inputs), dtype=torch.int64)).controls
    ()
    """

    axis: str
    positions: Sequence[int]
    predict: Callable[[Tensor | DiskTensor], Tensor]
    controls: tuple[str, ...] = ()
    energy: Callable[[Tensor], Tensor] | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)


class ProbeProvider(Mitigation, abc.ABC):
    """A mitigation with classifiers that are evaluated but not deployed.

    >>> class NoProbe(ProbeProvider):
    ...     def probe(self, task, training_set, epochs, last):
    ...         return None
    >>> NoProbe().probe(None, None, 0, False) is None
    True
    """

    @abc.abstractmethod
    def probe(self, task: Learner, training_set: TrainingSet, epochs: int, last: bool) -> Probe | None:
        """Return the probe after some epochs, before any post-processing; None for no probe at this time.

        Args:
            task: the task as trained so far.
            training_set: the training set with observed targets.
            epochs: number of epochs trained so far; 0 before the first.
            last: True once training has finished.
        """


class LabelPosterior(Mitigation, abc.ABC):
    """A mitigation that infers the clean class of an example from its prediction and its observed class alone.

    The evaluator then needs the predictions of a sample only, see `Budget.train_eval_size`.

    >>> import torch
    >>> class KnowsAll(LabelPosterior):
    ...     def posterior(self, probabilities, observed):
    ...         return torch.eye(probabilities.shape[1])[observed]
    >>> KnowsAll().posterior(torch.full((2, 2), 0.5), torch.tensor([1, 0]))
    tensor([[0., 1.],
            [1., 0.]])
    """

    @abc.abstractmethod
    def posterior(self, probabilities: Tensor, observed: Tensor) -> Tensor | None:
        """Return the (B, C) probabilities of the clean classes; None before they can be inferred.

        Args:
            probabilities: (B, C) deployed prediction.
            observed: (B,) observed targets.
        """

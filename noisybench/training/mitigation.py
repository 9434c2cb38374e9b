"""The contract of mitigations: the base class and the requirements that a mitigation declares.

A mitigation extends the base class `Mitigation`, or one or several of its roles in `noisybench.training.roles`:
`LossFunction`, `LossWrapper`, `SampleSelector`, `EpochPlanner`, `GradientTransform`, `StepCallback`, `ModelBuilder`,
`PostProcessor`, `Decoder`, `DetectorProvider`, `ProbeProvider`, `LabelPosterior`. Each role adds one abstract method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from noisybench.config.parameters import Configurable, parameter
from noisybench.data.privileged import PrivilegedInfo
from noisybench.training.batch import Batch
from noisybench.training.optimizers import OptimizerSettings
from noisybench.training.phases import Phase
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import View

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner

BatchLoss = Callable[[Batch], Tensor]
"""Maps a batch to (B,) nats per sample, to be minimized on average."""


@dataclass(frozen=True)
class Requirements:
    """Everything that a mitigation needs from the task, the data and the other mitigations of its stack.

    Attributes:
        networks: number of networks to train.
        ensemble: deploy several networks instead of the first: the mean of their ``"probabilities"``, or the softmax of the
            mean of their ``"logits"``, which weighs confident networks more. Evaluation, label quality and corrected labels use
            it.
        deployed: number of networks that an ensemble deploys, from the first; all by default. The others are not deployed, such
            as moving averages of weights that guide the training; averages that are deployed come first.
        views: names from `VIEWS`, or a `PolicyView` with parameters, that the loss reads; the weak view is always available.
        privileged: names from `PRIVILEGED` that the mitigation reads; they are shown on the leaderboard.
        feature_stage: stage of the network whose pooled outputs on the training set are read after each epoch.
        lr_multiplier: factor applied to the learning rate of the budget.
        head_optimizers: optimizers of the heads that are not trained by the budget's, by the name of the head.
        phases: parts of the training in order, each with an optimizer, a schedule and first weights of its own; by default
            the training is one.
        keep_step_count: keep the number of steps of an epoch when examples are left out, by visiting the others more often.
        per_sample_state: the loss keeps state per sample.
        follows_mixing: that state is kept up to date from `Batch.mixing` where another mitigation mixes the samples; a loss
            with state per sample cannot follow such a mitigation otherwise.
        mixes_samples: the mitigation mixes samples, which then have no loss of their own.
        repeats_loss: the mitigation computes the loss of each batch more than once, which would update state per sample as often.
        trains_copies: the mitigation trains every network of several with the rest of the stack.
        sets_initial_weights: the mitigation initializes the networks, which a pre-trained backbone does not allow.
        freezes_layers: the mitigation trains some layers at a time, which one that builds the model decides as well.
        replaces_classifier: the mitigation replaces the trained classifier after training, as only one of a stack can.
        keeps_weights: reason why the networks are trained as without the mitigation, such as a method that only changes
            decoding; empty for all others, whose weights must differ from those of cross-entropy.
        distributed_state: how entries of `state` that are written during an epoch are synchronized in data-parallel
            training: ``"gather"`` the rows of samples, or ``"sum"``. None if data-parallel training is not supported.

    >>> Requirements(networks=2, ensemble="probabilities").networks
    2
    """

    networks: int = 1
    ensemble: Literal["probabilities", "logits"] | None = None
    deployed: int | None = None
    views: tuple[View, ...] = ("weak",)
    privileged: tuple[str, ...] = ()
    feature_stage: int | None = None
    lr_multiplier: float = 1.0
    head_optimizers: Mapping[str, OptimizerSettings] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    keep_step_count: bool = True
    per_sample_state: bool = False
    follows_mixing: bool = False
    mixes_samples: bool = False
    repeats_loss: bool = False
    trains_copies: bool = False
    sets_initial_weights: bool = False
    freezes_layers: bool = False
    replaces_classifier: bool = False
    keeps_weights: str = ""
    distributed_state: Mapping[str, Literal["gather", "sum"]] | None = None

    @property
    def needs_unmixed_samples(self) -> bool:
        """True if the loss cannot follow a mitigation that mixes samples."""
        return self.per_sample_state and not self.follows_mixing

    @property
    def trains_fresh_weights(self) -> bool:
        """True if a phase initializes the networks anew."""
        return any(phase.weights == "fresh" for phase in self.phases)


class Mitigation(Configurable):
    """Base class of a method that makes training robust to label noise. Every method is optional.

    A new mitigation is one file in `noisybench/mitigations/` with one public class; its name is that of the file.
    Draw random numbers from `task.generator` or `task.rng`, which restart from named streams in every epoch.

    Attributes:
        state: tensors that live on the training device, are saved in every checkpoint, and are restored.
        privileged: the privileged information that `requirements` declares.
        diagnostics: numbers about the current epoch, for its row in the record.
        warnings: messages about the current epoch for its row, such as a fallback that was used.

    A complete mitigation, here a loss with one parameter:

    >>> import torch
    >>> from noisybench.config.parameters import parameter
    >>> from noisybench.training.roles import LossFunction
    >>> class MeanAbsoluteError(LossFunction):
    ...     '''Mean absolute error between probabilities and targets (Ghosh et al. 2017).'''
    ...
    ...     weight: float = parameter(1.0, gt=0, low=0.1, high=2.0, help="Weight of the loss")
    ...
    ...     def loss(self, task, batch):
    ...         probabilities = task.logits(batch.inputs).softmax(1)
    ...         return self.weight * (probabilities - batch.targets).abs().sum(1)
    >>> class UniformTask:
    ...     def logits(self, inputs):
    ...         return torch.zeros(len(inputs), 2)
    >>> batch = Batch({"weak": torch.zeros(3, 1)}, torch.tensor([0, 1, 0]), torch.arange(3), num_classes=2)
    >>> MeanAbsoluteError(weight=0.5).loss(UniformTask(), batch)
    tensor([0.5000, 0.5000, 0.5000])
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    privileged: PrivilegedInfo

    preset: str | None = parameter(
        None,
        access="value",
        help="Published settings: `paper` for those of the dataset and its noise, or the name of a row of `noisybench describe`",
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.state: dict[str, Tensor] = {}
        self.diagnostics: dict[str, float] = {}
        self.warnings: list[str] = []

    @property
    def requirements(self) -> Requirements:
        """The needs of this mitigation with its current parameters."""
        return Requirements()

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return parameter sets with which the contract tests train it for three epochs: one for each mode."""
        return ({},)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Return the problems of a run before anything is trained.

        Args:
            network: one of the run's networks, on the meta device (without values).
            budget: the run's training budget.
            examples: number of training examples.
        """
        return []

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Return the problems of a run with its observed data before anything is trained.

        Called once `check` has found no problem, with `privileged` set. What can be known from the data is refused here,
        so that a valid run is not refused later; an error that only training can reveal is a `TrainingError`.

        Args:
            training_set: inputs and observed targets.
            network: one of the run's networks, on the meta device (without values).
            seed: seed of the run.
        """
        return []

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Create the initial `state` and heads. Called once before training, and before a checkpoint is restored."""

    def on_epoch_start(self, task: Learner) -> None:
        """Run before epoch `task.current_epoch`, before its random streams are started."""

    def on_epoch_end(self, task: Learner) -> None:
        """Run after the last step of an epoch, before the epoch is recorded."""

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return (N,) probabilities that the observed targets are correct; None uses the networks' predictions."""
        return None

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return (N,) int64 targets that the mitigation uses instead of the observed ones; None if it has none."""
        return None

    def explain_divergence(self) -> str:
        """Return what this mitigation adds to an unstable loss and what to do about it, for the error message."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of `state` on the CPU for a checkpoint."""
        # Without `copy` a tensor on the CPU would be shared with training, which changes it in place.
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.state.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state` from a checkpoint."""
        # The tensors are on the CPU here; `Task.on_fit_start` moves them to the training device.
        self.state = dict(state_dict)


def public_name(mitigation: Mitigation) -> str:
    """Return the registered name of a mitigation, which is that of its file.

    >>> from noisybench.mitigations.mixup import Mixup
    >>> public_name(Mixup())
    'mixup'
    """
    return type(mitigation).__module__.rsplit(".", 1)[-1]

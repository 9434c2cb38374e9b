"""The contract of mitigations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from noisybench.config.parameters import Configurable
from noisybench.data.privileged import PrivilegedInfo
from noisybench.training.batch import Batch, BatchPlan
from noisybench.training.training_set import DiskTensor, TrainingSet

if TYPE_CHECKING:
    from noisybench.config.spec import Budget
    from noisybench.training.task import Task

Objective = Callable[[Batch], Tensor]
"""Maps a batch to (B,) nats per sample, to be minimised on average."""


@dataclass
class Detector:
    """What one way of detecting wrong labels says of the training set.

    Attributes:
        score: (N,) finite numbers, higher where the label is more likely wrong.
        flagged: (N,) bool, whether it takes the label for wrong.
        mixture: weights, means and deviations of the two components fitted to the score, where there are some.
    """

    score: Tensor
    flagged: Tensor
    mixture: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None


@dataclass
class Probe:
    """Classifiers beside the networks' own, which the recorder judges by the truth. None of them is deployed.

    Attributes:
        axis: what they differ in, such as ``rank``.
        places: (R,) rising numbers along it.
        predict: maps inputs to (R + others, N) predicted classes.
        others: names of further classifiers beside the axis, such as controls.
        energy: maps (N, K) centred targets of the training set to (R,) shares of them that each place can express.
        facts: numbers about the features.
    """

    axis: str
    places: Sequence[int]
    predict: Callable[[Tensor | DiskTensor], Tensor]
    others: tuple[str, ...] = ()
    energy: Callable[[Tensor], Tensor] | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)


class Mitigation(Configurable):
    """Contract of a mitigation: calls before, in and after training, all optional.

    A new mitigation is one file in `noisybench/mitigations/` with one subclass. Random numbers come from
    `task.generator` or `task.rng`, which start anew from named streams in every epoch.

    Attributes:
        state: tensors kept here live on the training device, are part of every checkpoint, and are restored.
        known: the declared knowledge.
        facts: numbers about the present epoch, for its row in the record.
        notes: what a reader of the present epoch's row should know, such as a fallback that was taken.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    per_example: ClassVar[bool] = False
    """Whether its objective keeps state per example and therefore cannot follow a mitigation that mixes examples."""
    mixes: ClassVar[bool] = False
    """Whether it mixes examples, which then have no loss of their own."""
    repeats: ClassVar[bool] = False
    """Whether its `wrap` has every network of several trained by the rest of the stack."""
    initialises: ClassVar[bool] = False
    """Whether it gives the networks their initial weights, which a pre-trained backbone has already."""

    distributed_state: ClassVar[Mapping[str, Literal["rows", "sum"]] | None] = None
    """How it trains on several devices, each with its share of a batch: None where it does not, else how what it writes
    into `state` during an epoch is brought together, `rows` of examples or a `sum`. What it computes between epochs is the same
    everywhere."""

    known: PrivilegedInfo

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.state: dict[str, Tensor] = {}
        self.diagnostics: dict[str, float] = {}
        self.warnings: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Copies of `state` for a checkpoint."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.state.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take `state` from a checkpoint."""
        self.state = dict(state_dict)

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Parameter sets with which the contract test trains it for three epochs: every mode that it has."""
        return ({},)

    @property
    def privileged(self) -> tuple[str, ...]:
        """Names from `PRIVILEGED` that it reads with its present parameters; shown on the leaderboard."""
        return ()

    @property
    def networks(self) -> int:
        """How many networks it trains."""
        return 1

    @property
    def ensemble(self) -> bool:
        """Whether the deployed prediction is the mean over all networks, not the first one's."""
        return False

    @property
    def views(self) -> tuple[str, ...]:
        """Names from `VIEWS` that its objective reads."""
        return ("weak",)

    @property
    def learning_rate_times(self) -> float:
        """How many times the budget's learning rate it trains with: heads of unlike size need unlike ones."""
        return 1.0

    @property
    def equal_steps(self) -> bool:
        """Whether an epoch keeps its number of steps when `select` leaves examples out, which are then seen more often."""
        return True

    @property
    def feature_stage(self) -> int | None:
        """The stage of the network whose pooled outputs for the training set it reads after each epoch."""
        return None

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Problems in this run, found before anything is trained.

        Args:
            network: one of the run's networks, without values (on the meta device).
            budget: of the run.
            examples: how many are in the training set.
        """
        return []

    def adapt(self, network: nn.Module) -> nn.Module:
        """The network that is trained, made of the task's own once it has its initial weights: another head, a frozen part."""
        return network

    def prepare(self, task: Task, training_set: TrainingSet) -> None:
        """Make the initial `state` and heads. Called once before training, and before a checkpoint is restored."""

    def plan(self, task: Task) -> list[BatchPlan] | None:
        """The steps of this epoch, where it needs others than batches of the shuffled training set."""
        return None

    def select(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """(N,) weights before training: zero leaves an example out; None keeps all alike."""
        return None

    def on_train_epoch_start(self, task: Task) -> None:
        """Called before the epoch `task.current_epoch`, whose random numbers have not started yet."""

    def on_train_epoch_end(self, task: Task) -> None:
        """Called after the last step of an epoch, before anything of it is recorded."""

    def objective(self, task: Task, batch: Batch) -> Tensor:
        """(B,) nats per sample. At most one mitigation in a stack implements it."""
        raise NotImplementedError

    def wrap(self, task: Task, batch: Batch, objective: Objective) -> Tensor:
        """(B,) nats per sample from the rest of the stack's objective, with another batch or another value."""
        return objective(batch)

    def decode(self, task: Task, inputs: Any, length: int) -> list[str] | None:
        """Responses to prompts of at most so many tokens, in another way than greedily; where a task writes texts."""
        return None

    def refine(self, task: Task, training_set: TrainingSet) -> bool:
        """Change the trained networks after the last epoch. Returns whether it did."""
        return False

    def belief(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """(N,) probability that each observed target is right; None takes the network's own for it."""
        return None

    def correction(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """(N,) int64 targets that it would use instead; None where it corrects nothing."""
        return None

    def detectors(self, task: Task, training_set: TrainingSet) -> dict[str, Detector]:
        """Its ways of detecting wrong labels, by name, as they stand after this epoch; scored against the truth."""
        return {}

    def probe(self, task: Task, training_set: TrainingSet, epochs: int, last: bool) -> Probe | None:
        """Classifiers to be judged beside the networks' own after some epochs, before anything is refined.

        Args:
            task: as trained so far.
            training_set: with observed targets.
            epochs: how many were trained; 0 before the first.
            last: whether training is over.
        """
        return None

    def overrides(self, name: str) -> bool:
        """Whether this mitigation implements the optional call of that name."""
        return getattr(type(self), name) is not getattr(Mitigation, name)


def public_name(mitigation: Mitigation) -> str:
    """The name in the registry: that of the file."""
    return type(mitigation).__module__.rsplit(".", 1)[-1]

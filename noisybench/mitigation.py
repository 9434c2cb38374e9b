"""The contract of mitigations, what they get to see, and how they stack."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn import functional

from noisybench.dataset import LazyImages
from noisybench.errors import UserError
from noisybench.parameters import Parameterised

if TYPE_CHECKING:
    from noisybench.spec import Budget
    from noisybench.task import Task

KNOWLEDGE = {
    "noise_rate": "realised share of wrong training labels, a float",
    "noise_type": "name of the noise model",
    "transition_matrix": "(C, C) tensor of transition probabilities, rows are clean classes",
    "clean_validation": "(M,) clean targets of the validation split",
    "noise_states": "(N,) positions in `labels.STATES`: which training labels are right, of another class, or on an outsider",
    "extra_data": "data beside the dataset",
    "pretrained_weights": "weights learned elsewhere",
}
"""Privileged facts that a mitigation may declare. Nothing else about the truth exists for it."""


class Knowledge:
    """The declared facts, as attributes. Reading another one is an error, so a declaration cannot be forgotten."""

    def __init__(self, facts: dict[str, Any], declared: Sequence[str]) -> None:
        self._facts = {name: facts[name] for name in declared}

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("_facts", {})
        if name in facts:
            return facts[name]
        if name in KNOWLEDGE:
            raise UserError(
                f"`{name}` is privileged knowledge that this mitigation reads but does not declare in `knowledge`"
            )
        raise AttributeError(name)


class LazyTensor:
    """(N, C, H, W) uint8 images on disk, read portion by portion: ``images[slice or index tensor]`` is a tensor."""

    def __init__(self, images: LazyImages) -> None:
        self._images = images
        self.shape = torch.Size(images.shape)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = index.cpu().numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self._images[rows])


@dataclass
class HeldOut:
    """A validation split with (M,) observed targets, as wrong as those of the training set, to choose settings by."""

    inputs: Tensor | LazyTensor
    targets: Tensor


@dataclass
class TrainingSet:
    """All that a mitigation sees of the training data: no clean target, noise kind or rate is in it.

    Attributes:
        inputs: (N, C, H, W) uint8, or float32 where they are features; a tensor, or what is indexed like one where the
            images do not fit in memory.
        targets: (N,) int64 observed targets.
        num_classes: number of classes.
        held_out: the noisy validation split, where there is one.
    """

    inputs: Tensor | LazyTensor
    targets: Tensor
    num_classes: int
    held_out: HeldOut | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @functools.cached_property
    def inputs_digest(self) -> str:
        """SHA-256 over all inputs."""
        digest = hashlib.sha256(repr(tuple(self.inputs.shape)).encode())
        for start in range(0, len(self), 4096):
            digest.update(self.inputs[start : start + 4096].cpu().numpy().tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def targets_digest(self) -> str:
        """SHA-256 over the observed targets."""
        return hashlib.sha256(self.targets.cpu().numpy().tobytes()).hexdigest()

    def place(self, device: torch.device) -> None:
        """Copy targets to the training device once, and inputs where they take at most half of its free memory."""
        self.targets = self.targets.to(device)
        if isinstance(self.inputs, LazyTensor) or device.type == "cpu":
            return
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        if self.inputs.nbytes < free / 2:
            self.inputs = self.inputs.to(device)


@dataclass
class Batch:
    """One step's examples, on the training device.

    Attributes:
        views: independently augmented (B, C, H, W) float tensors of the same examples, by their names in `VIEWS`.
        observed: (B,) int64 observed targets.
        index: (B,) int64 positions in the training set.
        num_classes: number of classes.
        soft: (B, C) target probabilities where a mitigation has replaced the observed targets.
        part: which part of the epoch it belongs to, where a mitigation planned the epoch.
    """

    views: dict[str, Tensor]
    observed: Tensor
    index: Tensor
    num_classes: int
    soft: Tensor | None = None
    part: int = 0

    @property
    def inputs(self) -> Tensor:
        """The weak view."""
        return self.views["weak"]

    @property
    def targets(self) -> Tensor:
        """(B, C) target probabilities: the soft ones, else one-hot observed targets."""
        if self.soft is not None:
            return self.soft
        return functional.one_hot(self.observed, self.num_classes).to(self.inputs.dtype)

    def with_targets(self, soft: Tensor, views: dict[str, Tensor] | None = None) -> Batch:
        """The same batch with other target probabilities, and other inputs where given."""
        return replace(self, soft=soft, views=self.views if views is None else views)


Objective = Callable[[Batch], Tensor]
"""Maps a batch to (B,) nats per sample, to be minimised on average."""

VIEWS = {
    "weak": "the budget's augmentation; always there",
    "weak_2": "a second draw of it",
    "strong": "resized crop and one operation of RandAugment",
    "contrastive": "resized crop, flip, colour jitter, grey",
}
"""The views that a mitigation may ask for."""


@dataclass
class Planned:
    """One step of an epoch that a mitigation plans itself.

    Attributes:
        index: (B,) int64 positions in the training set.
        part: handed on to the batch.
    """

    index: Tensor
    part: int = 0


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
    predict: Callable[[Tensor | LazyTensor], Tensor]
    others: tuple[str, ...] = ()
    energy: Callable[[Tensor], Tensor] | None = None
    facts: dict[str, float] = field(default_factory=dict)


class Mitigation(Parameterised, Callback):
    """Contract of a mitigation: a Lightning callback with a few further calls, all optional.

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

    known: Knowledge

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.state: dict[str, Tensor] = {}
        self.facts: dict[str, float] = {}
        self.notes: list[str] = []

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
    def knowledge(self) -> tuple[str, ...]:
        """Names from `KNOWLEDGE` that it reads with its present parameters; shown on the leaderboard."""
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

    def plan(self, task: Task) -> list[Planned] | None:
        """The steps of this epoch, where it needs others than batches of the shuffled training set."""
        return None

    def select(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """(N,) weights before training: zero leaves an example out; None keeps all alike."""
        return None

    def objective(self, task: Task, batch: Batch) -> Tensor:
        """(B,) nats per sample. At most one mitigation in a stack implements it."""
        raise NotImplementedError

    def wrap(self, task: Task, batch: Batch, objective: Objective) -> Tensor:
        """(B,) nats per sample from the rest of the stack's objective, with another batch or another value."""
        return objective(batch)

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


@dataclass
class Stack:
    """Mitigations in order. The one with an objective is innermost; the others wrap it from last to first."""

    mitigations: Sequence[Mitigation]
    owner: Mitigation | None = field(init=False)

    def __post_init__(self) -> None:
        owners = [each for each in self.mitigations if each.overrides("objective")]
        problems = []
        if len(owners) > 1:
            names = ", ".join(public_name(each) for each in owners)
            problems.append(f"mitigations: {names} each bring an objective, but a stack can have one; keep one of them")
        for mixer in (each for each in self.mitigations if each.mixes):
            problems += [
                f"mitigations: {public_name(each)} keeps state per example and cannot follow {public_name(mixer)}, which "
                "mixes examples; use one of them"
                for each in self.mitigations
                if each.per_example and each is not mixer
            ]
        several = [each for each in self.mitigations if each.networks > 1]
        if len(several) > 1:
            names = ", ".join(public_name(each) for each in several)
            problems.append(f"mitigations: {names} each train networks of their own number; keep one of them")
        for repeater in (each for each in self.mitigations if each.repeats):
            problems += [
                f"mitigations: {public_name(each)} keeps one state per example and cannot train the several networks of "
                f"{public_name(repeater)}; use one of them"
                for each in self.mitigations
                if each.per_example
            ]
        adapters = [public_name(each) for each in self.mitigations if each.overrides("adapt")]
        if len(adapters) > 1:
            problems.append(
                f"mitigations: {', '.join(adapters)} each decide what is trained of a network; keep one of them"
            )
        planners = [public_name(each) for each in self.mitigations if each.overrides("plan")]
        if len(planners) > 1:
            problems.append(
                f"mitigations: {', '.join(planners)} each plan the epoch, but one alone can; keep one of them"
            )
        if len({each.feature_stage for each in self.mitigations} - {None}) > 1:
            names = ", ".join(public_name(each) for each in self.mitigations if each.feature_stage is not None)
            problems.append(f"mitigations: {names} read features of different stages; give them the same one")
        if problems:
            raise UserError(*problems)
        self.owner = owners[0] if owners else None

    @property
    def networks(self) -> int:
        """How many networks the stack trains."""
        return max((each.networks for each in self.mitigations), default=1)

    @property
    def ensemble(self) -> bool:
        """Whether the deployed prediction is the mean over all networks."""
        return any(each.ensemble for each in self.mitigations)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the stack needs, the weak one first."""
        wanted = {name for each in self.mitigations for name in each.views} | {"weak"}
        return tuple(name for name in VIEWS if name in wanted)

    @property
    def learning_rate_times(self) -> float:
        """How many times the budget's learning rate is used."""
        return math.prod(each.learning_rate_times for each in self.mitigations)

    def adapt(self, network: nn.Module) -> nn.Module:
        """The network that is trained."""
        for each in self.mitigations:
            network = each.adapt(network)
        return network

    @property
    def equal_steps(self) -> bool:
        """Whether an epoch keeps its number of steps when examples are left out."""
        return all(each.equal_steps for each in self.mitigations)

    @property
    def feature_stage(self) -> int | None:
        """The stage whose outputs the stack needs."""
        return next((each.feature_stage for each in self.mitigations if each.feature_stage is not None), None)

    @property
    def knowledge(self) -> tuple[str, ...]:
        """All declared knowledge, sorted."""
        return tuple(sorted({name for each in self.mitigations for name in each.knowledge}))

    def check(self, tasks: Sequence[str], offered: Sequence[str]) -> list[str]:
        """Problems of this stack in a cell.

        Args:
            tasks: the task, and another that it is like; every mitigation must serve one of them.
            offered: knowledge that the cell can give.
        """
        problems = []
        for each in self.mitigations:
            name = public_name(each)
            if not set(tasks) & set(each.tasks):
                problems.append(f"mitigations.{name}: serves {', '.join(each.tasks)}, not {tasks[0]}")
            for fact in each.knowledge:
                if fact not in offered:
                    problems.append(
                        f"mitigations.{name}: needs to know the {fact.replace('_', ' ')}, which this cell does not offer "
                        f"(it offers {', '.join(offered) or 'nothing'}); choose other noise, or a setting that estimates it"
                    )
        return problems

    def objective(self, task: Task) -> Objective:
        """The composed objective."""
        owner = self.owner
        composed: Objective = (lambda batch: owner.objective(task, batch)) if owner else task.plain_objective
        for each in reversed([each for each in self.mitigations if each.overrides("wrap")]):
            composed = _wrapped(each, task, composed)
        return composed

    def plan(self, task: Task) -> list[Planned] | None:
        """The steps of this epoch of the one mitigation that plans it, if there is one."""
        plans = (each.plan(task) for each in self.mitigations if each.overrides("plan"))
        return next(plans, None)

    def weights(self, task: Task, training_set: TrainingSet) -> Tensor | None:
        """Product of all selections, or None where nothing selects.

        Raises:
            UserError: nothing is left to train on, or a weight is negative or not finite.
        """
        weights = None
        for each in self.mitigations:
            chosen = each.select(task, training_set)
            if chosen is None:
                continue
            if chosen.shape != training_set.targets.shape or not bool((chosen.isfinite() & (chosen >= 0)).all()):
                raise UserError(
                    f"mitigations.{public_name(each)}: selection weights must be {len(training_set)} finite numbers >= 0"
                )
            weights = chosen.float() if weights is None else weights * chosen
            if not bool((weights > 0).any()):
                raise UserError(
                    f"mitigations.{public_name(each)}: the selection is empty, no example is left to train on; "
                    "choose a milder setting"
                )
        return weights

    def belief(self, task: Task, training_set: TrainingSet) -> Tensor:
        """(N,) belief of the last mitigation that has one; else the networks' probability of the observed target."""
        for each in reversed(self.mitigations):
            belief = each.belief(task, training_set)
            if belief is not None:
                return belief
        return task.training_probabilities().gather(1, training_set.targets[:, None]).squeeze(1)

    def correction(self, task: Task, training_set: TrainingSet) -> Tensor:
        """(N,) corrected targets of the last mitigation that has some; else the observed ones."""
        for each in reversed(self.mitigations):
            correction = each.correction(task, training_set)
            if correction is not None:
                return correction
        return training_set.targets


def _wrapped(mitigation: Mitigation, task: Task, inner: Objective) -> Objective:
    return lambda batch: mitigation.wrap(task, batch, inner)


def public_name(mitigation: Mitigation) -> str:
    """The name in the registry: that of the file."""
    return type(mitigation).__module__.rsplit(".", 1)[-1]


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """(B,) cross-entropy in nats of (B, C) logits against the batch's targets, hard or soft."""
    return functional.cross_entropy(logits, batch.observed if batch.soft is None else batch.soft, reduction="none")


def probabilities_in_float32(logits: Tensor) -> Tensor:
    """(B, C) softmax in single precision, also where the network ran in bfloat16."""
    return logits.float().softmax(1)

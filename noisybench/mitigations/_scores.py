"""Networks trained beside a run, as it would train its own, to score its examples."""

from __future__ import annotations

import abc
import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.nn.features import classifier
from noisybench.nn.weights import weights_digest
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.learner import Learner
from noisybench.training.mitigation import Mitigation, public_name
from noisybench.training.roles import LossFunction, ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

GRADIENT_BYTES = 2**28
"""Memory for gradients of single examples, which decides how many are taken at a time."""


class ScoringNetworks(AuxiliaryRun, abc.ABC):
    """Several networks, trained one after the other by the run's own recipe under plain cross-entropy.

    Initialisation, order and augmentation of each come from a seed of its own. The schedule is the budget's, not
    compressed to the epochs trained. One at a time is in memory; they are not stacked into one, see
    `docs/performance.md` for the measurement.

    Args:
        task: of the run.
        kind: of scoring, part of the identity.
        members: number of networks, from 1.
        length: epochs of each; with 0 they are scored as initialised.
        seed: of all.
        meaning: what else decides the result.
    """

    def __init__(self, task: Learner, kind: str, members: int, length: int, seed: int, **meaning: Any) -> None:
        assert isinstance(task, Task), "scoring networks are further instances of the run's own task"
        assert isinstance(task, Task), "scoring networks are further instances of the run's own task"
        self.task, self.members, self.length, self.seed = task, members, length, seed
        self.device = task.device
        data = task.training_set
        self.epochs, self.examples = members * max(length, 1), len(data) if length else 0
        self.title = f"{kind} · {members} x {length} epochs · {task.budget.network} · {len(data)} examples"
        self.cache_key = {
            "kind": kind,
            "members": members,
            "length": length,
            "seed": seed,
            "inputs": data.inputs_digest,
            "targets": data.targets_digest,
            "classes": data.num_classes,
            "budget": task.budget.identity(),
            **({"start": weights_digest(task.pretrained)} if task.pretrained else {}),
            **({"adapted": adapted} if (adapted := _adapted(task.stack)) else {}),
            **meaning,
        }
        self._collected: list[dict[str, Tensor]] = []
        self._worker: Task | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._restored: dict[str, Any] | None = None

    def training_set(self, member: int) -> TrainingSet:
        """What a network is trained on."""
        return self.task.training_set

    def weights(self, member: int) -> Tensor | None:
        """(N,) weights of its examples; None for all alike."""
        return None

    def watcher(self, member: int) -> Mitigation | None:
        """A mitigation that follows its training."""
        return None

    @abc.abstractmethod
    def collect(self, member: int, trained: Task) -> dict[str, Tensor]:
        """What is kept of a network at the end of its training."""

    def train_epoch(self, epoch: int) -> float:
        """One epoch of one network; after its last, it is scored."""
        member, inner = divmod(epoch, max(self.length, 1))
        worker, optimizer = self._member(member)
        if self.length:
            worker.train_alone(inner, optimizer)
        if inner + 1 >= self.length:
            self._collected.append({name: each.cpu() for name, each in self.collect(member, worker).items()})
            self._worker = None
        return worker.train_loss if self.length else 0.0

    def state_dict(self) -> dict[str, Any]:
        """What was collected, and the network in training."""
        state: dict[str, Any] = {"collected": self._collected}
        if self._worker is not None and self._optimizer is not None:
            state["networks"] = self._worker.networks.state_dict()
            state["optimizer"] = self._optimizer.state_dict()
            state["watchers"] = [each.state_dict() for each in self._worker.stack.mitigations]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._collected = list(state["collected"])
        self._restored = state if "networks" in state else None

    def result(self) -> dict[str, Tensor]:
        """What was collected, stacked over the networks."""
        return {name: torch.stack([each[name] for each in self._collected]) for name in self._collected[0]}

    def _member(self, member: int) -> tuple[Task, torch.optim.Optimizer]:
        """The network in training, made anew or as it was restored."""
        if self._worker is not None and self._optimizer is not None:
            return self._worker, self._optimizer
        watcher = self.watcher(member)
        seed = torch_seed("scoring", self.seed, member)
        # What is trained of a network is part of the recipe; the rest of the stack is not.
        adapters = [type(each)(**each.parameters) for each in self.task.stack.with_role(ModelBuilder)]
        stack = Stack([*([watcher] if watcher else []), *adapters])
        worker = type(self.task)(self.task.budget, seed, self.training_set(member), stack, **self.task.settings)
        worker.to(self.device)
        worker.load_pretrained(self.task.pretrained)
        worker.adapt()
        worker.sampler.weights = self.weights(member)
        for each in stack.mitigations:
            each.prepare(worker, worker.training_set)
        optimizer: Any = worker.configure_optimizers()
        if self._restored is not None:
            worker.networks.load_state_dict(self._restored["networks"])
            optimizer.load_state_dict(self._restored["optimizer"])
            for each, state in zip(stack.mitigations, self._restored["watchers"], strict=True):
                each.load_state_dict(state)
            self._restored = None
        for each in stack.mitigations:
            each.state = {name: tensor.to(self.device) for name, tensor in each.state.items()}
        self._worker, self._optimizer = worker, optimizer
        return worker, optimizer


def _adapted(stack: Stack) -> list[Any]:
    return [[public_name(each), each.parameters] for each in stack.with_role(ModelBuilder)]


def fold_problems(folds: int, examples: int) -> list[str]:
    """Problems of predicting every fold by networks that do without it, with cleanlab's help."""
    problems = []
    if importlib.util.find_spec("cleanlab") is None:
        problems.append("cleanlab is not installed; `python -m pip install cleanlab`")
    if folds > examples:
        problems.append(f"folds: {examples} examples cannot be divided into {folds} folds")
    return problems


class Folds(ScoringNetworks, abc.ABC):
    """Networks that each do without one fold of the examples."""

    def __init__(self, task: Learner, kind: str, folds: int, length: int, seed: int) -> None:
        super().__init__(task, kind, folds, length, seed)
        order = torch.from_numpy(Stream("folds", seed).permutation(len(task.training_set)))
        self.fold = torch.empty_like(order)
        self.fold[order] = torch.arange(len(order)) % folds

    def weights(self, member: int) -> Tensor:
        """All but the fold."""
        return (self.fold != member).float().to(self.device)


class EarlyScores(ScoringNetworks):
    """Scores after a few epochs, all from one pass over the training set: no augmentation, evaluation mode.

    The result has (K, N) tensors: `el2n`, `loss` in nats, `grand_last` where the network has a linear classifier, and
    `grand` where ``exact`` asks for it.
    """

    def __init__(self, task: Learner, members: int, length: int, seed: int, exact: bool = False) -> None:
        super().__init__(task, "early scores", members, length, seed, **({"exact": True} if exact else {}))
        self._exact = exact

    def collect(self, member: int, trained: Task) -> dict[str, Tensor]:
        """The scores of one network."""
        found = early_scores(trained)
        if self._exact:
            found["grand"] = gradient_norms(trained)
        return found


class Watched(ScoringNetworks):
    """How examples fare while they are trained on.

    The result has (K, N) tensors: `margin` (mean over epochs of the observed class's score minus the greatest other),
    `forgotten` (how often a right prediction became wrong) and `learned` (whether it ever was right). Margins and
    predictions are those of the training steps themselves, so they cost no pass of their own.
    """

    def __init__(self, task: Learner, members: int, length: int, seed: int) -> None:
        super().__init__(task, "watched", members, length, seed)

    def watcher(self, member: int) -> Mitigation:
        """Follows every example."""
        return Watcher()

    def collect(self, member: int, trained: Task) -> dict[str, Tensor]:
        """What the watcher saw."""
        state = trained.stack.mitigations[0].state
        return {
            "margin": state["margin"] / state["seen"].clamp_min(1),
            "forgotten": state["forgotten"],
            "learned": state["learned"],
        }


class Watcher(LossFunction):
    """Follows each example's margin and prediction, as it is seen in training."""

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Nothing was seen yet."""
        size = len(training_set)
        self.state["margin"], self.state["seen"] = torch.zeros(size), torch.zeros(size)
        self.state["forgotten"] = torch.zeros(size)
        self.state["right"], self.state["learned"] = (torch.zeros(size, dtype=torch.bool) for _ in range(2))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Cross-entropy."""
        logits = task.logits(batch.inputs)
        with torch.no_grad():
            margin, index, state = margins(logits.float(), batch.observed), batch.index, self.state
            right = margin > 0
            state["margin"][index] += margin
            state["seen"][index] += 1
            state["forgotten"][index] += (state["right"][index] & ~right).float()
            state["right"][index] = right
            state["learned"][index] |= right
        return cross_entropy(logits, batch)


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) score of the target minus the greatest other score, of (B, C) logits."""
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own.squeeze(1) - others.amax(1)


def error_norms(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(B,) Euclidean norm of (B, C) probabilities minus the one-hot target (EL2N), in [0, sqrt 2]."""
    error = probabilities - functional.one_hot(targets, probabilities.shape[1])
    return error.square().sum(1).sqrt()


@torch.no_grad()
def early_scores(task: Learner) -> dict[str, Tensor]:
    """(N,) scores of a task's first network for its training set, from one pass in evaluation mode."""
    data, network = task.training_set, task.networks[0]
    has_classifier = classifier(network) is not None
    network.eval()
    parts: dict[str, list[Tensor]] = {}
    size = task.eval_batch_size(data.inputs)
    for start in range(0, len(data), size):
        images = task.normalize(data.inputs[start : start + size])
        targets = data.targets[start : start + size].to(task.device)
        with task.autocast():
            if has_classifier:
                features, logits = task.features_and_logits(images, 0)
            else:
                features, logits = None, task.logits(images, 0)
        found = {
            "el2n": error_norms(probabilities_in_float32(logits), targets),
            "loss": functional.cross_entropy(logits.float(), targets, reduction="none"),
        }
        if features is not None:
            # The gradient of a linear layer's weights and bias is an outer product.
            found["grand_last"] = found["el2n"] * (features.float().square().sum(1) + 1).sqrt()
        for name, each in found.items():
            parts.setdefault(name, []).append(each)
    return {name: torch.cat(each) for name, each in parts.items()}


def gradient_norms(task: Learner) -> Tensor:
    """(N,) norm of each training example's gradient with respect to all weights of the first network (GraNd), exact."""
    data, network = task.training_set, task.networks[0].eval()
    weights = {name: each.detach() for name, each in network.named_parameters()}
    buffers = dict(network.named_buffers())
    size = sum(each.numel() for each in weights.values())
    portion = max(1, min(task.eval_batch_size(data.inputs), GRADIENT_BYTES // (4 * size)))
    norms = torch.func.vmap(_gradient_norm(network, buffers), in_dims=(None, 0, 0))
    parts = []
    for start in range(0, len(data), portion):
        images = task.normalize(data.inputs[start : start + portion])
        parts.append(norms(weights, images, data.targets[start : start + portion].to(task.device)).detach())
    return torch.cat(parts)


def _gradient_norm(network: nn.Module, buffers: dict[str, Tensor]) -> Any:
    def loss(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        logits: Any = torch.func.functional_call(network, (weights, buffers), (image[None],))
        return functional.cross_entropy(logits.float(), target[None])

    gradient = torch.func.grad(loss)

    def norm(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        squares = [each.square().sum() for each in gradient(weights, image, target).values()]
        return torch.stack(squares).sum().sqrt()

    return norm

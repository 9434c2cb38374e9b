"""Scoring networks: auxiliary networks that are trained like those of the run to score its training examples."""

from __future__ import annotations

import abc
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.errors import TrainingError
from noisybench.nn.features import last_linear
from noisybench.nn.weights import weights_digest
from noisybench.training.auxiliary import AuxiliaryRun
from noisybench.training.batch import Batch, cross_entropy, probabilities_in_float32
from noisybench.training.learner import Learner
from noisybench.training.loop import load_optimizer, train_epoch
from noisybench.training.mitigation import Mitigation, public_name
from noisybench.training.roles import LossFunction, ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

GRADIENT_BYTES = 2**28
"""Memory limit for per-example gradients, which decides how many examples are processed at a time."""


class ScoringNetworks(AuxiliaryRun, abc.ABC):
    """Several networks that are trained one after the other with the run's own recipe and plain cross-entropy.

    Initialization, order and augmentation of each network come from a separate seed. Unless another budget is given, the
    learning-rate schedule is that of the run's; it is not compressed to the trained epochs. One network at a time is in
    memory; see `docs/performance.md` for the comparison with training them together.

    Args:
        task: task of the run.
        kind: kind of scoring, part of the identity.
        num_networks: number of networks, at least 1.
        length: epochs of each network; 0 scores the initialized networks.
        seed: seed of all networks.
        budget: budget of all networks; by default that of the run.
        meaning: other values that decide the result.
    """

    def __init__(
        self,
        task: Learner,
        kind: str,
        num_networks: int,
        length: int,
        seed: int,
        budget: Budget | None = None,
        **meaning: Any,
    ) -> None:
        assert isinstance(task, Task), "scoring networks are further instances of the run's own task"
        self.task, self.num_networks, self.length, self.seed = task, num_networks, length, seed
        self.device, self.budget = task.device, budget or task.budget
        data = task.training_set
        # Scoring an initialized network takes one epoch as well, but trains on no example.
        self.epochs, self.examples = num_networks * max(length, 1), len(data) if length else 0
        self.title = f"{kind} · {num_networks} x {length} epochs · {task.budget.network} · {len(data)} examples"
        builders = [[public_name(builder), builder.parameters] for builder in task.stack.with_role(ModelBuilder)]
        self.cache_key = {
            "kind": kind,
            "num_networks": num_networks,
            "length": length,
            "seed": seed,
            "inputs": data.inputs_digest,
            "targets": data.targets_digest,
            "classes": data.num_classes,
            "budget": self.budget.identity(),
            # Optional entries are absent rather than empty, so that results cached without them keep their key.
            **({"start": weights_digest(task.pretrained)} if task.pretrained else {}),
            **({"model_builders": builders} if builders else {}),
            **meaning,
        }
        self._scores: list[dict[str, Tensor]] = []
        self._worker: Task | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._restored: dict[str, Any] | None = None

    def training_set(self, number: int) -> TrainingSet:
        """Return the training set of one network."""
        return self.task.training_set

    def weights(self, number: int) -> Tensor | None:
        """Return the (N,) sample weights of one network; None for equal weights."""
        return None

    def collector(self, number: int) -> Mitigation | None:
        """Return a mitigation that records the training of one network, if one is needed."""
        return None

    @abc.abstractmethod
    def collect(self, number: int, trained: Task) -> dict[str, Tensor]:
        """Return the scores of one network at the end of its training."""

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch of one network, and score it after its last epoch."""
        number, inner_epoch = divmod(epoch, max(self.length, 1))
        worker, optimizer = self._current(number)
        if self.length:
            train_epoch(worker, optimizer, inner_epoch)
        # Not `==`: a network of length 0 has one epoch.
        if inner_epoch + 1 >= self.length:
            self._scores.append({name: score.cpu() for name, score in self.collect(number, worker).items()})
            # A checkpoint from here on has the scores but no network, so a resumed run starts with the next one.
            self._worker = None
        return worker.train_loss if self.length else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, and the network in training."""
        state: dict[str, Any] = {"scores": self._scores}
        if self._worker is not None and self._optimizer is not None:
            state["networks"] = self._worker.networks.state_dict()
            state["optimizer"] = self._optimizer.state_dict()
            state["mitigations"] = [mitigation.state_dict() for mitigation in self._worker.stack.mitigations]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the scores, and the network in training when it is next needed."""
        self._scores = list(state["scores"])
        # Only `_current` can build the network, because its seed and data depend on its number.
        self._restored = state if "networks" in state else None

    def result(self) -> dict[str, Tensor]:
        """Return the scores, stacked over the networks."""
        return {name: torch.stack([scores[name] for scores in self._scores]) for name in self._scores[0]}

    def _current(self, number: int) -> tuple[Task, torch.optim.Optimizer]:
        """Return the network in training, new or restored, with its optimizer."""
        if self._worker is not None and self._optimizer is not None:
            return self._worker, self._optimizer
        collector = self.collector(number)
        seed = torch_seed("scoring", self.seed, number)
        # The choice of trained weights is part of the recipe; the rest of the stack is not.
        builders = [type(builder)(**builder.parameters) for builder in self.task.stack.with_role(ModelBuilder)]
        stack = Stack([*([collector] if collector else []), *builders])
        worker = type(self.task)(self.budget, seed, self.training_set(number), stack, **self.task.settings)
        worker.to(self.device)
        worker.captured.enabled = self.task.captured.enabled
        # Weights are matched by name, so they are loaded before a builder renames modules. The optimizer is created
        # last, because it needs the parameters of the built model.
        worker.load_pretrained(self.task.pretrained)
        worker.build_models()
        worker.sampler.weights = self.weights(number)
        for mitigation in stack.mitigations:
            mitigation.prepare(worker, worker.training_set)
        optimizer: Any = worker.configure_optimizers()
        if self._restored is not None:
            worker.networks.load_state_dict(self._restored["networks"])
            load_optimizer(optimizer, self._restored["optimizer"])
            for mitigation, state in zip(stack.mitigations, self._restored["mitigations"], strict=True):
                mitigation.load_state_dict(state)
            self._restored = None
        for mitigation in stack.mitigations:
            # Restored statistics are on the CPU, but are updated at positions on the device.
            mitigation.state = {name: tensor.to(self.device) for name, tensor in mitigation.state.items()}
        self._worker, self._optimizer = worker, optimizer
        return worker, optimizer


def check_folds(folds: int, examples: int) -> list[str]:
    """Return the problems of out-of-sample predictions with cleanlab."""
    problems = []
    if importlib.util.find_spec("cleanlab") is None:
        problems.append("cleanlab is not installed; run `python -m pip install cleanlab`")
    if folds > examples:
        problems.append(f"folds: {examples} examples cannot be divided into {folds} folds")
    return problems


class CrossValidation(ScoringNetworks, abc.ABC):
    """Networks that each leave out one fold of the examples."""

    def __init__(self, task: Learner, kind: str, folds: int, length: int, seed: int) -> None:
        super().__init__(task, kind, folds, length, seed)
        order = torch.from_numpy(Stream("folds", seed).permutation(len(task.training_set)))
        # Random ranks modulo the number of folds: sizes differ by at most one.
        self.fold = torch.empty_like(order)
        self.fold[order] = torch.arange(len(order)) % folds

    def weights(self, number: int) -> Tensor:
        """Return weight zero for the fold that is left out."""
        return (self.fold != number).float().to(self.device)


class EarlyScores(ScoringNetworks):
    """Scores after a few epochs, all from one pass over the training set in evaluation mode without augmentation.

    The result has (K, N) tensors: `el2n`, `loss` in nats, `grand_last` if the network has a linear classifier, and
    `grand` if ``exact`` is set.
    """

    def __init__(self, task: Learner, num_networks: int, length: int, seed: int, exact: bool = False) -> None:
        meaning: dict[str, Any] = {"exact": True} if exact else {}
        super().__init__(task, "early scores", num_networks, length, seed, **meaning)
        self._exact = exact

    def collect(self, number: int, trained: Task) -> dict[str, Tensor]:
        """Return the scores of one network."""
        scores = early_scores(trained)
        if self._exact:
            scores["grand"] = gradient_norms(trained)
        return scores


class TrainingDynamics(ScoringNetworks):
    """Margins and predictions of the examples while they are trained on.

    The result has (K, N) tensors: `margin` (mean over epochs of the observed class's score minus the largest other
    score), `forgotten` (number of times a correct prediction became incorrect) and `learned` (True if the prediction
    was ever correct). They are those of the training steps themselves, so they need no additional pass.
    """

    def __init__(self, task: Learner, num_networks: int, length: int, seed: int, budget: Budget | None = None) -> None:
        super().__init__(task, "training dynamics", num_networks, length, seed, budget)

    def collector(self, number: int) -> Mitigation:
        """Return a collector for every example."""
        return ScoreCollector()

    def collect(self, number: int, trained: Task) -> dict[str, Tensor]:
        """Return the statistics of one network."""
        state = trained.stack.mitigations[0].state
        return {
            "margin": state["margin"] / state["seen"].clamp_min(1),
            "forgotten": state["forgotten"],
            "learned": state["learned"],
        }


class ScoreCollector(LossFunction):
    """Cross-entropy that records each example's margin and prediction in every training step."""

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Initialize all statistics with zero."""
        size = len(training_set)
        self.state["margin"], self.state["seen"] = torch.zeros(size), torch.zeros(size)
        self.state["forgotten"] = torch.zeros(size)
        self.state["correct"], self.state["learned"] = (torch.zeros(size, dtype=torch.bool) for _ in range(2))

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy, and update the statistics of the batch."""
        logits = task.logits(batch.inputs)
        with torch.no_grad():
            margin, index, state = margins(logits.float(), batch.observed), batch.index, self.state
            # Equivalent to a correct argmax, except that a tie is never correct, wherever the target is.
            correct = margin > 0
            # Indexed `+=` would lose updates of repeated positions, but a position occurs once in a batch.
            state["margin"][index] += margin
            state["seen"][index] += 1
            state["forgotten"][index] += (state["correct"][index] & ~correct).float()
            state["correct"][index] = correct
            state["learned"][index] |= correct
        return cross_entropy(logits, batch)


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the (B,) score of the target minus the largest other score, for (B, C) logits.

    >>> margins(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
    tensor([1.])
    """
    target_scores = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return target_scores.squeeze(1) - others.amax(1)


def error_norms(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the (B,) Euclidean norm of (B, C) probabilities minus the one-hot target (EL2N), in [0, sqrt 2].

    >>> error_norms(torch.tensor([[1.0, 0.0], [0.4, 0.6]]), torch.tensor([0, 1])).round(decimals=3)
    tensor([0.0000, 0.5660])
    """
    error = probabilities - functional.one_hot(targets, probabilities.shape[1])
    return error.square().sum(1).sqrt()


@torch.no_grad()
def early_scores(task: Learner) -> dict[str, Tensor]:
    """Return (N,) scores of a task's first network for its training set, from one pass in evaluation mode."""
    data, network = task.training_set, task.networks[0]
    has_classifier = last_linear(network) is not None
    # With fixed batch statistics, a score does not depend on the other examples of its batch.
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
        scores = {
            "el2n": error_norms(probabilities_in_float32(logits), targets),
            "loss": functional.cross_entropy(logits.float(), targets, reduction="none"),
        }
        if features is not None:
            # The gradient of a linear layer's weights and bias is the outer product of the error with (features, 1).
            scores["grand_last"] = scores["el2n"] * (features.float().square().sum(1) + 1).sqrt()
        for name, score in scores.items():
            # Scores stay on the device: a copy to the host would wait for every batch.
            parts.setdefault(name, []).append(score)
    return {name: torch.cat(part) for name, part in parts.items()}


def gradient_norms(task: Learner) -> Tensor:
    """Return the exact (N,) gradient norm of each example with respect to all weights of the first network (GraNd)."""
    # Training mode would couple the examples by batch normalization, and `vmap` cannot update its buffers in place.
    data, network = task.training_set, task.networks[0].eval()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    buffers = dict(network.named_buffers())
    num_weights = sum(weight.numel() for weight in weights.values())
    # Every example of a chunk has a gradient of all weights, of 4 bytes each.
    size = max(1, min(task.eval_batch_size(data.inputs), GRADIENT_BYTES // (4 * num_weights)))
    norms = torch.func.vmap(_gradient_norm(network, buffers), in_dims=(None, 0, 0))
    parts = []
    for start in range(0, len(data), size):
        images = task.normalize(data.inputs[start : start + size])
        try:
            parts.append(norms(weights, images, data.targets[start : start + size].to(task.device)).detach())
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise TrainingError("gradient=exact: not possible for this network; set gradient=last_layer") from None
    return torch.cat(parts)


def _gradient_norm(network: nn.Module, buffers: dict[str, Tensor]) -> Any:
    def loss(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        logits: Any = torch.func.functional_call(network, (weights, buffers), (image[None],))
        return functional.cross_entropy(logits.float(), target[None])

    gradient = torch.func.grad(loss)

    def norm(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        # Concatenating the gradients for a single norm would copy all of them.
        squares = [values.square().sum() for values in gradient(weights, image, target).values()]
        return torch.stack(squares).sum().sqrt()

    return norm

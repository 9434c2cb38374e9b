"""Decoders of an audit of traces: one per fold, and the surprise of steps that they were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench.audit.folds import EpochCallback, draw_folds, fold_key, prepare_device, train_tasks
from noisybench.audit.traces.inputs import TraceAuditInput
from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.config.spec import WORKSPACE
from noisybench.data.targets import IGNORED, Tokens
from noisybench.errors import UserError, show
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import torch_seed
from noisybench.utils.text import counted

MAX_CHARACTERS = 1200
"""Number of characters of prompt and response above which the decoders leave out a trace: attention costs their square."""

EVAL_BATCH_SIZE = 128
"""Number of traces that are scored at a time."""

MIN_VARIANCE = 0.05
"""Lower bound of the variance of a step's surprise, so that a step that is certain has a finite one."""


@dataclass(frozen=True)
class CharacterSurprise:
    """Surprise of a decoder by each character of N responses, given the characters before it.

    Attributes:
        excess: (N, T) loss of the character minus the entropy of its prediction, in nats: on average 0 if the decoder is
            calibrated, and high where it was sure of another character.
        variance: (N, T) variance of the loss under the prediction.
        correct: (N, T) True where the character is the most likely one.
        covered: (N,) False for traces that are too long for the decoders.
    """

    excess: NDArray[np.float32]
    variance: NDArray[np.float32]
    correct: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    def of_spans(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the (S,) standardized surprise of spans: the sum of their excess by its standard deviation.

        Returns:
            Standard deviations above the expectation; NaN for spans of traces that are not covered.
        """
        excess, variance = (
            np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
            for values in (self.excess, self.variance)
        )
        sums, variances = (values[rows, stops] - values[rows, starts] for values in (excess, variance))
        surprise = sums / np.sqrt(np.maximum(variances, MIN_VARIANCE))
        return np.where(self.covered[rows], surprise, np.nan)


@dataclass(frozen=True)
class FoldDecoders:
    """Decoders of all folds.

    Attributes:
        tasks: trained task of each fold.
        fold_of: (N,) fold of each trace; -1 for traces that are too long.
        prompt_width: number of columns of the prompts that the decoders read.
    """

    tasks: tuple[Task, ...]
    fold_of: NDArray[np.int64]
    prompt_width: int

    def surprise(self, data: TraceAuditInput, responses: Tokens) -> CharacterSurprise:
        """Return the surprise by N responses of the decoders that were not trained on their prompts.

        Args:
            data: the audited traces.
            responses: (N, T) characters, those of the traces or changed ones.
        """
        shape = responses.shape
        excess, variance = (np.zeros(shape, dtype=np.float32) for _ in range(2))
        correct = np.zeros(shape, dtype=bool)
        for fold, task in enumerate(self.tasks):
            held_out = np.flatnonzero(self.fold_of == fold)
            # Of similar length, because a batch is as wide as its longest trace.
            held_out = held_out[np.argsort((responses[held_out] != IGNORED).sum(1), kind="stable")]
            for start in range(0, len(held_out), EVAL_BATCH_SIZE):
                rows = held_out[start : start + EVAL_BATCH_SIZE]
                width = max(1, int((responses[rows] != IGNORED).sum(1).max()))
                prompts = data.inputs[rows, 0, 0, -self.prompt_width :]
                values = _score_batch(task, prompts, responses[rows, :width])
                for target, scored in zip((excess, variance, correct), values, strict=True):
                    target[rows, :width] = scored.cpu().numpy()
        return CharacterSurprise(excess, variance, correct, self.fold_of >= 0)


@torch.no_grad()
def _score_batch(task: Any, prompts: Tokens, responses: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (B, T) excess loss, its variance, and True where the character is the most likely one."""
    task.networks.eval()
    labels, _ = task.tokenizer.encode_responses(torch.from_numpy(responses).to(task.device))
    batch = task.tokenizer.batch(torch.from_numpy(prompts).to(task.device), labels)
    logits = task.logits(batch).float().view(*labels.shape, -1)
    task.networks.train()
    log_probabilities = logits.log_softmax(-1)
    probabilities = log_probabilities.exp()
    entropy = -(probabilities * log_probabilities).sum(-1)
    variance = (probabilities * log_probabilities.square()).sum(-1) - entropy.square()
    loss = -log_probabilities.gather(-1, labels.clamp_min(0)[..., None]).squeeze(-1)
    is_character = labels >= 0
    correct = (logits.argmax(-1) == labels) & is_character
    return (loss - entropy) * is_character, variance.clamp_min(0) * is_character, correct


def train_fold_decoders(
    data: TraceAuditInput,
    folds: int = 3,
    seed: int = 0,
    on_epoch: EpochCallback = lambda fold, epoch, loss: None,
    cache_dir: Path = WORKSPACE / "audits",
) -> FoldDecoders:
    """Train one decoder per fold on the observed traces of all other folds; traces of one prompt are in one fold.

    Finished folds are kept in the working directory, so that the same call resumes an interrupted audit.

    Args:
        data: traces to audit.
        folds: number of folds, from 2.
        seed: random seed of folds and decoders.
        on_epoch: function that receives fold, epoch and mean training loss.
        cache_dir: folder of finished folds, which are not trained again.

    Raises:
        UserError: there are fewer prompts than folds, or the network is no decoder.
    """
    fold_of = _draw_prompt_folds(data, folds, seed)
    covered = np.flatnonzero(fold_of >= 0)
    prompts, responses = (_length(tokens[covered]) for tokens in (data.inputs[:, 0, 0], data.observed))
    budget = _with_context(data.spec.budget, prompts + responses)
    training_set = TrainingSet(
        torch.from_numpy(data.inputs[covered][..., -prompts:]),
        torch.from_numpy(data.observed[covered, :responses]),
        len(data.trace_format.vocabulary),
        class_names=tuple(data.trace_format.vocabulary),
        traces=data.trace_format,
    )
    device = prepare_device(data.spec)
    key = fold_key(training_set, budget, folds, seed, __name__, "chain_of_thought")
    training_set.move_to(device)

    def build(fold: int) -> Task:
        task: Task = get_entry("tasks", "chain_of_thought").load_class()(
            budget, torch_seed("audit traces", seed, fold), training_set, Stack([]), **data.spec.task.parameters
        )
        task.to(device)
        return task

    tasks = train_tasks(build, fold_of[covered], folds, cache_dir / key, on_epoch)
    return FoldDecoders(tasks, fold_of, prompts)


def describe_decoders(data: TraceAuditInput, folds: int) -> str:
    """Describe the decoders of an audit in one line."""
    budget = data.spec.budget
    epochs = counted(budget.epochs, "epoch")
    return f"{folds} decoders ({budget.network}), each trained on {folds - 1} of {folds} folds for {epochs}"


def _draw_prompt_folds(data: TraceAuditInput, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the (N,) fold of each trace, the same for all traces of a prompt; -1 for traces that are too long."""
    lengths = np.array(
        [len(prompt) + len(response) for prompt, response in zip(data.prompts, data.responses, strict=True)]
    )
    covered = lengths <= MAX_CHARACTERS
    of_prompt = data.prompt_groups
    groups = np.unique(of_prompt[covered])
    if len(groups) < folds:
        raise UserError(
            f"{data.title}: an audit needs traces of at least {folds} prompts, one for each fold, but has {len(groups)} of at "
            f"most {MAX_CHARACTERS} characters; add traces, or choose fewer --folds"
        )
    fold_of_group = np.full(len(data.prompts), -1)
    fold_of_group[groups] = draw_folds(len(groups), folds, seed)
    return np.where(covered, fold_of_group[of_prompt], -1)


def _with_context(budget: Budget, length: int) -> Budget:
    """Return the budget with a decoder for traces of a length, unless the user has named a context.

    Raises:
        UserError: the network is no decoder, or its context is too short.
    """
    family, _, argument = budget.network.partition(":")
    if family != "decoder":
        raise UserError(
            f"budget.network: traces are audited by decoders such as decoder:64x2, but got {show(budget.network)}"
        )
    width, layers, *context = argument.split("x")
    if context and context[0].isdigit() and int(context[0]) < length:
        raise UserError(
            f"budget.network: the traces need a context of {length} characters, but {show(budget.network)} has {context[0]}; "
            f"leave it out, as in decoder:{width}x{layers}"
        )
    return budget if context else budget.model_copy(update={"network": f"{budget.network}x{length}"})


def _length(tokens: Tokens) -> int:
    """Return the number of characters of the longest of some texts, at least 1."""
    return max(1, int((tokens != IGNORED).sum(1).max(initial=0)))

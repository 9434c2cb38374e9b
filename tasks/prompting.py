"""Few-shot prompting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.config.spec import Budget, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.errors import TrainingError
from noisybench.tasks._tokenizers import PretrainedTokenizer, build_tokenizer
from noisybench.tasks._trace_task import TraceTask
from noisybench.training.roles import LossFunction, LossWrapper, ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

QUESTION, ANSWER, BETWEEN = "Q: ", "\nA: ", "\n\n"


class Prompting(TraceTask):
    """A pre-trained language model is shown some traces of the training set, noisy as they are, and asked to write one like them.

    Nothing is trained: a run has one epoch, and its seed decides which traces are shown. Mitigations that choose traces
    (`trace_filter`) decide what can be shown, and `self_consistency` how is written; others are refused. Losses and detection
    are the model's, with the same traces shown (after the prompting of Havrilla and Iyer 2024).
    """

    compatible_with = "chain_of_thought"

    shots: int = parameter(6, ge=0, le=64, help="traces that are shown", always_in_label=True)
    instruction: str = parameter("", help="what is said before the traces")

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        assert training_set.traces is not None
        self.tokenizer: _FewShotTokenizer = _FewShotTokenizer(training_set.traces, self.networks[0])

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Nothing that needs training is asked for."""
        problems = super().check(spec, dataset)
        if spec.budget.epochs != 1:
            problems.append("budget.epochs: prompting trains nothing; set it to 1")
        for each in spec.mitigations:
            trains = isinstance(each.build(), LossFunction | LossWrapper | ModelBuilder)
            if trains and each.name != "cross_entropy":
                problems.append(
                    f"mitigations.{each.name}: changes how a model is trained, but prompting trains nothing"
                )
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """It is a pre-trained one, and the traces that are shown fit with a problem and its response."""
        if not hasattr(network, "tokenizer"):
            return [
                f"budget.network: prompting needs a pre-trained model, such as huggingface:FOLDER, not `{spec.budget.network}`"
            ]
        assert dataset.trace_format is not None
        settings, own = spec.task.parameters, build_tokenizer(dataset.trace_format, network).max_length(dataset)
        instruction = len(network.tokenizer(settings["instruction"])["input_ids"])
        marks = len(network.tokenizer(QUESTION + ANSWER + BETWEEN)["input_ids"])
        needed = (settings["shots"] + 1) * (own + marks) + instruction
        if needed > network.context_length:
            return [
                f"task.shots: {settings['shots']} of the longest traces and a problem need a context of {needed} tokens, but "
                f"`{spec.budget.network}` has {network.context_length}; show fewer, or take another model"
            ]
        return []

    def on_fit_start(self) -> None:
        """Choose what is shown, among the traces that were selected.

        Raises:
            RunFailed: there are not so many.
        """
        super().on_fit_start()
        data, form = self.training_set, self.training_set.traces
        assert form is not None
        usable = (data.targets != IGNORED).any(1).cpu()
        if self.sampler.weights is not None:
            usable &= (self.sampler.weights > 0).cpu()
        there = torch.nonzero(usable).squeeze(1)
        if len(there) < self.shots:
            raise TrainingError(
                f"{self.shots} traces are to be shown, but only {len(there)} are left; lower task.shots"
            )
        chosen = there[torch.from_numpy(Stream("shown", self.seed).permutation(len(there))[: self.shots])]
        prompts, responses = (
            form.decode(each[chosen].cpu().numpy()) for each in (data.inputs[:][:, 0, 0], data.targets)
        )
        pairs = zip(prompts, responses, strict=True)
        shown = "".join(f"{QUESTION}{prompt}{ANSWER}{text.removesuffix(form.end)}{BETWEEN}" for prompt, text in pairs)
        self.tokenizer.shown = (self.instruction + BETWEEN if self.instruction else "") + shown

    def start_epoch(self) -> None:
        """Start an epoch without batches: no weight is trained."""
        super().start_epoch()
        self.plan = []

    def on_train_epoch_end(self) -> None:
        """Set the loss to that of the training traces, each given the examples in the prompt."""
        label_quality, has_label = self.training_label_quality().float(), self.training_set.targets != IGNORED
        self.train_loss = float(-label_quality[has_label].clamp_min(1e-6).log().mean())
        self._epoch_has_started = False


class _FewShotTokenizer(PretrainedTokenizer):
    """Every prompt comes after the traces that are shown; a response ends where the next question would begin."""

    shown = ""

    def encode_prompts(self, prompts: Tensor) -> tuple[Tensor, int]:
        """Tokens of all that comes before the response."""
        texts = [f"{self.shown}{QUESTION}{text}{ANSWER}" for text in self._trace_format.decode(prompts.cpu().numpy())]
        return self._encode_padded(texts).to(prompts.device), 0

    def decode(self, tokens: Tensor) -> list[str]:
        """What was written before the next question would begin."""
        found = []
        for text in super().decode(tokens):
            body, mark, _ = text.partition(BETWEEN)
            ended = bool(mark) or text.endswith(self._trace_format.end)
            found.append(body.removesuffix(self._trace_format.end).strip() + (self._trace_format.end if ended else ""))
        return found

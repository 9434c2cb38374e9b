"""Few-shot prompting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noisybench.config.budget import Budget
from noisybench.config.parameters import parameter
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.targets import IGNORED
from noisybench.data.traces.document_format import ANSWER, QUESTION, SEPARATOR, few_shot_text
from noisybench.errors import TrainingError
from noisybench.tasks._tokenizers import PretrainedTokenizer, build_tokenizer
from noisybench.tasks._trace_task import TraceTask
from noisybench.training.roles import LossFunction, LossWrapper, ModelBuilder
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream


class Prompting(TraceTask):
    """Few-shot prompting of a pretrained language model with traces of the training set, including their noise.

    Nothing is trained: a run has one epoch, and its seed decides which traces are shown as examples. Mitigations that select
    traces (`trace_filter`) decide what can be shown, and `self_consistency` decides how responses are decoded; other
    mitigations are refused. Losses and detection are those of the model given the examples (after the prompting of Havrilla
    and Iyer 2024).
    """

    compatible_with = "chain_of_thought"

    shots: int = parameter(6, ge=0, le=64, help="Number of traces in the prompt", always_in_label=True)
    instruction: str = parameter("", help="Text before the traces", access="value")

    def __init__(self, budget: Budget, seed: int, training_set: TrainingSet, stack: Stack, **settings: Any) -> None:
        super().__init__(budget, seed, training_set, stack, **settings)
        assert training_set.traces is not None
        # Replaces the tokenizer of the base class, so that losses and detection also see the examples before each
        # prompt.
        self.tokenizer: _FewShotTokenizer = _FewShotTokenizer(training_set.traces, self.networks[0])

    @classmethod
    def check(cls, spec: RunSpec, dataset: Dataset) -> list[str]:
        """Return problems if the budget has several epochs, or if a mitigation changes the training."""
        problems = super().check(spec, dataset)
        if spec.budget.epochs != 1:
            problems.append("budget.epochs: prompting trains nothing; set it to 1")
        for component in spec.mitigations:
            trains = isinstance(component.build(), LossFunction | LossWrapper | ModelBuilder)
            if trains and component.name != "cross_entropy":
                problems.append(
                    f"mitigations.{component.name}: changes how a model is trained, but prompting trains nothing"
                )
        return problems

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """Return a problem if the network is not a pretrained model, or if its context is too short for the examples."""
        if not getattr(network, "is_pretrained", False):
            return [
                f"budget.network: prompting needs a pretrained model, such as huggingface:FOLDER, not `{spec.budget.network}`"
            ]
        assert dataset.trace_format is not None
        settings, trace_length = (
            spec.task.parameters,
            build_tokenizer(dataset.trace_format, network).max_length(dataset),
        )
        instruction_length = len(network.tokenizer(settings["instruction"])["input_ids"])
        marks_length = len(network.tokenizer(QUESTION + ANSWER + SEPARATOR)["input_ids"])
        # One more trace than there are shots: the problem itself with the response to it.
        required = (settings["shots"] + 1) * (trace_length + marks_length) + instruction_length
        if required > network.context_length:
            return [
                f"task.shots: {settings['shots']} of the longest traces and a problem need a context of {required} tokens, but "
                f"`{spec.budget.network}` has {network.context_length}; use fewer shots, or another model"
            ]
        return []

    def on_fit_start(self) -> None:
        """Draw the traces to show from those that the stack selects.

        Raises:
            TrainingError: the stack selects too few traces.
        """
        super().on_fit_start()
        data, trace_format = self.training_set, self.training_set.traces
        assert trace_format is not None
        is_usable = (data.targets != IGNORED).any(1).cpu()
        if self.sampler.weights is not None:
            is_usable &= (self.sampler.weights > 0).cpu()
        usable = torch.nonzero(is_usable).squeeze(1)
        if len(usable) < self.shots:
            raise TrainingError(
                f"the prompt needs {self.shots} traces, but only {len(usable)} are available; lower task.shots"
            )
        # Drawn on the host, so that a seed shows the same traces on every device.
        rows = usable[torch.from_numpy(Stream("shown", self.seed).permutation(len(usable))[: self.shots])]
        prompts, responses = (
            trace_format.decode(characters[rows].cpu().numpy())
            for characters in (data.inputs[:][:, 0, 0], data.targets)
        )
        examples = few_shot_text(
            (prompt, response.removesuffix(trace_format.end))
            for prompt, response in zip(prompts, responses, strict=True)
        )
        self.tokenizer.prefix = (self.instruction + SEPARATOR if self.instruction else "") + examples

    def deployment_state(self) -> dict[str, Any]:
        """Return the text before every prompt."""
        return {"prefix": self.tokenizer.prefix}

    def load_deployment_state(self, state: dict[str, Any]) -> None:
        """Restore the text before every prompt."""
        self.tokenizer.prefix = state["prefix"]

    def start_epoch(self) -> None:
        """Start an epoch without batches: no weight is trained."""
        super().start_epoch()
        self.plan = []

    def on_train_epoch_end(self) -> None:
        """Set the loss to that of the training traces, each given the examples in the prompt."""
        # The method of the base class is not called: it divides by the number of batches, which is 0 here.
        label_quality, has_label = self.training_label_quality().float(), self.training_set.targets != IGNORED
        # Label quality is stored in half precision, where small probabilities become zero.
        self.train_loss = float(-label_quality[has_label].clamp_min(1e-6).log().mean())
        self._epoch_has_started = False


class _FewShotTokenizer(PretrainedTokenizer):
    """Tokenizer that puts the examples before every prompt, and ends a response where the next question would begin."""

    prefix = ""

    def prompt_text(self, prompt: str) -> str:
        """Return everything before the response: the examples, and the prompt as a question."""
        return f"{self.prefix}{QUESTION}{prompt}{ANSWER}"

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the texts before the next question."""
        end = self._trace_format.end
        responses = []
        for text in super().decode(tokens):
            # A pretrained model continues the pattern of the prompt with further questions; only the text before them
            # counts.
            body, separator, _ = text.partition(SEPARATOR)
            has_end = bool(separator) or text.endswith(end)
            responses.append(body.removesuffix(end).strip() + (end if has_end else ""))
        return responses

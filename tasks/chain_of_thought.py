"""Chain-of-thought reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.traces.formats import TraceFormat
from noisybench.tasks._chat_tokenizer import ChatTokenizer, check_template
from noisybench.tasks._tokenizers import Tokenizer
from noisybench.tasks._trace_task import TraceTask


class ChainOfThought(TraceTask):
    """Language modeling of traces with a decoder (after Havrilla and Iyer 2024).

    The network learns to write the response to a prompt token by token; the loss is that of the response and its end. The
    mitigations of the stack treat every token of a response as an example. A small decoder is trained from scratch on
    characters; a Hugging Face model, given by its name or folder, is fine-tuned on the tokens of its own tokenizer. With
    `chat_template`, a prompt is a message of the user and the response the answer to it, as the model was tuned to chat.

    The score is the exact match of the greedily decoded answer on clean test problems. The record also has the exact match
    of responses sampled at temperature 1 (at the end), the fraction of responses with an unparsable answer, the fraction of
    written steps that follow from the steps before, the first incorrect step, the mean length, and the loss on correct and
    on corrupted training tokens.

    Example:
        >>> import torch
        >>> from noisybench.config.budget import Budget
        >>> from noisybench.tasks.datasets.traced_integers import TracedIntegers
        >>> from noisybench.training.stack import Stack
        >>> from noisybench.training.training_set import TrainingSet
        >>> dataset = TracedIntegers(train_problems=8, validation_problems=1, test_problems=2).load()
        >>> inputs, targets = (torch.from_numpy(array) for array in (dataset.train.inputs, dataset.train.targets))
        >>> data = TrainingSet(inputs, targets, dataset.num_classes, traces=dataset.trace_format)
        >>> task = ChainOfThought(Budget(network="decoder:16x1"), seed=0, training_set=data, stack=Stack([]))
        >>> len(task.write(dataset.test.inputs, length=5))
        2
    """

    chat_template: bool = parameter(
        False,
        help="Write traces in the chat template of the model's tokenizer: prompts of a user, answers of an assistant",
    )

    @classmethod
    def make_tokenizer(cls, settings: Mapping[str, Any], trace_format: TraceFormat, network: Any) -> Tokenizer:
        """Return the tokenizer of a network, with its chat template if the task says so."""
        if settings["chat_template"]:
            return ChatTokenizer(trace_format, network)
        return super().make_tokenizer(settings, trace_format, network)

    @classmethod
    def check_network(cls, spec: RunSpec, network: Any, dataset: Dataset) -> list[str]:
        """Return a problem if the network has no chat template, or one of all tasks on traces.

        Raises:
            UserError: the chat template does not fit the traces.
        """
        if spec.task.parameters["chat_template"]:
            if not hasattr(network, "tokenizer"):
                return [
                    f"task.chat_template: `{spec.budget.network}` has no tokenizer, so no chat template; choose a model such as "
                    "huggingface:FOLDER, or set it to false"
                ]
            form = dataset.trace_format
            assert form is not None
            prompts, responses = form.decode(dataset.train.inputs[:][:, 0, 0]), form.decode(dataset.train.targets)
            check_template(network, prompts, [text.removesuffix(form.end) for text in responses])
        return super().check_network(spec, network, dataset)

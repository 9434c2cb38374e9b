"""Chain-of-thought reasoning."""

from __future__ import annotations

from noisybench.tasks._trace_task import TraceTask


class ChainOfThought(TraceTask):
    """Language modeling of traces with a decoder (after Havrilla and Iyer 2024).

    The network learns to write the response to a prompt token by token; the loss is that of the response and its end. The
    mitigations of the stack treat every token of a response as an example. A small decoder is trained from scratch on
    characters; a Hugging Face model, given by its name or folder, is fine-tuned on the tokens of its own tokenizer.

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

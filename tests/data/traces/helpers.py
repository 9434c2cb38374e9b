"""Shared helpers of the tests of traces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.data.traces.program_format import ProgramTraceFormat
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, start_first_epoch, toy_labels, toy_spec


def load_traces(**values: Any) -> Dataset:
    """Load a small dataset of traced integers."""
    dataset: Dataset = (
        get_entry("datasets", "traced_integers")
        .load_class()(**{"train_problems": 400, "validation_problems": 20, "test_problems": 40, **values})
        .load()
    )
    return dataset


def build_noise(name: str, **values: Any) -> Any:
    """Build a noise model by its registered name."""
    return get_entry("noise_models", name).load_class()(**values)


def program_format(name: str, width: int = 2, count: int = 5) -> ProgramTraceFormat:
    """Return the trace format of a built-in program."""
    return ProgramTraceFormat(PROGRAMS[name](width, count))


def trace_format_of(dataset: Dataset) -> Any:
    """Return the trace format of a dataset of traces."""
    assert dataset.trace_format is not None
    return dataset.trace_format


def decode_prompts(dataset: Dataset) -> list[str]:
    """Return the prompts of the training split as texts."""
    prompts: list[str] = trace_format_of(dataset).decode(dataset.train.inputs[:][:, 0, 0])
    return prompts


def training_set(dataset: Dataset, labels: Any = None) -> TrainingSet:
    """Return the training set of a dataset of traces."""
    labels = labels or toy_labels(dataset)
    return TrainingSet(
        torch.from_numpy(dataset.train.inputs),
        torch.from_numpy(labels.train),
        dataset.num_classes,
        traces=dataset.trace_format,
    )


def toy_task(dataset: Dataset, labels: Any = None) -> Any:
    """Return a chain-of-thought task at the start of an epoch."""
    task = ChainOfThought(toy_spec(task="chain_of_thought").budget, 0, training_set(dataset, labels), Stack([]))
    start_first_epoch(task)
    return task


def kept_traces(by: str, dataset: Dataset, labels: Any) -> np.ndarray[Any, Any]:
    """Return the mask of the traces that `trace_filter` keeps."""
    run = prepared_toy({"name": "trace_filter", "by": by}, dataset, labels, budget={"epochs": 1})
    data = training_set(dataset, labels)
    task = ChainOfThought(run.spec.budget, 0, data, run.stack)
    run.stack.mitigations[0].prepare(task, data)
    return np.asarray(run.stack.mitigations[0].sample_weights(task, data)) > 0

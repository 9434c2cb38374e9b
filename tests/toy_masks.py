"""Tasks on toy masks."""

from __future__ import annotations

from typing import Any

import torch

from noisybench.data.dataset import Dataset
from noisybench.tasks.segmentation import Segmentation
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import start_first_epoch, toy_labels, toy_spec

MASKS: dict[str, Any] = {"task": "segmentation"}

EAGER = {"name": "adele", "fixed_onset": 1, "correction_interval": 1, "confidence_threshold": 0.3}
"""A mitigation that corrects masks after every epoch."""


def task_on(dataset: Dataset, **budget: Any) -> Segmentation:
    """Return a task at the start of its first epoch."""
    labels = toy_labels(dataset)
    data = TrainingSet(torch.from_numpy(dataset.train.inputs[:]), torch.from_numpy(labels.train), dataset.num_classes)
    task = Segmentation(toy_spec(**MASKS, budget=budget).budget, 0, data, Stack([]))
    start_first_epoch(task)
    return task

"""Operators of a training step for which a GPU would be waited for, counted on a CPU.

A host that waits for the device once per step launches no kernels ahead, so that the device idles meanwhile.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from noisybench.config.registry import get_entry, list_entries
from noisybench.data.dataset import Dataset
from noisybench.nn.cuda_graphs import CapturedCalls
from noisybench.runs.preparation import training_set_of
from noisybench.training.loop import attach, train_epoch
from tests.helpers import prepared_toy, toy_dataset

READING = {
    "_local_scalar_dense", "bincount", "equal", "is_nonzero", "masked_select", "nonzero", "unique_consecutive", "unique_dim",
    "_unique2",
}  # fmt: skip
"""Operators that return a number to the host, or a tensor whose shape depends on values."""

COPYING = {"lift_fresh", "lift_fresh_copy"}
"""What `torch.tensor` and `new_tensor` dispatch: on a GPU, a copy of numbers of the host, which waits."""

INDEXING = {"index", "index_put_", "_index_put_impl_"}
"""Operators that wait if an index is a mask."""


class HostCounter(TorchDispatchMode):
    """Count the operators that make the host wait, and those that the host launches outside of graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launched, self.in_graph = 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_mask = name in INDEXING and any(each is not None and each.dtype == torch.bool for each in args[1])
        # A capture would fail at these, so that they count in graphs as well.
        if name in READING or name in COPYING or is_mask:
            self.waits[name] += 1
        self.launched += not self.in_graph
        return func(*args, **(kwargs or {}))


def one_hot(targets: Tensor, num_classes: int) -> Tensor:
    """As PyTorch does it on a GPU, where it checks no value."""
    return torch.zeros(*targets.shape, num_classes, dtype=torch.int64).scatter_(-1, targets[..., None], 1)


def colored(dataset: Dataset) -> Dataset:
    def split_of(split: Any) -> Any:
        return replace(split, inputs=np.repeat(split.inputs, 3, axis=1))

    parts = {name: split_of(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return replace(dataset, **parts)


def counted_epoch(mitigation: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[HostCounter, int]:
    """The counts of the forward and backward passes of the third epoch, and its number of steps."""
    counter = HostCounter()

    def call(self: CapturedCalls, name: Any, function: Any, module: Any, inputs: Tensor, generator: Any = None) -> Any:
        counter.in_graph = True
        try:
            return function(inputs)
        finally:
            counter.in_graph = False

    monkeypatch.setattr(CapturedCalls, "__call__", call)
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
    prepared = prepared_toy(mitigation, colored(toy_dataset()), budget={"augmentation": "crop_flip"})
    spec = prepared.spec
    task = get_entry("tasks", spec.task.name).load_class()(
        spec.budget, 0, training_set_of(prepared), prepared.stack, **spec.task.parameters
    )
    attach(task, Fabric(accelerator="cpu", devices=1))
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    for epoch in range(2):
        train_epoch(task, optimizer, epoch)
    task.trainer.current_epoch = 2
    task.on_train_epoch_start()
    batches = iter(task.train_dataloader())
    steps = 0
    while True:
        with counter:
            batch = next(batches, None)
            if batch is None:
                return counter, steps
            loss = task.training_step(batch, steps)
            optimizer.zero_grad()
            forward = counter.launched
            loss.backward()
            counter.launched = forward
        optimizer.step()
        steps += 1


CHOICES = {"lift_fresh": 2}
"""One operation of a view, drawn on the host and copied without a wait."""

EXAMPLES = {"_unique2": 1, "_local_scalar_dense": 1}
"""A search for the examples of a batch, of which some are left out as a whole."""

KNOWN = {
    "lsa 0": CHOICES, "lsa 1": CHOICES, "lsa 2": CHOICES, "sop_plus 0": {"lift_fresh": 4}, "cores2_star 0": {"lift_fresh": 4},
    "disc 0": {"lift_fresh": 4, "nonzero": 1}, "trimmed_loss 0": EXAMPLES,
    "promix 0": {"lift_fresh": 6, "nonzero": 2}, "promix 1": {"lift_fresh": 6, "nonzero": 2},
    "co_teaching 1": {name: 2 * count for name, count in EXAMPLES.items()},
}  # fmt: skip
"""Operators per step of the stacks that have some."""

CASES = {
    f"{name} {number}": {"name": name, **parameters}
    for name, entry in list_entries("mitigations").items()
    if "classification" in entry.load_class().tasks
    for number, parameters in enumerate(entry.load_class().test_cases())
}


@pytest.mark.fast
@pytest.mark.parametrize("case", CASES)
def test_no_step_makes_the_host_wait(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, steps = counted_epoch(CASES[case], monkeypatch)
    assert steps >= (1 if case.startswith("pes ") else 2), "pes trains on few examples in its last stage"
    assert {name: count / steps for name, count in counter.waits.items()} == KNOWN.get(case, {})


@pytest.mark.fast
@pytest.mark.parametrize(("case", "most"), [("cross_entropy 0", 10), ("pls 0", 110), ("lsa 0", 230)])
def test_few_operators_of_a_forward_pass_are_launched_outside_of_graphs(
    case: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, steps = counted_epoch(CASES[case], monkeypatch)
    assert counter.launched / steps <= most

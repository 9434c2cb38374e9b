"""Votes of nearest neighbors from the code of Wu et al."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

REFERENCE = "https://github.com/zhirongw/lemniscate.pytorch"
COMMIT = "f7cfe298357cb2b169cd59eb540aca24bed1f9b8"
COMPUTED = "kNN of test.py: sums of votes of 15 neighbors at the default temperature, for 25 of 80 points in 5 classes"

COUNT, TEMPERATURE = 15, 0.07


class RecordedTorch:
    """PyTorch, which keeps the sums of votes."""

    def __init__(self) -> None:
        self.votes: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def sum(self, values: Tensor, dim: int) -> Tensor:
        """Return and keep a sum."""
        self.votes.append(values.sum(dim))
        return self.votes[-1]


def generate(folder: Path) -> dict[str, Any]:
    """Return points, queries, targets and votes."""
    # The name of the argument is a keyword since Python 3.7.
    source = (folder / "test.py").read_text(encoding="utf-8").replace("async=", "non_blocking=")
    # Only the two functions: the imports need modules of the repository and a GPU.
    code = source[source.index("def NN(") :]
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 80)
    centers = rng.normal(size=(5, 8))
    points, queries = (
        functional.normalize(torch.from_numpy(values).float())
        for values in (
            centers[classes] + rng.normal(size=(80, 8)),
            rng.normal(size=(25, 8)) * np.arange(1, 26)[:, None],
        )
    )
    recorded = RecordedTorch()
    names: dict[str, Any] = {"torch": recorded, "time": mock.MagicMock(**{"time.return_value": 0.0})}
    names["AverageMeter"] = lambda: SimpleNamespace(val=0.0, avg=0.0, update=lambda value: None)
    names["print"] = lambda *_: None
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor, **_: tensor):
        exec(compile(code, "test.py", "exec"), names)
        train = SimpleNamespace(dataset=SimpleNamespace(train_labels=classes.tolist()))
        test = mock.MagicMock(dataset=queries)
        test.__iter__.return_value = [(queries, torch.zeros(25, dtype=torch.int64), torch.arange(25))]
        net = mock.MagicMock(side_effect=lambda inputs: inputs)
        names["kNN"](0, net, SimpleNamespace(memory=points), train, test, COUNT, TEMPERATURE)
    return {"points": points, "queries": queries, "targets": classes, "votes": recorded.votes[0]}

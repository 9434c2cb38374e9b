"""Read and write frozen vectors: `data/NAME.npz` with arrays, and `data/NAME.json` with their origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Golden:
    """Arrays that a reference computed, and the inputs that it was given.

    Attributes:
        arrays: arrays by name.
        origin: reference, commit, what was computed, and versions of packages.
    """

    arrays: dict[str, NDArray[Any]]
    origin: dict[str, Any]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        """Return an array as a tensor."""
        return torch.from_numpy(self.arrays[name].copy())


def load_golden(name: str) -> Golden:
    """Return the frozen vectors of a name."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        return Golden(dict(file), json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


def save_golden(name: str, arrays: Mapping[str, NDArray[Any]], origin: Mapping[str, Any]) -> None:
    """Write frozen vectors and their origin."""
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(DATA / f"{name}.npz", **dict(arrays))  # type: ignore[arg-type]
    (DATA / f"{name}.json").write_text(json.dumps(dict(origin), indent=2) + "\n", encoding="utf-8")

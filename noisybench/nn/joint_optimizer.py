"""Several optimizers of different kinds that take their steps as one, at once or one after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch


class JointOptimizer(torch.optim.Optimizer):
    """Take a step of several optimizers, each with parameters, settings and an algorithm of its own.

    It has one list of parameter groups and one state, so that it is saved, restored and scheduled as any other optimizer.

    Args:
        parts: optimizers of different parameters.

    Example:
        >>> first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        >>> parts = [torch.optim.SGD(first.parameters(), lr=1.0), torch.optim.Adam(second.parameters(), lr=0.1)]
        >>> [group["lr"] for group in JointOptimizer(parts).param_groups]
        [1.0, 0.1]
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._collect()

    def _collect(self) -> None:
        """Take the state of the parts, and let them share it."""
        for part in self.parts:
            self.state.update(part.state)
        self._share()

    def _share(self) -> None:
        """Let the parts use the groups and the state of this optimizer."""
        start = 0
        for part in self.parts:
            end = start + len(part.param_groups)
            part.param_groups, part.state, start = self.param_groups[start:end], self.state, end

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of all parts."""
        super().load_state_dict(state_dict)
        # Restoring replaces both objects.
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of every part, and return the loss of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


class PhaseOptimizer(JointOptimizer):
    """Take the steps of one optimizer after the other: of one that is new in each phase of training.

    Args:
        build: returns the optimizer of a phase, by its number from 0.

    Attributes:
        phase: number of the current phase.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> optimizer = PhaseOptimizer(lambda phase: torch.optim.SGD(layer.parameters(), lr=0.1**phase))
        >>> optimizer.start(1)
        >>> optimizer.param_groups[0]["lr"]
        0.1
    """

    def __init__(self, build: Callable[[int], torch.optim.Optimizer]) -> None:
        self.phase, self._build = 0, build
        super().__init__(_parts(build(0)))

    def start(self, phase: int) -> None:
        """Replace the optimizer by that of a phase, without any state."""
        self.phase, self.parts = phase, _parts(self._build(phase))
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        # A new object, because steps that were captured on a GPU keep the state that they were captured with.
        self.state = defaultdict(dict)
        self._collect()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer of this phase, with the number of the phase."""
        return {**super().state_dict(), "phase": self.phase}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the optimizer of a phase with its state."""
        self.start(state_dict["phase"])
        super().load_state_dict(state_dict)


def _parts(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    return list(optimizer.parts) if isinstance(optimizer, JointOptimizer) else [optimizer]

"""Several optimizers of different kinds that take their steps as one."""

from __future__ import annotations

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

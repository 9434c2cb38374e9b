"""The part of a task's contract that a saved model needs beside the weights of its networks."""

from __future__ import annotations

from typing import Any


class Deployable:
    """State of a task that its predictions need after training; without any by default."""

    def deployment_state(self) -> dict[str, Any]:
        """Return the JSON-like values beside the weights that predictions need, such as those that normalize inputs."""
        return {}

    def load_deployment_state(self, state: dict[str, Any]) -> None:
        """Restore the values of `deployment_state`."""

    def release(self, inputs: Any) -> None:
        """Forget the results that predictions have kept of some inputs, which the caller drops."""

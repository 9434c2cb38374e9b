"""Record the software versions and the hardware of a run."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from noisybench import __version__
from noisybench.config.spec import RunSpec


def describe_environment(spec: RunSpec) -> dict[str, str]:
    """Return versions, device and commit of a run: recorded with it, but not part of its identity.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> describe_environment(resolve({"dataset": "digits", "mitigations": "gce"}))["torch"] == torch.__version__
        True
    """
    use_gpu = spec.execution.device in ("auto", "cuda") and torch.cuda.is_available()
    environment = {
        "noisybench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": importlib.metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name() if use_gpu else f"{platform.machine()} CPU",
        "threads": str(spec.execution.num_threads),
    }
    commit = git_commit()
    return {**environment, "commit": commit} if commit else environment


def git_commit() -> str | None:
    """Return the commit of the checkout that noisybench is imported from, or None if it is installed from a wheel.

    Example:
        >>> commit = git_commit()
        >>> commit is None or len(commit) == 40
        True
    """
    root = Path(__file__).resolve().parents[2]
    # Otherwise git would search the parent folders, and find an unrelated repository around an installed package.
    if not (root / ".git").exists():
        return None
    try:
        # A run must not fail because git is missing or hangs.
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None

"""What a run was made with and on."""

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
    """Versions, device and commit: recorded and warned about where they differ, but not part of the identity."""
    use_gpu = spec.execution.device in ("auto", "cuda") and torch.cuda.is_available()
    found = {
        "noisybench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": importlib.metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name() if use_gpu else f"{platform.machine()} processor",
        "threads": str(spec.execution.num_threads),
    }
    commit = git_commit()
    return {**found, "commit": commit} if commit else found


def git_commit() -> str | None:
    """Commit of the source checkout that noisybench runs from; None where it is installed from a wheel."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None

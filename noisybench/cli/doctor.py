"""Is this machine fit for runs? Each check says what it found and whether that is good."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from noisybench.errors import UserError
from noisybench.utils.files import cache_folder
from noisybench.utils.processes import usable_cores

Finding = tuple[str, str, bool]


def examine() -> Iterator[Finding]:
    """Name, finding and verdict of each check."""
    yield "python", platform.python_version(), True
    for name in (
        "noisybench",
        "torch",
        "torchvision",
        "pytorch-lightning",
        "mlflow",
        "optuna",
        "albumentations",
        "scikit-learn",
    ):
        try:
            yield name, importlib.metadata.version(name), True
        except importlib.metadata.PackageNotFoundError:
            yield name, "missing: python -m pip install noisybench", name == "noisybench"
    yield _operators()
    yield _devices()
    yield "cores", str(usable_cores()), True
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "free disk space", f"{free:.0f} GiB in the working folder", free > 1
    yield "cache", str(cache_folder()), True
    yield _store()


def _operators() -> Finding:
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return "torchvision ops", f"{error}; torch and torchvision do not match: install both together", False
    return "torchvision ops", "work", True


def _devices() -> Finding:
    try:
        import torch
    except ImportError as error:
        return "device", str(error), False
    if torch.cuda.is_available():
        return "device", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}", True
    return "device", "processor only (torch sees no GPU)", True


def _store() -> Finding:
    from noisybench.tracking.connection import hide_password
    from noisybench.tracking.store import Store

    store = Store()
    if not store.connection.exists():
        return "store", f"{hide_password(store.connection.uri)} (made by the first run)", os.access(Path.cwd(), os.W_OK)
    try:
        store.connection.check()
        return "store", f"{hide_password(store.connection.uri)}: {len(store.runs.finished())} finished runs", True
    except UserError as error:
        return "store", str(error), False

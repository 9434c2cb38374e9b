"""Checks of the machine for `noisybench doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from noisybench.errors import UserError
from noisybench.utils.files import cache_folder
from noisybench.utils.processes import usable_cores

PACKAGES = (
    "noisybench", "torch", "torchvision", "pytorch-lightning", "mlflow", "optuna", "albumentations", "scikit-learn",
)  # fmt: skip

MIN_FREE_DISK_GIB = 1


class Check(NamedTuple):
    """Result of one check.

    Attributes:
        name: checked item.
        details: version, size or problem.
        passed: False if runs will not work.
    """

    name: str
    details: str
    passed: bool


def run_checks() -> Iterator[Check]:
    """Yield the result of each check."""
    yield Check("python", platform.python_version(), True)
    for name in PACKAGES:
        try:
            yield Check(name, importlib.metadata.version(name), True)
        except importlib.metadata.PackageNotFoundError:
            # noisybench itself runs from a source checkout without being installed.
            yield Check(name, "missing: python -m pip install noisybench", name == "noisybench")
    yield _check_operators()
    yield _check_device()
    yield Check("cores", str(usable_cores()), True)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check("free disk space", f"{free:.0f} GiB in the working folder", free > MIN_FREE_DISK_GIB)
    yield Check("cache", str(cache_folder()), True)
    yield _check_store()


def _check_operators() -> Check:
    try:
        import torch
        import torchvision

        # Calls a compiled operator: versions alone do not show whether the two packages were built for each other.
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        problem = f"{error}; torch and torchvision are incompatible: install both together"
        return Check("torchvision ops", problem, False)
    return Check("torchvision ops", "available", True)


def _check_device() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("device", str(error), False)
    if torch.cuda.is_available():
        return Check("device", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}", True)
    return Check("device", "CPU only (torch sees no GPU)", True)


def _check_store() -> Check:
    from noisybench.tracking.probe import hide_password
    from noisybench.tracking.store import Store

    store = Store()
    uri = hide_password(store.connection.uri)
    # `check` would create the store, but this command only reports.
    if not store.connection.exists():
        return Check("store", f"{uri} (created by the first run)", os.access(Path.cwd(), os.W_OK))
    try:
        store.connection.check()
        return Check("store", f"{uri}: {len(store.runs.finished())} finished runs", True)
    except UserError as error:
        return Check("store", str(error), False)

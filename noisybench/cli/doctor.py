"""Checks of the machine for `noisybench doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import noisybench
from noisybench.cli.store_checks import Check, check_store
from noisybench.errors import UserError
from noisybench.utils.files import cache_folder
from noisybench.utils.processes import usable_cores

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "mlflow", "optuna", "albumentations", "scikit-learn")

MIN_FREE_DISK_GIB = 1


def run_checks() -> Iterator[Check]:
    """Yield the result of each check."""
    yield Check("noisybench", _describe_installation(Path(noisybench.__file__).resolve().parent), True)
    yield Check("python", f"{platform.python_version()} on {platform.system()} ({platform.machine()})", True)
    for name in PACKAGES:
        try:
            yield Check(name, importlib.metadata.version(name), True)
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, f"missing: python -m pip install {name}", False)
    yield _check_operators()
    yield _check_device()
    yield Check("cores", str(usable_cores()), True)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check("free disk space", f"{free:.0f} GiB in the working folder", free > MIN_FREE_DISK_GIB)
    yield _check_cache()
    for check, _ in check_store():
        yield check


def _describe_installation(package: Path) -> str:
    """Return the version, and from where it runs: an installed package, or a checkout with or without installation."""
    folder = package.parent
    if not (folder / "setup.cfg").is_file():
        return f"{noisybench.__version__}, installed in {folder}"
    origins = [
        json.loads(text)
        for distribution in importlib.metadata.distributions(name="noisybench")
        if (text := distribution.read_text("direct_url.json")) is not None
    ]
    is_installed = any(
        origin.get("dir_info", {}).get("editable") and url2pathname(urlsplit(origin["url"]).path) == str(folder)
        for origin in origins
    )
    return f"{noisybench.__version__}, source checkout {folder} ({'editable' if is_installed else 'not installed'})"


def _check_cache() -> Check:
    try:
        folder = cache_folder()
    except UserError as error:
        return Check("cache", str(error), False)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # Permissions alone do not show that a file system accepts no files.
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror}); set NOISYBENCH_CACHE to a folder that can"
        return Check("cache", problem, False)
    return Check("cache", str(folder), True)


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


def repair() -> Iterator[Check]:
    """Mend what can be mended without losing a recorded run, and yield the result of each repair.

    Damaged and unfinished files are renamed or moved; nothing is deleted.
    """
    for check, mend in list(check_store()):
        if mend is not None:
            try:
                yield Check("repaired", mend(), True)
            except (UserError, OSError) as error:
                yield Check(check.name, f"could not be repaired: {error}", False)

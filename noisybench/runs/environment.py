"""Record the software versions and the hardware of a run."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import torch

from noisybench import __version__
from noisybench.config.registry import KINDS
from noisybench.config.source_code import SourceTree, modules_of_run
from noisybench.config.spec import RunSpec
from noisybench.utils.processes import cpu_name

PACKAGES = (
    "torchvision", "pytorch-lightning", "numpy", "scikit-learn", "scipy", "albumentations", "opencv-python-headless",
    "pandas", "pillow",
)  # fmt: skip
"""Distributions whose versions every record has, beside torch."""

DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "lightning_fabric": "pytorch-lightning",
    "pytorch_lightning": "pytorch-lightning", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml",
}  # fmt: skip
"""Distributions whose packages have other names."""


def describe_environment(spec: RunSpec) -> dict[str, str]:
    """Return versions, device and commit of a run: recorded with it, but not part of its identity.

    Besides `PACKAGES` it has the versions of the libraries that the modules of the run import, such as timm, and of the
    distributions of its plug-ins.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> describe_environment(resolve({"dataset": "digits", "mitigations": "gce"}))["torch"] == torch.__version__
        True
    """
    environment = {
        "noisybench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **_versions(spec),
        "device": device_name(spec.execution.device),
        "threads": str(spec.num_threads),
    }
    commit = git_commit()
    return {**environment, "commit": commit} if commit else environment


def device_name(device: str) -> str:
    """Return the name of the device that a run uses on this machine.

    Args:
        device: value of `execution.device`.

    Example:
        >>> device_name("cpu").endswith(" CPU")
        True
    """
    use_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name() if use_gpu else cpu_name()


def _versions(spec: RunSpec) -> dict[str, str]:
    """Return the versions of the libraries and plug-ins of a run by distribution."""
    modules = modules_of_run(spec.task, spec.dataset, spec.noise, spec.mitigations, spec.budget)
    tree = SourceTree()
    names = tree.modules_of_parts(modules, ["engine", *modules])
    imported = {
        name.partition(".")[0] for module in names if (source := tree.source(module)) for name in source.imports
    }
    libraries = {DISTRIBUTIONS.get(name, name) for name in imported - sys.stdlib_module_names}
    versions = {name: package_version(name) for name in sorted({*PACKAGES, *libraries} - {"noisybench", "torch"})}
    plugin_modules = {module for module in modules.values() if not module.startswith("noisybench.")}
    plugins = {
        point.dist.name: point.dist.version
        # Without plug-ins, the entry points of all installed distributions need not be read.
        for kind in (KINDS if plugin_modules else ())
        for point in importlib.metadata.entry_points(group=f"noisybench.{kind}")
        if point.dist and point.value in plugin_modules
    }
    return {name: version for name, version in {**versions, **plugins}.items() if version}


@functools.cache
def package_version(distribution: str) -> str | None:
    """Return the version of a distribution; None if it is not installed, or a package of it has another name.

    Example:
        >>> package_version("no-such-distribution") is None
        True
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


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

"""Labels of symmetric and asymmetric noise on CIFAR-10 from the authors' dataset class."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

REFERENCE = "https://github.com/shengliu66/ELR"
COMMIT = "934af53434a336b6db80d05d7649d23216e8ca6d"
COMPUTED = (
    "data_loader.cifar10.CIFAR10_train: counts of clean and observed classes of 60,000 labels with both kinds of noise"
)

RATES = (0.2, 0.4, 0.8)


def generate(folder: Path) -> dict[str, Any]:
    """Return (10, 10) counts of observed classes by clean class, for each kind of noise and rate."""
    sys.path.insert(0, str(folder / "ELR"))
    # Only labels are made: the packages that the file imports for pictures and configurations are not needed.
    for module in ("parse_config", "base", "utils"):
        sys.modules.setdefault(module, mock.MagicMock())
    import importlib.util

    spec = importlib.util.spec_from_file_location("elr_cifar10", folder / "ELR" / "data_loader" / "cifar10.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arrays: dict[str, Any] = {"rates": np.array(RATES)}
    for position, rate in enumerate(RATES):
        for kind in ("symmetric", "asymmetric"):
            np.random.seed(position)  # noqa: NPY002, the authors' code reads the global generator
            clean = np.repeat(np.arange(10), 6000)
            dataset = SimpleNamespace(
                train_labels=clean.copy(),
                train_data=clean,
                num_classes=10,
                noise_indx=[],
                cfg_trainer={"percent": rate},
            )
            getattr(module.CIFAR10_train, f"{kind}_noise")(dataset)
            arrays[f"{kind}_{position}"] = np.bincount(clean * 10 + dataset.train_labels, minlength=100).reshape(10, 10)
    return arrays

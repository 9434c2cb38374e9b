"""Helpers of the cases: a scratch folder, the command line, reading a dataset, and the verdict.

A case is a script: `python tests/wild/NN-name.py` builds its input, runs commands and ends with PASS or FAIL. The variable
WILD names another folder for its files.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisybench.cli.app import main
from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset

UNKNOWN_WORDS = ("No such command", "No such option", "Got unexpected extra argument", "unknown parameter")
"""Parts of messages about the words of a case, which must never pass for a refusal of its data."""

SHORT = (
    "budget.network=small_cnn", "budget.epochs=2", "budget.batch_size=16", "budget.learning_rate=0.05",
    "budget.augmentation=none",
)  # fmt: skip


def scratch(name: str) -> Path:
    """Return an empty folder, which becomes the working folder."""
    base = Path(os.environ.get("WILD", tempfile.gettempdir())) / "wild-cases" / name
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    os.chdir(base)
    os.environ.update(NOISYBENCH_CACHE=str(base / "cache"), OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")
    return base


def nb(*arguments: object) -> tuple[int, str]:
    """Run a command in this process, print it, and return its exit status and output."""
    words = [str(argument) for argument in arguments]
    print("$ noisybench", *words)
    output, status, earlier = io.StringIO(), 0, sys.argv
    try:
        sys.argv = ["noisybench", *words]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process
            main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = earlier
    text = output.getvalue()
    print("\n".join(f"    {line}" for line in text.strip().splitlines()[:25]))
    print(f"    [status {status}]", flush=True)
    if any(part in text for part in UNKNOWN_WORDS):
        verdict(False, "the command has another word for this now; correct the case")
    return status, text


def create_labels(output: Path, recipe: str, *overrides: str) -> tuple[int, str]:
    """Run `noisybench labels create`."""
    return nb("labels", "create", recipe, *overrides, "--output", output)


def dataset(name: str, **parameters: object) -> Dataset:
    """Read a dataset."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in parameters.items()}
    loaded: Dataset = get_entry("datasets", name).load_class()(**settings).load()
    return loaded


def actual_rate(text: str) -> float | None:
    """Return the noise rate of the training labels that a command prints; None if it prints none."""
    lines = [line.split() for line in text.splitlines() if line.startswith("actual rate")]
    return float(lines[0][2].rstrip(",")) if lines else None


def verdict(passed: bool, text: str) -> NoReturn:
    """End the case."""
    print(f"{'PASS' if passed else 'FAIL'}: {text}")
    raise SystemExit(0 if passed else 1)


def picture(path: Path, array: NDArray[Any], **options: Any) -> None:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path, **options)

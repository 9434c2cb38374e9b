"""Run the examples in the docstrings of every module of the package."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The folders that setup.cfg maps into one package; `pytest --doctest-modules` does not know this mapping.
PACKAGES = {
    "noisybench": "noisybench",
    "tasks": "noisybench.tasks",
    "noise_models": "noisybench.noise_models",
    "leaderboard": "noisybench.leaderboard",
}


def modules_with_examples() -> list[str]:
    """Return the names of all modules whose source contains a doctest prompt."""
    names = []
    for folder, package in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text():
                parts = file.relative_to(ROOT / folder).with_suffix("").parts
                names.append(".".join((package, *(part for part in parts if part != "__init__"))))
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed; see the captured output"

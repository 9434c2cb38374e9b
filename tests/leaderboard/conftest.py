"""Submissions of short real runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.leaderboard.entries import write_entry

STACKS: tuple[Any, ...] = (
    "elr",
    {"name": "forward_correction", "warmup_epochs": 1, "implausible": "warn"},
    "co_teaching",
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of three short real runs."""
    return write_entry(tmp_path_factory.mktemp("made"), STACKS)


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "entry"))

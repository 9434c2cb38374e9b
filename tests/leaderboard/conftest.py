"""Submissions of short real runs, and pages in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.page import to_html
from tests.leaderboard.entries import write_entry
from tests.leaderboard.pages import runs
from tests.leaderboard.test_leaderboard import board_of

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser."""
    # Imported here, because most tests of this folder need no browser.
    from tests.browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page of three settings with curves and a stack of a hostile name."""
    file = tmp_path_factory.mktemp("site") / "index.html"
    file.write_text(to_html(board_of(runs())), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="session")
def shipped_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of the measurements that ship with noisybench: many settings, long names, several budgets."""
    file = tmp_path_factory.mktemp("shipped") / "index.html"
    file.write_text(to_html(build_board(builtin_measurements())), encoding="utf-8")
    return file.as_uri()

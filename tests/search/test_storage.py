"""The file of the studies: made whole, and made again where its creation was interrupted."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.search.storage import create_study_database
from noisybench.search.study import load_searches
from noisybench.utils.sqlite import filled_tables

UNFINISHED = {
    "an empty file": (),
    "the first tables": ("CREATE TABLE studies (study_id)", "CREATE TABLE trials (trial_id)"),
    "no version of the schema": (
        "CREATE TABLE studies (study_id)", "CREATE TABLE version_info (id)", "CREATE TABLE alembic_version (version_num)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("statements", UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_file_of_studies_is_made_again(
    statements: tuple[str, ...], workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = workspace / ".noisybench" / "searches.db"
    path.parent.mkdir()
    path.touch()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    create_study_database(path)
    assert filled_tables(path)["version_info"]
    assert len(caplog.messages) == bool(statements)
    with pytest.raises(UserError, match="contains no search"):
        load_searches(None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no database at all" * 999, "cannot be used .*doctor --repair"), (None, "is no database of studies")],
)
def test_another_file_is_refused_and_kept(content: bytes | None, message: str, workspace: Path) -> None:
    path = workspace / "other.db"
    if content is None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE customers (name); INSERT INTO customers VALUES ('Ada')")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UserError, match=message):
        load_searches(None, f"sqlite:///{path}")
    assert path.read_bytes() == before

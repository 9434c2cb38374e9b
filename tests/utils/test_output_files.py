"""An output that cannot be written completely leaves the file that was there, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.utils.outputs import output_file, write_text

pytestmark = pytest.mark.fast


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "table.csv"
    path.write_text("old")
    path.chmod(0o640)
    yield path
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), ValueError()])
def test_an_interrupted_output_keeps_the_old_content(table: Path, error: BaseException) -> None:
    def write() -> None:
        with output_file(table) as file:
            file.write_text("half")
            raise error

    with pytest.raises((type(error), UserError)):
        write()
    assert table.read_text() == "old"


def test_no_output_replaces_a_store_of_runs(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("create table runs (id)")
    content = path.read_bytes()
    with pytest.raises(UserError, match=r"mlflow.db is a database, such as the store of the runs; choose another name"):
        write_text(path, "rank,stack")
    assert path.read_bytes() == content


def test_an_output_keeps_links_and_permissions(table: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to("table.csv")
    write_text(link, "new")
    assert link.is_symlink()
    assert table.read_text() == "new"
    assert stat.S_IMODE(table.stat().st_mode) == 0o640


def test_a_file_that_a_shell_has_opened_is_written_directly(table: Path) -> None:
    with table.open("w") as opened:
        write_text(Path(f"/dev/fd/{opened.fileno()}"), "to an open file")
        assert table.stat().st_ino == os.fstat(opened.fileno()).st_ino
    assert table.read_text() == "to an open file"

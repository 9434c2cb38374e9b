"""PostgreSQL server for a test, from the system's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """One cluster in a folder, listening on loopback."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.port = folder, programs, free_port()
        address = f"postgresql+psycopg://tester@127.0.0.1:{self.port}"
        # MLflow and Optuna both have a table `alembic_version`, so they cannot share a database.
        self.url, self.studies = f"{address}/postgres", f"{address}/studies"

    def call(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root; its package creates the user.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*user, str(self.programs / program), "-D", str(self.folder / "data"), *arguments],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self.call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Modes are those of pg_ctl; `immediate` has the effect of a crash."""
        self.call("pg_ctl", "-w", "-m", mode, "stop")


@contextmanager
def running() -> Iterator[Postgres]:
    """A fresh server; the test is skipped where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = programs[-1] if programs else shutil.which("initdb")
    if program is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="noisybench-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Postgres(folder, Path(program).parent)
    try:
        server.call("initdb", "-U", "tester", "-A", "trust", "--no-sync")
        server.start()
        create = [
            str(server.programs / "createdb"),
            "-h",
            "127.0.0.1",
            "-p",
            str(server.port),
            "-U",
            "tester",
            "studies",
        ]
        subprocess.run(create, check=True)
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)

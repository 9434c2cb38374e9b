"""MLflow server that tests start, kill and restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.postgres import free_port


def wait_for(address: str, process: subprocess.Popen[Any]) -> None:
    """Wait until a started server responds.

    Raises:
        TimeoutError: the server does not respond.
    """
    for _ in range(1200):
        assert process.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


class Server:
    """MLflow server with its own database, in its own process group."""

    def __init__(self, folder: Path, database: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts"),
        ]  # fmt: skip
        self.log = (folder / "server.log").open("ab")

    def start(self) -> None:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=environment, start_new_session=True
        )
        wait_for(f"{self.uri}/health", self.process)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(folder: Path, database: str) -> Iterator[Server]:
    """Run a server while the block executes; artifacts are stored in the folder."""
    server = Server(folder, database)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.log.close()

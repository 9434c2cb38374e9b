"""Servers and databases that do not answer, refuse, or are something else: one line each, soon, without passwords."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from noisybench.errors import StoreUnavailable, UserError
from noisybench.tracking import probe
from noisybench.tracking.connection import Connection
from noisybench.tracking.database import check_schema
from noisybench.tracking.probe import hide_password, within
from noisybench.tracking.store import Store

PASSWORD = "s3cr/et@x"
QUOTED = "s3cr%2Fet%40x"
EXPERIMENT = {"experiment_id": "1", "name": "noisybench", "lifecycle_stage": "active"}


class Protected(BaseHTTPRequestHandler):
    """Server that answers like MLflow, behind basic authentication."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            self.answer(401, b"You are not authenticated")
        else:
            self.answer(200, json.dumps({"experiment": EXPERIMENT, "runs": []}).encode())

    do_POST = do_GET

    def answer(self, status: int, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Page(Protected):
    """Server of something else."""

    def do_GET(self) -> None:
        self.answer(200, b"<html>It works!</html>")


class Broken(Protected):
    """Server whose database does not work."""

    def do_GET(self) -> None:
        self.answer(500, b"internal error")


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    # Set first, so that the variables that a connection sets are removed at the end of the test.
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")


def refusal(uri: str, kind: type[UserError] = UserError) -> str:
    """Return the message of a store that cannot be used, which every use repeats within ten seconds."""
    start = time.monotonic()
    with pytest.raises(kind) as error:
        Store(uri).connection.check()
    with pytest.raises(kind) as again:
        Store(uri).runs.records()
    assert time.monotonic() - start < 20, "ten seconds each"
    message = str(error.value)
    assert str(again.value) == message
    assert "\n" not in message
    assert PASSWORD not in message
    assert QUOTED not in message
    return message


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_store_that_does_not_answer_is_refused_in_one_line(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe.DEADLINE < 10
    monkeypatch.setattr(probe, "DEADLINE", 1)
    monkeypatch.setattr(probe, "TIMEOUT", 1)
    with silent() as address:
        assert "unavailable" in refusal(f"{scheme}://ada:{QUOTED}@{address}/noisybench", StoreUnavailable)


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_closed_port_is_refused_in_one_line(scheme: str) -> None:
    assert "refused" in refusal(f"{scheme}://ada:{QUOTED}@{closed_port()}/noisybench", StoreUnavailable).lower()


def test_a_server_with_a_password_needs_and_accepts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(Protected) as address:
        assert "asks for a user name and password" in refusal(f"http://{address}")
        assert "MLFLOW_TRACKING_USERNAME" in refusal(f"http://ada:wrong@{address}")
        assert Store(f"http://ada:{QUOTED}@{address}").connection.experiment == "1"
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        store = Store(f"http://{address}")
        assert store.connection.experiment == "1"
        assert store.runs.records() == []
        assert PASSWORD not in str(vars(store.connection.client))


def test_another_server_is_recognized() -> None:
    with answering(Page) as address:
        assert "is no MLflow server" in refusal(f"http://{address}")
    with answering(Broken) as address:
        assert "internal error (HTTP 500)" in refusal(f"http://{address}", StoreUnavailable)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:notaport", "the port must be a number"),
        (f"http://ada:{QUOTED}@host:notaport", "the port must be a number"),
        ("http://[::1", "invalid host"),
        ("http://", "the host is missing"),
        ("ftp://host/store", "expected an address that begins with"),
        ("file:///mlruns", "no longer writes file stores"),
        ("sqlite://", "expected a file"),
        ("sqlite:///:memory:", "expected a file"),
        (f"postgresql+nosuchdriver://ada:{QUOTED}@host/db", "cannot be used"),
    ],
)
def test_an_address_that_is_none_is_refused(uri: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        Store(uri).connection.check()
    assert time.monotonic() - start < 10
    assert QUOTED not in str(error.value)


def test_a_password_with_any_characters_is_hidden() -> None:
    for text in ("http://ada:a/b@c d@host", "postgresql://ada:p@@s@h/db failed", "x http://u:p@h y https://v:q@i z"):
        hidden = hide_password(text)
        assert "@" not in hidden.split(" ")[0]
    assert hide_password("sqlite:////home/ada@work/mlflow.db") == "sqlite:////home/ada@work/mlflow.db"
    assert Connection("http://ada:secret@host").address == "http://host"


def test_an_error_after_the_connection_hides_the_password() -> None:
    with answering(Protected) as address:
        store = Store(f"http://ada:{QUOTED}@{address}")
        _ = store.connection.experiment
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    with pytest.raises(StoreUnavailable) as error:
        store.runs.list_runs("FINISHED")
    assert QUOTED not in str(error.value)
    assert PASSWORD not in str(error.value)


def test_a_call_that_hangs_is_abandoned() -> None:
    with pytest.raises(TimeoutError, match="no answer within"):
        within(0.05, lambda: time.sleep(5))
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_tables_of_another_program_are_recognized() -> None:
    with pytest.raises(UserError, match=r"newer MLflow .* or of another program"):
        check_schema("v3.0.0.d", "postgresql://host/studies")


def test_one_line_of_a_command(workspace: Path) -> None:
    """The whole command, in a process of its own: nothing else is printed, and the password is not."""
    uri = f"http://ada:{QUOTED}@{closed_port()}"
    done = subprocess.run(
        [sys.executable, "-m", "noisybench", "leaderboard"], capture_output=True, text=True, check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert QUOTED not in done.stderr

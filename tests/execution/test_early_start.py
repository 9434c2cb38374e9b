"""The server process starts while a command opens its store, unless all of its runs are finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.tracking.connection import Connection
from noisybench.tracking.store import Store


def finish(store: Store, identity: str, status: str = "FINISHED") -> None:
    """Add a run without a record."""
    client = store.connection.client
    run = client.create_run(store.connection.experiment, tags={"noisybench.identity": identity})
    client.set_terminated(run.info.run_id, status)


def test_an_embedded_store_knows_its_finished_runs(store: Store) -> None:
    finish(store, "a")
    finish(store, "b", "KILLED")
    connection = store.connection
    assert connection.may_have_finished(["a"])
    assert not connection.may_have_finished(["a", "b"]), "an interrupted run is not finished"
    assert not connection.may_have_finished(["c"])


def test_a_store_that_does_not_exist_has_finished_nothing(workspace: Path) -> None:
    assert not Store().connection.may_have_finished(["a"])
    assert not list(workspace.iterdir()), "the question creates no store"


def test_a_server_is_not_asked() -> None:
    assert Store("http://127.0.0.1:9").connection.may_have_finished(["a"])


def test_commands_start_the_server_before_the_store_unless_all_runs_are_finished(
    noisybench: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_server() -> None:
        raise UserError("the server is started")

    def check(self: Connection) -> None:
        raise UserError("the store is opened")

    monkeypatch.setattr("noisybench.execution.session.start_server", start_server)
    monkeypatch.setattr(Connection, "check", check)
    assert "the server is started" in noisybench("run", "digits")[1]
    assert "is started" not in noisybench("run", "digits", "--dry-run")[1]
    monkeypatch.setattr(Connection, "may_have_finished", lambda *arguments: True)
    assert "the store is opened" in noisybench("run", "digits")[1]
    assert "the server is started" in noisybench("run", "digits", "--again")[1]

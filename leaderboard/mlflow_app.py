"""The leaderboard inside MLflow's server, beside its own pages: `mlflow server --app-name noisybench`.

MLflow has an entry point (`mlflow.app`) for such applications. The page reads the very store that the server has.
"""

from __future__ import annotations

import gzip
import os
import threading
from typing import Any

from flask import Flask, Response, request

from noisybench.leaderboard.board import Board, Boards
from noisybench.leaderboard.page import to_html, waiting_page
from noisybench.leaderboard.submission import shipped_entries
from noisybench.tracking.store import Store

PATH = "/leaderboard"


PATIENCE = 1.0
"""Seconds for which a visitor waits for the first page, before being shown that it is being made."""


class _Pages:
    """The page as bytes, made anew only when the board has changed. The first one is begun at once, for whoever comes first."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards
        self._made: tuple[Board, bytes] | None = None
        self._first = threading.Thread(target=self.compressed, daemon=True)
        self._first.start()

    def ready(self) -> bool:
        """Whether the first page has been made, waiting a moment for it; or could not be, which `compressed` will tell."""
        self._first.join(PATIENCE)
        return not self._first.is_alive()

    def compressed(self) -> bytes:
        """The page as the store is now, compressed by gzip."""
        board, made = self._boards.board(), self._made
        if made is None or made[0] is not board:
            made = self._made = (board, gzip.compress(to_html(board).encode(), 4))
        return made[1]


def mount(app: Flask, path: str, boards: Boards) -> None:
    """Add the leaderboard to a server.

    Args:
        app: of the server.
        path: where the page is to be.
        boards: of the server's store.
    """
    pages = _Pages(boards)

    @app.get(path)
    def leaderboard() -> Response:
        headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if not pages.ready():
            return Response(waiting_page(), status=202, mimetype="text/html", headers=headers)
        page = pages.compressed()
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(page, mimetype="text/html", headers={**headers, "Content-Encoding": "gzip"})
        return Response(gzip.decompress(page), mimetype="text/html", headers=headers)


def create_app() -> Any:
    """MLflow's server with the leaderboard; called by MLflow in each process that serves.

    Returns:
        An ASGI application under uvicorn, which is MLflow's default; else a WSGI application.
    """
    from mlflow.server import app
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import _add_static_prefix

    store = Store(os.environ[BACKEND_STORE_URI_ENV_VAR], os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR))
    boards = Boards(store, f"./#/experiments/{store.connection.experiment}/runs/", entries=shipped_entries())
    mount(app, _add_static_prefix(PATH), boards)
    if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn":
        from mlflow.server.fastapi_app import create_fastapi_app

        return create_fastapi_app(app)
    return app

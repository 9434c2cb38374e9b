"""The leaderboard inside MLflow's server, beside its own pages: `mlflow server --app-name noisybench`.

MLflow finds this module through its entry point group `mlflow.app`. The page reads the store of the server.
"""

from __future__ import annotations

import gzip
import os
import threading
from typing import Any

from flask import Flask, Response, request

from noisybench.config.spec import STUDIES
from noisybench.leaderboard.board import Board, BoardCache
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.page import to_html, waiting_page
from noisybench.leaderboard.study_dashboard import is_installed, mount_dashboard
from noisybench.tracking.store import Store

PATH = "/leaderboard"
FIRST_PAGE_TIMEOUT = 1.0
"""Seconds for which a request waits for the first page before it gets the waiting page."""


class PageCache:
    """The page as bytes, rendered only when the board has changed. The first one is computed as soon as the server starts."""

    def __init__(self, boards: BoardCache) -> None:
        self._boards = boards
        self._rendered: tuple[Board, bytes] | None = None
        # A daemon, because a server that is stopped at once must not wait for the board.
        self._first = threading.Thread(target=self.compressed, daemon=True)
        self._first.start()

    def is_ready(self) -> bool:
        """Return whether the first page is ready, after a short wait; also true if it failed, which `compressed` reports."""
        self._first.join(FIRST_PAGE_TIMEOUT)
        return not self._first.is_alive()

    def compressed(self) -> bytes:
        """Return the current page, compressed by gzip."""
        board, rendered = self._boards.board(), self._rendered
        # Board and bytes are replaced in one assignment: threads may render twice, but never mix two boards.
        if rendered is None or rendered[0] is not board:
            rendered = self._rendered = (board, gzip.compress(to_html(board).encode(), 4))
        return rendered[1]


def mount(app: Flask, path: str, boards: BoardCache) -> None:
    """Add the leaderboard to a server.

    Args:
        app: application of the server.
        path: path of the page.
        boards: board of the server's store.
    """
    pages = PageCache(boards)

    @app.get(path)
    def leaderboard() -> Response:
        # The page changes under one address, and a cache must keep its compressed and its plain form apart.
        headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if not pages.is_ready():
            return Response(waiting_page(), status=202, mimetype="text/html", headers=headers)
        page = pages.compressed()
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(page, mimetype="text/html", headers={**headers, "Content-Encoding": "gzip"})
        # Only the compressed form is kept in memory.
        return Response(gzip.decompress(page), mimetype="text/html", headers=headers)


def create_app() -> Any:
    """Return MLflow's server with the leaderboard. MLflow calls this function in each worker process.

    Returns:
        An ASGI application under uvicorn, which is MLflow's default; otherwise a WSGI application.
    """
    from mlflow.server import app
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import _add_static_prefix

    store = Store(os.environ[BACKEND_STORE_URI_ENV_VAR], os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR))
    # The address of runs is relative, so that it stays correct behind a proxy with a path prefix.
    boards = BoardCache(store, f"./#/experiments/{store.connection.experiment}/runs/", measured=builtin_measurements())
    mount(app, _add_static_prefix(PATH), boards)
    # The dashboard's own addresses know no prefix.
    if is_installed() and not _add_static_prefix(""):
        mount_dashboard(app, STUDIES.absolute())
    if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn":
        from mlflow.server.fastapi_app import create_fastapi_app

        return create_fastapi_app(app)
    return app

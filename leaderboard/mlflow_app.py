"""The leaderboard inside MLflow's server, beside its own pages: `mlflow server --app-name noisybench`.

MLflow has an entry point (`mlflow.app`) for such applications. The page reads the very store that the server has.
"""

from __future__ import annotations

import gzip
import os
import threading
from typing import Any

from noisybench.leaderboard.board import Board, Boards
from noisybench.leaderboard.page import to_html

from noisybench.submission import shipped_entries
from noisybench.tracking import Store

PATH = "/leaderboard"


class _Pages:
    """The page as bytes, made anew only when the board has changed."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards
        self._made: tuple[Board, bytes] | None = None

    def compressed(self) -> bytes:
        """The page as the store is now, compressed by gzip."""
        board, made = self._boards.board(), self._made
        if made is None or made[0] is not board:
            made = self._made = (board, gzip.compress(to_html(board).encode(), 4))
        return made[1]


def create_app() -> Any:
    """MLflow's server with the leaderboard; called by MLflow in each process that serves.

    Returns:
        An ASGI application under uvicorn, which is MLflow's default; else a WSGI application.
    """
    from flask import Response, request
    from mlflow.server import app
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import _add_static_prefix

    store = Store(os.environ[BACKEND_STORE_URI_ENV_VAR], os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR))
    pages = _Pages(Boards(store, f"./#/experiments/{store.experiment}/runs/", entries=shipped_entries()))

    @app.get(_add_static_prefix(PATH))
    def leaderboard() -> Response:
        page, headers = pages.compressed(), {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Response(page, mimetype="text/html", headers={**headers, "Content-Encoding": "gzip"})
        return Response(gzip.decompress(page), mimetype="text/html", headers=headers)

    # Whoever opens the page first should not have to wait for it.
    threading.Thread(target=pages.compressed, daemon=True).start()
    if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn":
        from mlflow.server.fastapi_app import create_fastapi_app

        return create_fastapi_app(app)
    return app

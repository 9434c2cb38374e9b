"""Optuna's dashboard inside MLflow's server, beside the leaderboard: where the extra ``dashboard`` is installed."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.wrappers import Response

DASHBOARD = "/dashboard"
"""Path of the dashboard, which cannot be chosen."""

PATHS = (
    DASHBOARD,
    f"{DASHBOARD}/<path:_>",
    "/static/<path:_>",
    "/api/meta",
    "/api/studies",
    "/api/studies/<path:_>",
    "/api/trials/<path:_>",
    "/csv/<path:_>",
    "/incompatible-rdb-schema",
)
"""Paths of the dashboard; MLflow uses none of them."""

METHODS = ("GET", "POST", "PUT", "DELETE")


def is_installed() -> bool:
    """Return True if Optuna's dashboard is installed."""
    return importlib.util.find_spec("optuna_dashboard") is not None


def mount_dashboard(app: Flask, studies: Path) -> None:
    """Add Optuna's dashboard to a server.

    Args:
        app: application of the server.
        studies: SQLite file of the studies, which may be created later.
    """
    from flask import request
    from werkzeug.wrappers import Response

    lock, dashboards = threading.Lock(), list[Any]()

    def dashboard(_: str = "") -> Response:
        # The dashboard would create the file, which belongs to `noisybench search`.
        if not studies.is_file():
            text = f"There is no search yet: {studies} does not exist. Start one, for example: noisybench search digits-elr\n"
            return Response(text, status=404, mimetype="text/plain")
        with lock:
            if not dashboards:
                from optuna_dashboard import wsgi

                dashboards.append(wsgi(f"sqlite:///{studies.as_posix()}"))
        return Response.from_app(dashboards[0], request.environ)

    for path in PATHS:
        app.add_url_rule(path, "optuna_dashboard", dashboard, methods=METHODS)

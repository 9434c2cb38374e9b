"""Connection to an MLflow store: address, health and experiment.

The default is an embedded SQLite store in the working folder (`mlflow.db`, artifacts in `mlartifacts/`), which
`mlflow ui` shows. `MLFLOW_TRACKING_URI` selects any other store or server.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from noisybench.errors import StoreUnavailable, UserError
from noisybench.utils.locks import exclusive

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "noisybench"
"""Name of the MLflow experiment that holds all runs."""

PREFIX = "noisybench."
"""Prefix of the project's own MLflow tags."""

DATABASE = "mlflow.db"
"""File of the embedded store."""

ARTIFACTS = "mlartifacts"
"""Folder of the embedded store's artifacts."""

HEALTH_TIMEOUT = 10
"""Seconds to wait for the health endpoint of a server."""

Method = TypeVar("Method", bound=Callable[..., Any])


class Connection:
    """Connection to one MLflow store.

    Args:
        uri: tracking URI; by default `MLFLOW_TRACKING_URI`, else the embedded store in the working folder.

    Example:
        >>> Connection("sqlite:////data/mlflow.db").database.as_posix()
        '/data/mlflow.db'
        >>> Connection("http://localhost:5000").embedded
        False
    """

    def __init__(self, uri: str | None = None) -> None:
        # Absolute, because the address is passed to processes that may start in another folder.
        default = f"sqlite:///{(Path.cwd() / DATABASE).as_posix()}"
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default
        self.embedded = self.uri.startswith("sqlite:///")

    @property
    def database(self) -> Path:
        """File of the embedded store."""
        return Path(urllib.parse.unquote(self.uri.removeprefix("sqlite:///")))

    def exists(self) -> bool:
        """Return False if this is an embedded store that has not been created yet."""
        return not self.embedded or self.database.is_file()

    def check(self) -> None:
        """Create the store if needed and check that it can be written, before any training starts.

        Raises:
            UserError: the store cannot be used; the message says why and what to do.
        """
        if self.embedded:
            self._prepare_database()
            # MLflow cannot create its tables in two processes at once.
            with exclusive(self.database.with_suffix(".lock")):
                _ = self.experiment
        elif self.uri.startswith(("http://", "https://")):
            self._ping_server()
        elif "://" not in self.uri or self.uri.startswith("file:"):
            raise UserError(
                f"MLFLOW_TRACKING_URI={self.uri}: MLflow no longer writes file stores; unset it to use the embedded "
                "SQLite store, or set it to sqlite:///FILE or to the http:// address of a server"
            )
        _ = self.experiment

    def _prepare_database(self) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection:
                # Allows reads during writes. MLflow does not set it; the mode persists in the file.
                connection.execute("PRAGMA journal_mode=WAL")
                # Takes the lock for writing: opening alone also succeeds for a file that can only be read.
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.Error as error:
            raise UserError(
                f"the store {self.database} cannot be written ({error}); check the permissions and the free space of its "
                "folder, or select another store with MLFLOW_TRACKING_URI"
            ) from None

    def _ping_server(self) -> None:
        try:
            with urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=HEALTH_TIMEOUT):
                return
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"the tracking server {hide_password(self.uri)} is unavailable ({reason}); start it, or unset "
                "MLFLOW_TRACKING_URI to use the embedded store"
            ) from None

    @functools.cached_property
    def client(self) -> MlflowClient:
        """MLflow client, created on first use because importing MLflow takes more than a second."""
        # With MLflow's own defaults a run would wait for minutes when its server is unavailable.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    @functools.cached_property
    def experiment(self) -> str:
        """Id of the experiment that holds all runs, created if it does not exist."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            # Absolute, so that the files are found from any working folder; a server has its own location.
            location = (self.database.parent / ARTIFACTS).resolve().as_uri() if self.embedded else None
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=location))
            except MlflowException:  # another process has created it meanwhile
                experiment = self.client.get_experiment_by_name(EXPERIMENT)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)


def hide_password(url: str) -> str:
    """Return a URL without its user name and password, for messages.

    Example:
        >>> hide_password("postgresql://ada:secret@db.example.org/studies")
        'postgresql://db.example.org/studies'
        >>> hide_password("sqlite:///mlflow.db")
        'sqlite:///mlflow.db'
    """
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else url


def _wrap_connection_errors(method: Method) -> Method:
    """Make a method raise `StoreUnavailable` if the store of its ``connection`` cannot be reached."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if not _is_unavailable(error):
                raise
            reason = str(error).strip().splitlines()[0][-200:]
            raise StoreUnavailable(
                f"the tracking store {hide_password(self.connection.uri)} is unavailable ({reason}); no results are lost: "
                "rerun the same command when it is available again"
            ) from None

    return cast(Method, call)


def _is_unavailable(error: Exception) -> bool:
    """Return True if an error means that the store cannot be reached, False if the request was invalid."""
    # Compared by module name, so that none of these libraries is imported for the check.
    if type(error).__module__.startswith("mlflow"):
        code = getattr(error, "error_code", "")
        return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or "API request to" in str(error)
    return type(error).__module__.startswith(("requests", "urllib3", "sqlalchemy"))


def _is_unknown_run(error: Exception) -> bool:
    """Return True if an error means that the store has no run with this id."""
    return getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

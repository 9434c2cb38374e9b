"""Connection to an MLflow store: address, health and experiment.

The default is an embedded SQLite store in the working folder (`mlflow.db`, artifacts in `mlartifacts/`), which
`mlflow ui` shows. `MLFLOW_TRACKING_URI` selects any other store or server.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from noisybench.errors import StoreUnavailable, UserError
from noisybench.tracking.database import (
    ARTIFACT_LOCATION,
    EXPERIMENT,
    check_schema,
    check_writable,
    create_database,
    database_state,
    finished_identities,
    is_writable,
    quiet_mlflow,
    schema_version,
)
from noisybench.tracking.probe import hide_password, probe_database, probe_server, split_credentials
from noisybench.utils.sqlite import copy_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment

PREFIX = "noisybench."
"""Prefix of the project's own MLflow tags."""

PARENT = "mlflow.parentRunId"
"""MLflow's tag of child runs."""

DATABASE = "mlflow.db"
"""File of the embedded store."""

ARTIFACTS = "mlartifacts"
"""Folder of the embedded store's artifacts, beside its database."""

DATABASE_SCHEMES = ("postgresql", "mysql", "mssql")
"""Databases other than SQLite that MLflow can use without a server of its own."""

RACE_CODES = ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
"""Codes of MLflow's errors for a row that another process has added, or a table that another process writes."""

ATTEMPTS = 5
"""Times that a request is made which fails while other processes make the same one."""

Method = TypeVar("Method", bound=Callable[..., Any])


class Connection:
    """Connection to one MLflow store.

    Args:
        uri: tracking URI; by default `MLFLOW_TRACKING_URI`, else the embedded store in the working folder.

    Attributes:
        uri: tracking URI, which may contain a password.
        address: tracking URI without user name and password, for messages.
        embedded: True for an SQLite database, whose artifacts are in the folder `mlartifacts` beside it.

    Raises:
        UserError: the URI is not one of a store.

    Example:
        >>> Connection("sqlite:////data/mlflow.db").database.as_posix()
        '/data/mlflow.db'
        >>> Connection("http://ada:secret@localhost:5000").address
        'http://localhost:5000'
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
        self.address = hide_password(self.uri)
        self.embedded = self.uri.startswith("sqlite:")
        if self.embedded:
            file = self.uri.removeprefix("sqlite:///")
            if file in ("", ":memory:", self.uri):
                raise UserError(f"MLFLOW_TRACKING_URI={self.uri}: expected a file, as in sqlite:///mlflow.db")
            # Absolute, because the address is passed to processes that may start in another folder.
            path = Path(file).absolute()
            if "?" in str(path):
                raise UserError(f"the path of the store must not contain `?`, but is {path}; rename the folder")
            self.uri = self.address = f"sqlite:///{path.as_posix()}"
        else:
            self._check_address()

    def _check_address(self) -> None:
        setting = f"MLFLOW_TRACKING_URI={self.address}"
        if "://" not in self.uri or self.uri.startswith("file:"):
            if self.uri.split(":")[0] in ("databricks", "databricks-uc", "uc"):
                return
            raise UserError(
                f"{setting}: MLflow no longer writes file stores; unset it to use the embedded SQLite store, or set it to "
                "sqlite:///FILE or to the http:// address of a server"
            )
        try:
            parts = urllib.parse.urlsplit(self.uri)
            _ = parts.port
        except ValueError as error:
            # The message of the library quotes the part that is wrong, which may belong to the password.
            reason = (
                "the port must be a number up to 65535" if "port" in str(error).lower() else "it has an invalid host"
            )
            raise UserError(f"{setting}: {reason}, as in http://localhost:5000") from None
        scheme = parts.scheme.split("+")[0]
        if scheme in ("http", "https") and not parts.hostname:
            raise UserError(f"{setting}: the host is missing, as in http://localhost:5000")
        if scheme not in ("http", "https", "databricks", "uc", *DATABASE_SCHEMES):
            raise UserError(
                f"{setting}: expected an address that begins with http://, https://, sqlite:///, postgresql://, mysql:// or "
                "mssql://"
            )

    @property
    def database(self) -> Path:
        """File of the embedded store."""
        return Path(self.uri.removeprefix("sqlite:///"))

    @functools.cached_property
    def artifacts(self) -> Path:
        """Folder of the embedded store's artifacts."""
        return self.database.parent / ARTIFACTS

    def exists(self) -> bool:
        """Return False if this is an embedded store that has not been created yet."""
        return not self.embedded or database_state(self.database) == "complete"

    def may_have_finished(self, identities: Iterable[str]) -> bool:
        """Return False if this is an embedded store without all of these runs, which is known without importing MLflow."""
        return not self.embedded or set(identities) <= finished_identities(self.database)

    def check(self) -> None:
        """Create the store if needed and check that it can be written, before any training starts.

        Raises:
            UserError: the store cannot be used; the message says why and what to do.
        """
        if self.embedded:
            create_database(self.database)
            check_writable(self.database)
        _ = self.experiment

    @functools.cached_property
    def client(self) -> MlflowClient:
        """MLflow client, created on first use because importing MLflow takes more than a second.

        Raises:
            UserError: the store cannot be used; the message says why and what to do.
        """
        uri = self._prepare()
        # With MLflow's own defaults a run would wait for minutes when its server is unavailable.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        # Lines of progress for every file would hide the messages of a command.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        quiet_mlflow()
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)

    def _prepare(self) -> str:
        """Create or probe the store, and return the address that MLflow receives."""
        if not self.embedded:
            return self.probe()
        create_database(self.database)
        check_schema(schema_version(self.database), self.address)
        if is_writable(self.database):
            return self.uri
        # SQLite writes beside the database even for a reader, so that a read-only folder is read from a copy.
        folder = Path(tempfile.mkdtemp(prefix="noisybench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return f"sqlite:///{copy_database(self.database, folder).as_posix()}"

    def probe(self) -> str:
        """Check within seconds that a server or database answers, and return its address for MLflow.

        Raises:
            StoreUnavailable: it does not answer.
            UserError: the address or the credentials are wrong, or its tables belong to another version of MLflow.
        """
        if self.uri.startswith(("http://", "https://")):
            address, user, password = split_credentials(self.uri)
            if user:
                # MLflow repeats its address in errors and logs, but never these variables.
                os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = user, password
            probe_server(address, EXPERIMENT)
            return address
        if self.uri.startswith(DATABASE_SCHEMES):
            check_schema(probe_database(self.uri), self.address)
        return self.uri

    @functools.cached_property
    def _experiment(self) -> Experiment:
        """Experiment that holds all runs, created if it does not exist."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        # After the client, which probes the store before the slow import of MLflow.
        from mlflow.exceptions import MlflowException

        if experiment is None:
            location = ARTIFACT_LOCATION if self.embedded else None  # a server has its own location
            try:
                self.client.create_experiment(EXPERIMENT, artifact_location=location)
            except MlflowException:  # another process has created it meanwhile
                if self.client.get_experiment_by_name(EXPERIMENT) is None:
                    raise
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the experiment `{EXPERIMENT}` of the store {self.address} is deleted; restore it: "
                f"MLFLOW_TRACKING_URI={self.address} mlflow experiments restore --experiment-id {experiment.experiment_id}"
            )
        return experiment

    @property
    def experiment(self) -> str:
        """Id of the experiment that holds all runs, created if it does not exist."""
        return str(self._experiment.experiment_id)

    def log_datasets(self, run_id: str, inputs: list[DatasetInput]) -> None:
        """Add datasets to a run, whose rows in MLflow's tables are shared by all runs that use them.

        Args:
            run_id: id of the run.
            inputs: datasets with their tags.

        Raises:
            MlflowException: the store refuses them.
        """
        from mlflow.exceptions import MlflowException

        for left in reversed(range(ATTEMPTS)):
            try:
                self.client.log_inputs(run_id, inputs)
                return
            except MlflowException as error:
                # MLflow reads which datasets exist and then adds the others, which fails if another run has added the same
                # one in between. The next attempt finds it. A server that does not answer has been tried often enough.
                if not left or error.error_code not in RACE_CODES:
                    raise

    def artifact_uri(self, run_id: str) -> str:
        """Return the URI of the files of a run of the experiment."""
        return f"{str(self._experiment.artifact_location).rstrip('/')}/{run_id}/artifacts"

    def artifact_folder(self, run_id: str, uri: str | None = None) -> Path | None:
        """Return the local folder of a run's files; None if MLflow transfers them.

        The files of an embedded store are found beside its database, wherever that is now: not by the absolute paths that
        MLflow may have stored, because a copy of a store must never read or write the files of the original.

        Args:
            run_id: id of the run.
            uri: artifact URI that MLflow has stored for the run; by default that of a run of the experiment.
        """
        if not self.embedded:
            return None
        return local_artifacts(uri or self.artifact_uri(run_id), self.artifacts, run_id)


def local_artifacts(uri: str, root: Path, run_id: str) -> Path | None:
    """Return the folder of a run's files below the root of a store's artifacts; None if they are kept elsewhere.

    Args:
        uri: artifact URI that MLflow has stored for the run.
        root: folder that MLflow's server serves as `mlflow-artifacts:`.
        run_id: id of the run.

    Example:
        >>> local_artifacts("mlflow-artifacts:/0/1a/artifacts", Path("mlartifacts"), "1a").as_posix()
        'mlartifacts/0/1a/artifacts'
        >>> local_artifacts("file:///elsewhere/1a/artifacts", Path("mlartifacts"), "1a").as_posix()
        'mlartifacts/1a/artifacts'
        >>> local_artifacts("s3://bucket/1a/artifacts", Path("mlartifacts"), "1a")
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in ("", "file"):
        return root / run_id / "artifacts"
    if parts.scheme != "mlflow-artifacts":
        return None
    path = urllib.parse.unquote(parts.path).strip("/")
    # The database may come from elsewhere: its paths must not leave the folder.
    return root / run_id / "artifacts" if ".." in path.split("/") else root / path


def _wrap_connection_errors(method: Method) -> Method:
    """Make a method raise `StoreUnavailable` if the store of its ``connection`` cannot be reached."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if not _is_unavailable(error):
                raise
            reason = hide_password(str(error).strip().splitlines()[0])[-200:]
            raise StoreUnavailable(
                f"the tracking store {self.connection.address} is unavailable ({reason}); no results are lost: "
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

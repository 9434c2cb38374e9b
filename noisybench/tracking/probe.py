"""Probes of tracking servers and databases, which answer within seconds where MLflow would retry for minutes."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, TypeVar

from noisybench.errors import StoreUnavailable, UserError

TIMEOUT = 4
"""Seconds to wait for each answer of a server or database."""

DEADLINE = 7
"""Seconds after which a probe fails, name resolution and authentication included."""

Result = TypeVar("Result")


def hide_password(text: str) -> str:
    """Return text without the user names and passwords of the addresses in it, for messages.

    Example:
        >>> hide_password("postgresql://ada:secret@db.example.org/studies")
        'postgresql://db.example.org/studies'
        >>> hide_password("GET http://ada:p@ss@host:5000/health failed")
        'GET http://host:5000/health failed'
        >>> hide_password("sqlite:///mlflow.db")
        'sqlite:///mlflow.db'
    """
    # Up to the last `@`, because a password may contain any character; paths of files have none to hide.
    return re.sub(r"(?<!sqlite)(?<!file)://\S*@", "://", text)


def split_credentials(address: str) -> tuple[str, str, str]:
    """Return an address without its credentials, its user name and its password.

    Example:
        >>> split_credentials("http://ada:p%40ss@host:5000")
        ('http://host:5000', 'ada', 'p@ss')
    """
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return parts._replace(netloc=host).geturl(), urllib.parse.unquote(name), urllib.parse.unquote(password)


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of a call, which may be abandoned.

    Raises:
        TimeoutError: the call has not returned within ``seconds``.
    """
    outcome: list[tuple[bool, Any]] = []

    def work() -> None:
        try:
            outcome.append((True, call()))
        except Exception as error:
            outcome.append((False, error))

    # A daemon, because name resolution cannot be interrupted and must not delay the end of the process.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    result: Result = value
    return result


def probe_server(address: str, experiment: str) -> None:
    """Check that an MLflow server answers, accepts the credentials, and has not deleted the experiment.

    Args:
        address: address without credentials, which are in MLflow's environment variables.
        experiment: name of the experiment.

    Raises:
        StoreUnavailable: the server does not answer.
        UserError: the address or the credentials are wrong.
    """
    query = urllib.parse.urlencode({"experiment_name": experiment})
    url = f"{address.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
    try:
        status, body = within(DEADLINE, lambda: _get(url))
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise StoreUnavailable(
            f"the tracking server {address} is unavailable ({reason}); start it, or unset MLFLOW_TRACKING_URI to use the "
            "embedded store"
        ) from None
    if status in (401, 403):
        if _has_other_credentials():
            return
        given = "refuses the given user name or password" if _authorization() else "asks for a user name and password"
        raise UserError(
            f"the tracking server {address} {given} (HTTP {status}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    if status >= 500:
        raise StoreUnavailable(
            f"the tracking server {address} has an internal error (HTTP {status}); see its log. Nothing is lost: run the "
            "same command again when it is mended"
        )
    try:
        answer = json.loads(body)
        known = "experiment" in answer if status == 200 else answer["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UserError(
            f"{address} is no MLflow server (HTTP {status} for /api/2.0/mlflow/experiments); set MLFLOW_TRACKING_URI to "
            "the address of one, without /#/ or the path of a page"
        )


def _authorization() -> str | None:
    """Return the header that MLflow would send, or None without credentials."""
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{key}") for key in ("USERNAME", "PASSWORD"))
    if name and password:
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else None


def _has_other_credentials() -> bool:
    """Return True if MLflow authenticates itself in a way that this probe does not know."""
    if os.environ.get("MLFLOW_TRACKING_AUTH") or os.environ.get("MLFLOW_TRACKING_AWS_SIGV4"):
        return True
    # Variables have precedence over the file of `mlflow login`.
    return _authorization() is None and os.path.isfile(os.path.expanduser("~/.mlflow/credentials"))


def _get(url: str) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    request = urllib.request.Request(url)
    if (authorization := _authorization()) is not None:
        # Not sent to the target of a redirection, which may be another server.
        request.add_unredirected_header("Authorization", authorization)
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(certificate)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as response:
            return response.status, response.read(2**20)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(2**20)


def probe_database(uri: str) -> str | None:
    """Check that a database server answers, and return the schema version of its tables; None if it has none.

    Raises:
        StoreUnavailable: the database does not answer.
        UserError: the address is invalid, or its driver is not installed.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    logging.getLogger("sqlalchemy").setLevel(logging.ERROR)

    def version() -> str | None:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
            return str(found) if found is not None else None

    address = hide_password(uri)
    try:
        return within(DEADLINE, version)
    except (ModuleNotFoundError, NoSuchModuleError, ArgumentError, ValueError) as error:
        raise UserError(
            f"the database {address} cannot be used ({hide_password(str(error))}); check the address, and install its "
            "driver, for example: python -m pip install 'psycopg[binary]' for postgresql+psycopg://"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreUnavailable(
            f"the database {address} is unavailable ({hide_password(reason)}); check that it runs and accepts the user "
            "and password. Nothing is lost: run the same command again when it is available"
        ) from None

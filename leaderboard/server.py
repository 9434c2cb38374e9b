"""Start MLflow's server on a store, with the leaderboard beside its own pages (`mlflow_app`)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

from noisybench.errors import UserError
from noisybench.tracking.store import Store


def check_address(store: Store, host: str, port: int) -> None:
    """Check that a server of a store can be started at an address.

    Args:
        store: the store.
        host: name or number of the network interface.
        port: port to listen on.

    Raises:
        UserError: the store has a server already or cannot be used, or the port is in use.
    """
    if store.connection.uri.startswith(("http://", "https://")):
        raise UserError(
            f"MLFLOW_TRACKING_URI={store.connection.address} is already a server; start it with --app-name noisybench to get "
            "/leaderboard: `mlflow server --app-name noisybench ...`"
        )
    store.connection.check()
    # MLflow reports a port in use only after its slow start, and in a traceback.
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        # Without this option the probe fails while connections of a server that has just ended are in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); select another --port") from None


def start_mlflow(store: Store, host: str, port: int) -> subprocess.Popen[bytes]:
    """Start the server in a process of its own, which the caller ends; see `check_address`."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "noisybench", "--host", host, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    artifacts = {"MLFLOW_ARTIFACTS_DESTINATION": str(store.connection.artifacts)} if store.connection.embedded else {}
    environment = {
        **os.environ,
        # Not an argument: all users of the machine can see arguments, and the address may contain a password.
        "MLFLOW_BACKEND_STORE_URI": store.connection.uri,
        **artifacts,
        # noisybench submits no MLflow jobs, whose runners are additional processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # In a session of its own: Ctrl-C would reach its processes as well, each of which would print a traceback.
    return subprocess.Popen(command, env=environment, start_new_session=True)

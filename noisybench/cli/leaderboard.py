"""The `leaderboard` command and its subcommands."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from noisybench.errors import UserError, nearest
from noisybench.utils.files import wrap_write_errors
from noisybench.utils.interrupts import INTERRUPTS, kill_children
from noisybench.utils.places import check_output_file, check_output_folder

FORMATS = ("terminal", "csv", "markdown", "latex", "html")

leaderboard_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Rank the finished runs of the store, one table per setting; serve, export, package and verify results.",
)


@leaderboard_app.callback()
def leaderboard(
    context: typer.Context,
    rule: Annotated[
        str, typer.Option(help="Selection rule to rank by: last, last10, noisy_val, label_wave, oracle")
    ] = "last",
    metric: Annotated[
        str | None,
        typer.Option(help="Metric to rank by: default (that of the task or suite) or balanced_accuracy"),
    ] = None,
    test: Annotated[
        str, typer.Option(help="Paired test of the ranking: moderated_t, anova or paired_t")
    ] = "moderated_t",
    format: Annotated[str, typer.Option("--format", "-f", help=f"Output format: {', '.join(FORMATS)}")] = "terminal",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write")] = None,
    ci: Annotated[bool, typer.Option("--ci", help="Show 95 % confidence intervals, not standard deviations")] = False,
    suite: Annotated[str | None, typer.Option(help="Filter by suite")] = None,
    label_set: Annotated[str | None, typer.Option(help="Filter by label-set hash prefix")] = None,
) -> None:
    """Rank the finished runs of the store, one table per setting; serve, export, package and verify results."""
    if context.invoked_subcommand is not None:
        return
    from noisybench.api.leaderboard import METRICS, TESTS
    from noisybench.api.leaderboard import leaderboard as rank_runs
    from noisybench.leaderboard.terminal_tables import render_excluded
    from noisybench.records.selection import SELECTION_RULES
    from noisybench.utils.console import make_console

    check_choice("rule", rule, list(SELECTION_RULES))
    check_choice("metric", metric or "default", METRICS)
    check_choice("format", format, FORMATS)
    check_choice("test", test, TESTS)
    if format == "html" and output is None:
        output = Path("leaderboard.html")
    if output is not None:
        check_output_file(output)
    board = dataclasses.replace(rank_runs(suite, rule, metric, test, label_set), intervals=ci)
    # Standard output may be a table for another program.
    console = make_console(stderr=format != "terminal")
    if format == "terminal":
        if output is not None:
            raise UserError("--output: select the format of the file with --format csv, markdown, latex or html")
        console.print(board)
        return
    writers: dict[str, Callable[[], str]] = {
        "csv": board.to_csv, "markdown": board.to_markdown, "latex": board.to_latex, "html": board.to_html
    }  # fmt: skip
    text = writers[format]()
    if output is None:
        typer.echo(text, nl=False)
    else:
        write(output, text)
        typer.echo(f"{len(board.settings)} tables written to {output}")
    for line in render_excluded(board.excluded):
        console.print(line)


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Check the value of an option.

    Raises:
        UserError: it is not one of those allowed.
    """
    if value not in allowed:
        raise UserError(f"--{option}: unknown {option} `{value}`; {nearest(value, allowed)}")


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        UserError: the file cannot be written.
    """
    check_output_file(path)
    with wrap_write_errors(path):
        path.write_text(text, encoding="utf-8")


@leaderboard_app.command(epilog="Example: noisybench leaderboard serve --port 5000")
def serve(
    host: Annotated[str, typer.Option(help="Bind address (default: localhost only)")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")] = 5000,
) -> None:
    """Start MLflow's server on the store, with the leaderboard at /leaderboard."""
    from noisybench.tracking.store import Store

    store = Store()
    uri = store.connection.uri
    if uri.startswith(("http://", "https://")):
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
    typer.echo(f"Leaderboard: http://{f'[{host}]' if ':' in host else host}:{port}/leaderboard   (stop with Ctrl-C)")
    typer.echo("MLflow runs at the same address without /leaderboard. The first page takes a few seconds.")
    sys.stdout.flush()  # before the output of the server
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "noisybench", "--host", host, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    environment = {
        **os.environ,
        # Not an argument: all users of the machine can see arguments, and the address may contain a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        **({"MLFLOW_ARTIFACTS_DESTINATION": str(store.connection.artifacts)} if store.connection.embedded else {}),
        # noisybench submits no MLflow jobs, whose runners are additional processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # In a session of its own: Ctrl-C would reach its processes as well, each of which would print a traceback.
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    with INTERRUPTS.graceful(lambda _: typer.echo("Interrupted.")):
        while server.poll() is None and not INTERRUPTS.level():
            time.sleep(0.1)
        kill_children()
        raise typer.Exit(INTERRUPTS.exit_status if INTERRUPTS.level() else server.wait())


@leaderboard_app.command(epilog="Example: noisybench leaderboard export site/")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write, for example for GitHub Pages")],
    mlflow: Annotated[
        str | None, typer.Option(help="Address of an MLflow server with the same store, to link runs to")
    ] = None,
) -> None:
    """Write the leaderboard as a static site: one self-contained page, and its tables and stress cards as CSV."""
    from noisybench.leaderboard.board import BoardCache
    from noisybench.leaderboard.measurements import builtin_measurements, with_builtin
    from noisybench.leaderboard.page import to_html
    from noisybench.leaderboard.stress import stress_point, stress_tables
    from noisybench.leaderboard.stress_text import to_csv as stress_to_csv
    from noisybench.leaderboard.table import build_settings
    from noisybench.leaderboard.text_tables import to_csv
    from noisybench.tracking.equivalences import recorded_equivalences
    from noisybench.tracking.store import Store

    check_output_folder(folder)
    store = Store()
    if mlflow is not None and not mlflow.startswith(("http://", "https://")):
        raise UserError(f"--mlflow: expected an address such as http://localhost:5000, but got `{mlflow}`")
    runs_url = f"{mlflow.rstrip('/')}/#/experiments/{store.connection.experiment}/runs/" if mlflow else ""
    # Everything is computed before the first write, so that an unreadable record leaves no incomplete site.
    board = BoardCache(store, runs_url, measured=builtin_measurements()).board()
    equivalences = recorded_equivalences(store)
    settings = build_settings(with_builtin(store.runs.records()), equivalences=equivalences)
    points = [point for setting in settings if (point := stress_point(setting)) is not None]
    texts = {"leaderboard.csv": to_csv(settings), "stress.csv": stress_to_csv(stress_tables(points, "last"))}
    write(folder / "index.html", to_html(board))
    for name, text in texts.items():
        write(folder / name, text)
    typer.echo(
        f"{len(board.settings)} settings written to {folder / 'index.html'}, their tables to leaderboard.csv, stress cards to "
        "stress.csv"
    )


@leaderboard_app.command(epilog="Example: noisybench leaderboard reproduction -o reproduction.md")
def reproduction(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file to write")] = None,
) -> None:
    """List every published result of an implemented method, beside what was measured for it."""
    from noisybench.leaderboard.measurements import with_builtin
    from noisybench.leaderboard.reproduction import reproduce, to_markdown
    from noisybench.tracking.equivalences import recorded_equivalences
    from noisybench.tracking.store import Store

    if output is not None:
        check_output_file(output)
    store = Store()
    text = to_markdown(reproduce(with_builtin(store.runs.records()), recorded_equivalences(store)))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write(output, text)
        typer.echo(f"Written to {output}")

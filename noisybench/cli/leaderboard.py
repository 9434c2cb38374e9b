"""`noisybench leaderboard` and the commands below it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisybench.errors import UserError, nearest

if TYPE_CHECKING:
    from noisybench.records.schema import RunRecord

FORMATS = ("terminal", "csv", "markdown", "latex", "html")

leaderboard_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Rank what the store holds: one table per label set and budget. Or serve, export, submit and verify.",
)


@leaderboard_app.callback()
def leaderboard(
    context: typer.Context,
    rule: Annotated[str, typer.Option(help="Selection rule to rank by: last, last10, noisy_val, oracle")] = "last",
    test: Annotated[str, typer.Option(help="Paired test: blocks or paired_t")] = "blocks",
    format: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "terminal",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write")] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % intervals in place of standard deviations")
    ] = False,
    suite: Annotated[str | None, typer.Option(help="Only the runs of this suite")] = None,
    label_set: Annotated[str | None, typer.Option(help="Only the label set whose hash starts so")] = None,
) -> None:
    """Rank what the store holds: one table per label set and budget. Or serve, export, submit and verify."""
    if context.invoked_subcommand is not None:
        return
    from noisybench.cli import console as view
    from noisybench.leaderboard import board, page, table
    from noisybench.records.selection import SELECTION_RULES

    for name, value, known in (
        ("rule", rule, list(SELECTION_RULES)),
        ("test", test, ["blocks", "paired_t"]),
        ("format", format, FORMATS),
    ):
        if value not in known:
            raise UserError(f"--{name}: unknown {name} `{value}`; {nearest(value, known)}")
    if format == "html" and output is None:
        output = Path("leaderboard.html")
    records = _chosen(suite, label_set)
    cells = table.build_cells(records, rule, test)  # type: ignore[arg-type]
    if format == "terminal" and output is None:
        view.print_cells(view.make_console(), cells, intervals)
        return
    writers: dict[str, Any] = {
        "csv": lambda: table.to_csv(cells),
        "markdown": lambda: table.to_markdown(cells, intervals),
        "latex": lambda: table.to_latex(cells, intervals),
        "html": lambda: page.to_html(board.board_of(records, test)),  # type: ignore[arg-type]
    }
    if format == "terminal":
        raise UserError("--output: choose a format for the file with --format csv, markdown, latex or html")
    text = writers[format]()
    if output is None:
        typer.echo(text, nl=False)
    else:
        write(output, text)
        typer.echo(f"{len(cells)} tables written to {output}")


def _chosen(suite: str | None, label_set: str | None = None) -> list[RunRecord]:
    """Finished runs of the store.

    Raises:
        UserError: there are none.
    """
    from noisybench.tracking.store import Store

    records = Store().runs.records()
    if suite:
        from noisybench.config.suite import read_suite

        wanted = {spec.identity for spec in read_suite(suite)}
        records = [each for each in records if each.identity in wanted]
    records = [each for each in records if each.label_set.startswith(label_set or "")]
    if not records:
        raise UserError("the store has no such finished runs; make some with `noisybench bench quickstart`")
    return records


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


@leaderboard_app.command(epilog="Example: noisybench leaderboard serve --port 5000")
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but this machine is your choice")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")] = 5000,
) -> None:
    """Start MLflow's server on the store, with the leaderboard beside it at /leaderboard."""
    from noisybench.tracking.store import Store

    store = Store()
    uri = store.connection.uri
    if uri.startswith(("http://", "https://")):
        raise UserError(
            f"MLFLOW_TRACKING_URI={uri} is a server already; where that one is started, give it --app-name noisybench: "
            "`mlflow server --app-name noisybench …`, and it has /leaderboard"
        )
    store.connection.check()
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port") from None
    typer.echo(f"Leaderboard: http://{f'[{host}]' if ':' in host else host}:{port}/leaderboard   (Ctrl-C ends it)")
    typer.echo("MLflow with every run is at the same address without /leaderboard; the first page takes some seconds.")
    sys.stdout.flush()
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "noisybench", "--host", host, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    environment = {
        **os.environ,
        # Not an argument: all users of the machine can see those, and the URI may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nothing here is a job of MLflow's, whose runners are more processes
    }
    os.execve(sys.executable, command, environment)


@leaderboard_app.command(epilog="Example: noisybench leaderboard export site/")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write, such as that of GitHub Pages")],
    mlflow: Annotated[
        str | None, typer.Option(help="Address of an MLflow server with the same store, to link runs to")
    ] = None,
) -> None:
    """Write the leaderboard as a static site: one page that needs no network, and its tables as csv."""
    from noisybench.leaderboard.board import Boards
    from noisybench.leaderboard.page import to_html
    from noisybench.leaderboard.submission import shipped_entries
    from noisybench.leaderboard.table import build_cells, to_csv
    from noisybench.tracking.store import Store

    store = Store()
    if mlflow is not None and not mlflow.startswith(("http://", "https://")):
        raise UserError(f"--mlflow: expected an address such as http://localhost:5000, but got `{mlflow}`")
    runs = f"{mlflow.rstrip('/')}/#/experiments/{store.connection.experiment}/runs/" if mlflow else ""
    entries = shipped_entries()
    board = Boards(store, runs, entries=entries).board()
    submitted = [record for entry in entries for record in entry.records()]
    shown = {
        each.identity: each for each in [*submitted, *store.runs.records()]
    }  # one's own before others' of the same run
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None
    write(folder / "index.html", to_html(board))
    write(folder / "leaderboard.csv", to_csv(build_cells(shown.values())))
    typer.echo(f"{len(board.cells)} cells written to {folder / 'index.html'}, their tables to leaderboard.csv")


@leaderboard_app.command(epilog="Example: noisybench leaderboard ledger -o reproduction.md")
def ledger(output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write")] = None) -> None:
    """List every published number of a method that is here, beside what the store and the entries have measured for it."""
    from noisybench.leaderboard.reproduction import ledger as held_against
    from noisybench.leaderboard.reproduction import to_markdown
    from noisybench.leaderboard.submission import shipped_entries
    from noisybench.tracking.store import Store

    submitted = [record for entry in shipped_entries() for record in entry.records()]
    text = to_markdown(held_against([*submitted, *Store().runs.records()]))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write(output, text)
        typer.echo(f"written to {output}")


@leaderboard_app.command(
    epilog="Example: noisybench leaderboard submit my-entry --suite quickstart --claim 'ELR wins at 40 %'"
)
def submit(
    folder: Annotated[Path, typer.Argument(help="Folder to write, for a pull request to leaderboard/entries/")],
    claim: Annotated[str, typer.Option(help="What the runs are said to show, and how they were made")],
    suite: Annotated[str | None, typer.Option(help="Only the runs of this suite")] = None,
    label_set: Annotated[str | None, typer.Option(help="Only the label set whose hash starts so")] = None,
) -> None:
    """Write finished runs as a submission: records, predictions and sample records, from which every number follows."""
    from noisybench import __version__
    from noisybench.leaderboard import submission
    from noisybench.leaderboard.verification import gather
    from noisybench.tracking.store import Store

    store = Store()
    wanted = None
    if suite:
        from noisybench.config.suite import read_suite

        wanted = {spec.identity for spec in read_suite(suite)}
    runs = {each.tags["identity"]: each for each in reversed(store.runs.list_runs("FINISHED"))}
    chosen = [
        run
        for identity, run in sorted(runs.items())
        if (wanted is None or identity in wanted) and run.tags.get("label_set", "").startswith(label_set or "")
    ]
    if not chosen:
        raise UserError("the store has no such finished runs; make some with `noisybench bench quickstart`")
    if wanted is not None and len(chosen) < len(wanted):
        typer.echo(f"{len(wanted) - len(chosen)} of {len(wanted)} runs of {suite} are not finished, and are left out")
    made = submission.write(folder, claim, __version__, gather(store, chosen))
    typer.echo(
        f"{len(made.index.runs)} runs written to {folder}; check them with `noisybench leaderboard verify {folder}`"
    )


@leaderboard_app.command(epilog="Example: noisybench leaderboard verify my-entry dataset.root=data/cifar10 --rerun 3")
def verify(
    folder: Annotated[Path, typer.Argument(help="A submission")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Where the data are on this machine, such as dataset.root=data/cifar10")
    ] = None,
    rerun: Annotated[int, typer.Option(min=0, help="How many of its runs to train again, evenly spaced")] = 0,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Points by which `last` of a run trained again may differ")
    ] = 2.0,
    stamp: Annotated[
        bool, typer.Option("--stamp", help="Note the outcome in the folder, for who keeps the leaderboard")
    ] = False,
) -> None:
    """Score a submission again from its predictions, label sets and data; with --rerun, train some of its runs again."""
    from noisybench import __version__
    from noisybench.leaderboard import submission
    from noisybench.leaderboard import verification as verifying

    found = submission.read(folder)
    verdict = verifying.Verdict()
    for verdict in verifying.verify(found, overrides or [], rerun, tolerance):
        if verdict.rerun and not verdict.problems:
            typer.echo(f"trained again: {verdict.rerun[-1]}")
    if verdict.problems:
        shown = verdict.problems[:30]
        more = [f"and {len(verdict.problems) - len(shown)} more"] if len(verdict.problems) > len(shown) else []
        raise UserError(*(f"refused: {each}" for each in shown), *more)
    if stamp:
        submission.stamp(found, verdict.status, __version__)
    typer.echo(f"{verdict.status}: {verdict.runs} runs; every number that follows from predictions is what is claimed")

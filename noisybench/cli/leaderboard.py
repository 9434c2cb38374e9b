"""The `leaderboard` command and its subcommands."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.cli.output import check_format_of_name, print_text
from noisybench.cli.pager import print_paged
from noisybench.errors import UserError, nearest
from noisybench.utils.interrupts import INTERRUPTS, kill_children
from noisybench.utils.outputs import write_text
from noisybench.utils.places import check_output_file, check_output_folder
from noisybench.utils.status import show_status
from noisybench.utils.text import counted

if TYPE_CHECKING:
    from noisybench.api.leaderboard import Leaderboard

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
    suite: Annotated[
        str | None, typer.Option(help="Rank the runs of a suite, or the `shipped` measurements of noisybench")
    ] = None,
    setting: Annotated[
        str, typer.Option(help="Filter by the title of a setting or words in it, such as 'digits pair_flip'")
    ] = "",
    stack: Annotated[
        list[str] | None,
        typer.Option(
            help="Show only the stack of this name, whole or short, or stacks with this mitigation; keeps ranks"
        ),
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="Filter by label-set hash prefix")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of --format markdown and latex, such as rank,stack,last,seeds")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show all columns, in longer lines than the terminal has")
    ] = False,
    no_pager: Annotated[
        bool, typer.Option("--no-pager", help="Print long output at once instead of through $PAGER")
    ] = False,
) -> None:
    """Rank the finished runs of the store, one table per setting; serve, export, package and verify results."""
    if context.invoked_subcommand is not None:
        return
    show_status("Reading and ranking the finished runs of this folder")
    from noisybench.api.leaderboard import leaderboard as rank_runs
    from noisybench.utils.console import make_console

    _check_choices(rule, metric, test, format)
    output = _checked_output(format, output, columns, stack)
    _check_display(format, ci, wide)
    board = rank_runs(suite, rule, metric, test, label_set, setting, stack or ())
    board = dataclasses.replace(board, intervals=ci, columns=columns or "", wide=wide)
    if format == "terminal":
        print_paged(make_console(), board, enabled=not no_pager)
    else:
        _write_board(board, format, output)


def _check_choices(rule: str, metric: str | None, test: str, format: str) -> None:
    """Check the options of which each has a few values."""
    from noisybench.api.leaderboard import TESTS
    from noisybench.api.results import METRICS
    from noisybench.records.selection import SELECTION_RULES

    check_choice("rule", rule, list(SELECTION_RULES))
    check_choice("metric", metric or "default", METRICS)
    check_choice("format", format, FORMATS)
    check_choice("test", test, TESTS)


def _checked_output(format: str, output: Path | None, columns: str | None, stack: Sequence[str] | None) -> Path | None:
    """Check the options that only some formats have, and return the file to write; None for standard output."""
    from noisybench.leaderboard.columns import parse_columns

    if columns is not None:
        if format not in ("markdown", "latex"):
            raise UserError(
                f"--columns: applies to --format markdown and latex, but got --format {format}; add --format markdown"
            )
        parse_columns(columns)
    if format == "html":
        output = output or Path("leaderboard.html")
        if stack:
            raise UserError("--stack: the page shows all stacks, and has filters of its own; leave this option out")
    if output is not None:
        check_output_file(output)
        if format == "terminal":
            raise UserError("--output: select the format of the file with --format csv, markdown, latex or html")
        check_format_of_name(output, format)
    return output


def _check_display(format: str, ci: bool, wide: bool) -> None:
    """Check the options that change how only some formats show a board."""
    if ci and format in ("csv", "html"):
        raise UserError(f"--ci: does not apply to --format {format}; leave this option out")
    if wide and format != "terminal":
        raise UserError(f"--wide: applies to the terminal, but got --format {format}; leave this option out")


def _write_board(board: Leaderboard, format: str, output: Path | None) -> None:
    """Write a board in a format of files; without a file to standard output, which may belong to another program."""
    from noisybench.leaderboard.terminal_tables import render_excluded
    from noisybench.utils.console import make_console

    writers: dict[str, Callable[[], str]] = {
        "csv": board.to_csv, "markdown": board.to_markdown, "latex": board.to_latex, "html": board.to_html
    }  # fmt: skip
    text = writers[format]()
    if output is None:
        print_text(text)
    else:
        write_text(output, text)
        typer.echo(f"{counted(len(board.settings), 'table')} written to {output}")
    for line in render_excluded(board.excluded):
        make_console(stderr=True).print(line)


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Check the value of an option.

    Raises:
        UserError: it is not one of those allowed.
    """
    if value not in allowed:
        raise UserError(f"--{option}: unknown {option} `{value}`; {nearest(value, allowed)}")


@leaderboard_app.command(epilog="Example: noisybench leaderboard serve --port 5000")
def serve(
    host: Annotated[str, typer.Option(help="Bind address (default: localhost only)")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")] = 5000,
) -> None:
    """Start MLflow's server on the store, with the leaderboard at /leaderboard."""
    from noisybench.leaderboard.server import check_address, start_mlflow
    from noisybench.leaderboard.study_dashboard import DASHBOARD, is_installed
    from noisybench.tracking.store import Store

    store = Store()
    check_address(store, host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    typer.echo(f"Leaderboard: {address}/leaderboard   (stop with Ctrl-C)")
    if is_installed():
        typer.echo(f"Searches, in Optuna's dashboard: {address}{DASHBOARD}")
    typer.echo("MLflow runs at the same address without /leaderboard. The first page takes a few seconds.")
    sys.stdout.flush()  # before the output of the server
    server = start_mlflow(store, host, port)
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
    from noisybench.leaderboard.site import write_site
    from noisybench.tracking.store import Store

    check_output_folder(folder)
    board = write_site(Store(), folder, mlflow)
    typer.echo(
        f"{counted(len(board.settings), 'setting')} written to {folder / 'index.html'}, their tables to leaderboard.csv, stress "
        "cards to stress.csv"
    )


@leaderboard_app.command(epilog="Example: noisybench leaderboard reproduction -o reproduction.md")
def reproduction(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file to write")] = None,
) -> None:
    """List every published result of an implemented method, beside what was measured for it."""
    from noisybench.leaderboard.measurement_tables import with_builtin
    from noisybench.leaderboard.reproduction import reproduce, to_markdown
    from noisybench.tracking.equivalences import recorded_equivalences
    from noisybench.tracking.store import Store

    if output is not None:
        check_output_file(output)
        check_format_of_name(output, "markdown")
    store = Store()
    text = to_markdown(reproduce(with_builtin(store.runs.records()), recorded_equivalences(store)))
    if output is None:
        print_text(text)
    else:
        write_text(output, text)
        typer.echo(f"Written to {output}")

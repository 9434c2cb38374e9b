"""The option `--time-limit`, and the lines of a command with a time limit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.utils.interrupts import INTERRUPTS, OUT_OF_TIME_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from noisybench.execution.suite_runner import SuiteResult
    from noisybench.execution.time_limit import TimeLimit

TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="DURATION",
        help="End in order within this time, such as 90s, 9m, 1h30m or 2:30:00, with exit status 75 if work is left "
        "(default: until the Slurm job ends, if there is one; `none`: no limit)",
    ),
]

RESUME = "Run the same command to resume."
"""Last sentence of a command that has stopped before its end."""


@contextlib.contextmanager
def time_limit(option: str | None, console: Console, enforce: bool = True) -> Iterator[TimeLimit | None]:
    """Yield the time limit of a command, and end the process should the block take longer.

    Args:
        option: value of `--time-limit`.
        console: console, which shows a limit that the user has not given.
        enforce: False for a dry run.

    Raises:
        UserError: the value is no duration.
    """
    from noisybench.execution.time_limit import read_time_limit
    from noisybench.utils.durations import format_duration

    limit = read_time_limit(option)
    if limit is None:
        yield None
        return
    if option is None:
        console.print(
            f"The Slurm job ends in {format_duration(limit.end - limit.start)}: the command stops in order before that "
            "(`--time-limit none` turns this off)."
        )
    with limit.enforced() if enforce else contextlib.nullcontext():
        yield limit


def exit_after(result: SuiteResult, console: Console) -> None:
    """End the command if it was interrupted, has stopped because its time was over, or a run failed.

    Raises:
        typer.Exit: with 128 plus the number of the signal after an interruption, with `OUT_OF_TIME_STATUS` after SIGUSR1 or
            if the time limit has left runs, else with status 1 if a run failed.
    """
    remaining = result.remaining
    if INTERRUPTS.level():
        has_work = remaining is not None and remaining.to_resume + remaining.to_start > 0
        if remaining is not None and has_work and INTERRUPTS.signal_name in ("SIGTERM", "SIGUSR1"):
            console.print(f"{INTERRUPTS.signal_name}: {remaining.describe()}.")
        console.print(f"Interrupted. {RESUME}")
        raise typer.Exit(INTERRUPTS.exit_status)
    if remaining is not None and result.out_of_time:
        console.print(f"Out of time: {remaining.describe()}. {RESUME}")
        raise typer.Exit(OUT_OF_TIME_STATUS)
    if result.failed:
        raise typer.Exit(1)

"""The `search` command."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from noisybench.cli import limits
from noisybench.cli.labels import Overrides
from noisybench.cli.limits import TimeLimitOption
from noisybench.cli.run import Jobs, execute_specs
from noisybench.errors import UserError
from noisybench.utils.files import require_writable
from noisybench.utils.interrupts import INTERRUPTS, OUT_OF_TIME_STATUS
from noisybench.utils.status import show_status
from noisybench.utils.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from noisybench.execution.time_limit import TimeLimit
    from noisybench.search.definition import Search
    from noisybench.search.search import UnfinishedSearch


def search(
    name: Annotated[
        str,
        typer.Argument(help="Name of a built-in search, a recipe or suite, path of a YAML file, or `resume`"),
    ],
    overrides: Overrides = None,
    study: Annotated[str | None, typer.Option(help="Name of the study (default: name of the search and stack)")] = None,
    storage: Annotated[
        str | None, typer.Option(help="URL of the studies' database (default: SQLite file in the working folder)")
    ] = None,
    jobs: Jobs = None,
    time_limit: TimeLimitOption = None,
) -> None:
    """Tune a stack, or each stack of a suite, on noisy validation labels; rank the best configurations and the defaults."""
    from noisybench.utils.console import make_console

    with limits.time_limit(time_limit, make_console()) as limit:
        _search(_read(name, overrides or [], study, storage), storage, jobs, limit)


def _search(searches: Sequence[Search], storage: str | None, jobs: int | None, limit: TimeLimit | None) -> None:
    """Train the trials of all searches, then the selected configurations with fresh seeds.

    Raises:
        typer.Exit: see `limits.exit_after`.
    """
    from noisybench.cli import console as view
    from noisybench.config.data_files import download_missing
    from noisybench.config.spec import WORKSPACE
    from noisybench.execution.display import ProgressDisplay
    from noisybench.execution.preflight import preflight
    from noisybench.search.search import UnfinishedSearch, final_runs, run_search
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console
    from noisybench.utils.processes import process_context

    show_status("Reading the search and its study")
    console, store = make_console(), Store()
    # Before the studies are opened: the bytes of the data are a part of their definition.
    download_missing([definition.spec({}, 0) for definition in searches])
    if len(searches) > 1:
        # A single search validates itself; of several, the last must not be refused after hours of the first.
        console.print(f"Validating {len(searches)} searches ...")
        preflight(process_context(), [definition.first_spec() for definition in searches])
    store.connection.check()
    require_writable(WORKSPACE)
    if limit is not None:
        limit.set_reserve()
    results = []
    for definition in searches:
        if not definition.space:
            console.print(f"{definition.stack} has no parameters to search; its defaults are ranked")
            continue
        parameters = ", ".join(definition.space)
        trials = counted(definition.trials, "trial")
        console.print(f"Study `{definition.name}`: {parameters}; {trials}", markup=False)
        display = ProgressDisplay(console, definition.trials, noun="trial")
        with INTERRUPTS.graceful(console.print), display:
            result = run_search(definition, storage, store, jobs, display.update, INTERRUPTS.level, limit)
        if isinstance(result, UnfinishedSearch):
            _exit_unfinished(result, console)
        view.print_search_result(console, result)
        results.append(result)
    # The scores of selected trials are biased upward by the selection; new seeds compare them fairly with the defaults.
    console.print("Retraining the selected configurations with fresh seeds:")
    without_space = [definition for definition in searches if not definition.space]
    execute_specs(final_runs(results, without_space), jobs, limit=limit)


def _exit_unfinished(unfinished: UnfinishedSearch, console: Console) -> NoReturn:
    """End the command, and say how many trials are left.

    Raises:
        typer.Exit: with `OUT_OF_TIME_STATUS`, or 128 plus the number of the signal.
    """
    definition = unfinished.search
    left = f"{unfinished.finished} of {definition.trials} trials of the study `{definition.name}` are finished"
    if not INTERRUPTS.level():
        console.print(f"Out of time: {left}. {limits.RESUME}", markup=False)
        raise typer.Exit(OUT_OF_TIME_STATUS)
    console.print(f"{INTERRUPTS.signal_name}: {left}.", markup=False)
    console.print(f"Interrupted. {limits.RESUME}")
    raise typer.Exit(INTERRUPTS.exit_status)


def _read(name: str, overrides: Sequence[str], study: str | None, storage: str | None) -> list[Search]:
    """Return the searches of a configuration, or with ``resume`` those that the database of studies holds."""
    from noisybench.search.config import read_searches
    from noisybench.search.study import load_searches

    if name == "resume":
        names = [*([study] if study else []), *overrides]
        if len(names) > 1:
            raise UserError(
                "search resume: give the name of one study, or none to resume all; settings are in the study"
            )
        return load_searches(names[0] if names else None, storage)
    searches = read_searches(name, overrides)
    if study is not None and len(searches) > 1:
        raise UserError("--study: a suite has one study per setting and stack, named after them")
    return [dataclasses.replace(definition, name=study or definition.name) for definition in searches]

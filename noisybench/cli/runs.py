"""The command group `runs`: list, export and import the runs of the store, and record equivalences of code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.cli import transfer
from noisybench.cli.limits import exit_after
from noisybench.cli.run import DryRun, Jobs, train_session
from noisybench.errors import UserError
from noisybench.utils.interrupts import INTERRUPTS
from noisybench.utils.outputs import write_text

if TYPE_CHECKING:
    from noisybench.records.equivalence import Equivalence

STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING")

runs_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, export and import the runs of the store, and compare runs that were trained by different code.",
)


@runs_app.command("list", epilog="Example: noisybench runs list --code 1a2b3c4d")
def list_runs(
    code: Annotated[str, typer.Option(help="Filter by first digits of a code, or of one of its components")] = "",
) -> None:
    """List the runs of the store, the latest first, with the code that trained them."""
    from rich.table import Table
    from rich.text import Text

    from noisybench.config.source_code import SourceTree
    from noisybench.records.codes import SHORT_DIGEST, as_code, code_digest, matches_code, tagged_code
    from noisybench.tracking.equivalences import EquivalenceStore
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console

    store, console = Store(), make_console()
    table = Table("identity", "run", "code", "engine", "status", box=None, header_style="bold", pad_edge=False)
    for status in STATUSES:
        for run in store.runs.list_runs(status):
            if not matches_code(run.tags, code):
                continue
            digests = tagged_code(run.tags)
            whole = code_digest(as_code(digests))
            cells = (run.tags["identity"], run.title, whole, digests.get("engine", "")[:SHORT_DIGEST], status.lower())
            # As plain text: Rich would read the brackets of a title as markup.
            table.add_row(*map(Text, cells))
    if not table.rows:
        raise UserError("the store has no runs that match; create some with `noisybench bench quickstart`")
    console.print(table)
    console.print(f"Installed engine: {SourceTree().code({})['engine'][:SHORT_DIGEST]}")
    equivalences = EquivalenceStore(store)
    for run_id, equivalence in equivalences.read().items():
        console.print(Text(f"Equivalence {run_id} ({equivalence.date}): {equivalence.describe()}"))
    for reason in equivalences.unreadable.values():
        console.print(Text(f"Note: {reason}", style="yellow"))


runs_app.command("export", epilog="Example: noisybench runs export -o records.zip --max-size 15M")(transfer.export)
runs_app.command("import", epilog="Example: noisybench runs import records-part*.zip")(transfer.import_runs)


@runs_app.command(epilog="Example: noisybench runs equivalent 1a2b3c4d --sample 2")
def equivalent(
    old: Annotated[str, typer.Argument(help="First digits of the old code, or of one of its components (`runs list`)")],
    new: Annotated[
        str | None, typer.Argument(help="First digits of the new code or of a component (default: the installed code)")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Number of seeds of each stack and setting to train again under the new code")
    ] = 1,
    tolerance: Annotated[
        float,
        typer.Option(min=0, max=100, help="Allowed difference of scores on a GPU, in percentage points; 0 on a CPU"),
    ] = 0.5,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON list of equivalences to add this one to, as a release ships it"),
    ] = None,
    jobs: Jobs = None,
    dry_run: DryRun = False,
) -> None:
    """Train a sample of old runs again under new code; if all results are the same, tables join the two codes."""
    from rich.text import Text

    from noisybench.execution.equivalence import compare_pairs, plan_comparison
    from noisybench.execution.session import Session
    from noisybench.execution.suite_runner import make_plan
    from noisybench.records.equivalence import equivalences_to_json
    from noisybench.tracking.equivalences import EquivalenceStore
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console

    console, store = make_console(), Store()
    shared = _read_list(output) if output is not None else ()
    records = store.runs.records()
    comparison = plan_comparison(records, old, new, sample)
    pairs = comparison.pairs
    for reason in comparison.left_out:
        console.print(Text(f"left out: {reason}", style="yellow"))
    # Without equivalences: a run of equivalent code is no evidence for another equivalence.
    plan = make_plan([pair.spec for pair in pairs if pair.spec is not None], records)
    typer.echo(f"Runs to compare: {len(pairs)}; to train under the new code: {len(plan.pending)}")
    if dry_run:
        for spec in plan.pending:
            typer.echo(f"  {spec.title}")
        return
    session = Session(store, plan, records, [])
    result = train_session(session, jobs, console)
    # A failed run is named below, together with those that differ.
    if INTERRUPTS.level():
        exit_after(result, console)
    equivalence = compare_pairs(pairs, session.records, sample, tolerance / 100)
    description = equivalence.describe()
    run_id = EquivalenceStore(store).write(equivalence, f"equivalence {description}")
    typer.echo(f"Equivalent: {description}. Recorded as run {run_id}; tables join these codes now.")
    if output is not None:
        write_text(output, equivalences_to_json([*shared, equivalence]) + "\n")
        typer.echo(f"Added to {output}")


def _read_list(path: Path) -> tuple[Equivalence, ...]:
    """Return the equivalences of a file that one is to be added to; none if the file does not exist.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    from noisybench.records.equivalence import equivalences_from_json
    from noisybench.utils.places import check_output_file, read_text, shown

    check_output_file(path, (".json",))
    if not path.is_file():
        return ()
    try:
        return equivalences_from_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{shown(path)} is no list of equivalences: {error}") from None

"""Commands of submissions: `leaderboard package`, `leaderboard verify` and `leaderboard summarize`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.errors import UserError
from noisybench.utils.outputs import write_text
from noisybench.utils.places import check_output_folder, read_text, shown
from noisybench.utils.text import count_runs, counted

KEYS_HELP = (
    "File of public keys in PEM form whose stamps count (default: $NOISYBENCH_TRUSTED_KEYS, or trusted_keys.pem in the "
    "configuration folder)"
)

if TYPE_CHECKING:
    from noisybench.leaderboard.entries import EntryInfo
    from noisybench.leaderboard.verification import VerificationResult
    from noisybench.tracking.store import Store


def package(
    folder: Annotated[Path, typer.Argument(help="Folder to write")],
    description: Annotated[str, typer.Option(help="Claim of the runs, and how they were trained")],
    author: Annotated[str, typer.Option(help="Name or address of the authors, to show on the leaderboard")] = "",
    suite: Annotated[str | None, typer.Option(help="Filter by suite")] = None,
    search: Annotated[str | None, typer.Option(help="Filter by search: the configurations that it selected")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database of the studies of --search (default: .noisybench/searches.db)")
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="Filter by label-set hash prefix")] = None,
) -> None:
    """Package finished runs as a submission: records, and predictions from which every score follows."""
    from noisybench import __version__
    from noisybench.cli.console import step_progress
    from noisybench.leaderboard import submission
    from noisybench.leaderboard.stored import NO_RUNS
    from noisybench.leaderboard.verification import collect_evidence
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console
    from noisybench.utils.progress import with_progress

    if not 0 < len(description.strip()) <= submission.MAX_DESCRIPTION:
        raise UserError(
            f"--description: needs 1 to {submission.MAX_DESCRIPTION} characters, but has {len(description.strip())}"
        )
    if len(author) > submission.MAX_AUTHOR:
        raise UserError(f"--author: has at most {submission.MAX_AUTHOR} characters, but has {len(author)}")
    if suite is not None and search is not None:
        raise UserError("--search: a search selects the runs of its own suite; give either --search or --suite")
    if storage is not None and search is None:
        raise UserError("--storage: this is the database of the studies of a search; name the search by --search")
    store = Store()
    identities = _identities(suite, search, storage, store)
    readable = {record.run_id for record in store.runs.records()}
    # The latest run comes first in the list; in reverse order it replaces earlier runs of its identity.
    runs = {run.tags["identity"]: run for run in reversed(store.runs.list_runs("FINISHED")) if run.run_id in readable}
    selected = [
        run
        for identity, run in sorted(runs.items())
        if (identities is None or identity in identities) and run.tags.get("label_set", "").startswith(label_set or "")
    ]
    if not selected:
        raise UserError(NO_RUNS)
    if identities is not None and (unfinished := identities - set(runs)):
        typer.echo(f"{len(unfinished)} of {count_runs(len(identities))} of {suite or search} unfinished and left out")
    # Only now, so that a refused command leaves no empty folder.
    check_output_folder(folder)
    with step_progress(make_console()):
        evidence = with_progress(collect_evidence(store, selected), "write runs", len(selected))
        packaged = submission.write(folder, description, __version__, evidence, author.strip())
    typer.echo(
        f"{count_runs(len(packaged.manifest.runs))} written to {folder}. "
        f"Check them with `noisybench leaderboard verify {shlex.quote(str(folder))}`."
    )


def _identities(suite: str | None, search: str | None, storage: str | None, store: Store) -> set[str] | None:
    """Return the identities of the runs of a suite or of the configurations that a search has selected; None without both.

    Of a run that has finished with equivalent code, it is the identity of that run.
    """
    from noisybench.config.suite import read_suite
    from noisybench.execution.suite_runner import make_plan
    from noisybench.search.search import selected_runs
    from noisybench.tracking.equivalences import recorded_equivalences

    if suite is not None:
        specs = read_suite(suite)
    elif search is not None:
        specs = selected_runs(search, storage)
    else:
        return None
    plan = make_plan(specs, store.runs.records(), recorded_equivalences(store))
    finished = {identity: record.identity for identity, record in plan.equivalent.items()}
    return {finished.get(spec.identity, spec.identity) for spec in plan.specs}


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a submission")],
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Location of the data on this machine, e.g. dataset.root=data/cifar10"),
    ] = None,
    rerun: Annotated[int, typer.Option(min=0, help="Number of runs to train again, chosen at random")] = 0,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Allowed difference in accuracy of retrained runs, in percentage points")
    ] = 2.0,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Download published data and pre-trained weights if needed")
    ] = False,
    allow_plugin: Annotated[
        list[str] | None, typer.Option(help="Component of an installed plug-in whose code may run")
    ] = None,
    allow_network: Annotated[
        list[str] | None, typer.Option(help="Network that reads files of this machine, e.g. huggingface:gpt2")
    ] = None,
    max_memory: Annotated[
        float, typer.Option(min=1, help="Memory in GiB that the checks may take, without retraining")
    ] = 16,
    mark_verified: Annotated[
        bool, typer.Option("--mark-verified", help="Write a signed verified.json (maintainers only)")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="Private Ed25519 key in PEM form that signs verified.json")] = None,
    trusted_keys: Annotated[Path | None, typer.Option(help=KEYS_HELP)] = None,
) -> None:
    """Score a submission again from its predictions, label sets and data; with --rerun, train some of its runs again."""
    from noisybench import __version__
    from noisybench.cli.console import step_progress
    from noisybench.leaderboard import stamps, submission, verification
    from noisybench.leaderboard.trust import TrustPolicy
    from noisybench.utils.console import make_console
    from noisybench.utils.progress import report_progress

    if mark_verified and key is None:
        raise UserError(
            f"--mark-verified: give your private key with --key; create a pair of keys with `{stamps.KEY_HELP}`"
        )
    # Before the verification, which may take hours.
    private_key = stamps.read_private_key(key) if key is not None else None
    policy = TrustPolicy(places or [], allow_plugin or [], allow_network or [], allow_download)
    claimed = submission.read(folder, stamps.read_trusted_keys(trusted_keys))
    result = verification.VerificationResult()
    console, total = make_console(), len(claimed.manifest.runs)
    with step_progress(console):
        for result in verification.verify(claimed, policy, rerun, tolerance, max_memory):
            report_progress("check runs", result.runs, total)
            if result.rerun and not result.problems:
                console.print(f"Trained again: {result.rerun[-1]}", markup=False, soft_wrap=True)
    if result.problems:
        shown = result.problems[:30]
        num_more = len(result.problems) - len(shown)
        raise UserError(*(f"refused: {problem}" for problem in shown), *([f"and {num_more} more"] if num_more else []))
    if mark_verified and private_key is not None:
        submission.mark_verified(claimed, result.status, __version__, len(result.rerun), private_key)
    _print_result(result, "" if mark_verified else f"{claimed.status} ({claimed.stamp.reason})")


def _print_result(result: VerificationResult, stamp: str) -> None:
    """Print the status of a verified submission, and the claims that were not recomputed.

    Args:
        result: result without problems.
        stamp: stamp that the submission already had; empty if it was signed now.
    """
    from noisybench.leaderboard.claims import CLAIMS

    typer.echo(f"{result.status}: {count_runs(result.runs)}; every score that follows from predictions is as claimed")
    if result.other_code:
        typer.echo(
            f"Code:   {result.other_code} of {count_runs(result.runs)} trained by other code than that installed here"
        )
    else:
        typer.echo("Code:   that installed here")
    typer.echo(f"Stamp:  {stamp or f'{result.status}, signed'}")
    typer.echo("Claims, not recomputed:")
    for name in CLAIMS:
        if name in result.claims:
            typer.echo(f"  {name:<20} {CLAIMS[name]}")


def _named(folders: list[Path]) -> list[Path]:
    """Return folders by their names, also the one of ``.``.

    Raises:
        UserError: two have the same name, so that one table would replace the other.
    """
    named: dict[str, Path] = {}
    for folder in map(Path.absolute, folders):
        path = Path(os.path.normpath(folder))
        other = named.setdefault(path.name, path)
        if other is not path:
            raise UserError(
                f"{shown(path)} has the name of {shown(other)}, by which tables tell submissions apart; "
                + ("give it once" if path == other else "rename the folder")
            )
    return list(named.values())


def _read_entries(path: Path) -> list[EntryInfo]:
    """Return the rows of a table of entries; none if there is no such file.

    Raises:
        UserError: it is another table, or cannot be read.
    """
    from noisybench.leaderboard import entries

    if not path.exists():
        return []
    try:
        return entries.from_csv(read_text(path))
    except UserError as error:
        problems = [text if text.startswith(shown(path)) else f"{shown(path)}: {text}" for text in error.problems]
        raise UserError(*problems) from None


def summarize(
    folders: Annotated[list[Path], typer.Argument(help="Folders of submissions")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tables to write")] = Path("measured"),
    evidence: Annotated[str, typer.Option(help="Address of the folder with the submissions, to link their files")] = "",
    trusted_keys: Annotated[Path | None, typer.Option(help=KEYS_HELP)] = None,
) -> None:
    """Write the tables that ship with noisybench: one for each submission with a row per run, and entries.csv beside the folder.

    Tables and rows of other submissions stay as they are.
    """
    from noisybench.leaderboard import entries as entry_table
    from noisybench.leaderboard import stamps, submission
    from noisybench.leaderboard.measurement_tables import to_csv
    from noisybench.utils.text import printable

    check_output_folder(output)
    entries_file = output.parent / "entries.csv"
    infos = {info.name: info for info in _read_entries(entries_file)}
    keys = stamps.read_trusted_keys(trusted_keys)
    entries = [submission.read(folder, keys) for folder in _named(folders)]
    num_runs = 0
    for entry in entries:
        info = entry_table.describe_submission(entry, evidence)
        # A fixed order keeps the differences between two versions of a table small.
        measurements = sorted(
            entry.measurements(),
            key=lambda each: (each.setting.title, each.setting.label_set, each.setting.budget, each.stack, each.seed),
        )
        write_text(output / f"{info.name}.csv", to_csv(measurements))
        infos[info.name] = info
        num_runs += len(measurements)
    write_text(entries_file, entry_table.to_csv(infos[name] for name in sorted(infos)))
    typer.echo(
        f"{count_runs(num_runs)} of {counted(len(folders), 'submission')} written to {output} and {entries_file}"
    )
    for entry in entries:
        typer.echo(f"  {printable(entry.folder.name)}: {entry.status} ({entry.stamp.reason})")

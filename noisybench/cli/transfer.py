"""The commands `runs export` and `runs import`: finished runs and checkpoints move between stores as files."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.errors import UserError
from noisybench.utils.places import check_output_file

if TYPE_CHECKING:
    from noisybench.records.schema import RunRecord

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}

KINDS = {
    "run": ("run", "runs"),
    "suite": ("parent of runs of a suite", "parents of runs of suites"),
    "checkpoint": ("checkpoint", "checkpoints"),
    "auxiliary": ("result of an auxiliary run", "results of auxiliary runs"),
}
"""Singular and plural of the kinds of items."""


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; its name ends in .zip")],
    max_size: Annotated[
        str, typer.Option(help="Largest size of a file, such as 15M; a larger export is split into parts")
    ] = "",
    code: Annotated[str, typer.Option(help="Filter by first digits of a code, or of one of its components")] = "",
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Add checkpoints of unfinished runs and results of auxiliary runs")
    ] = False,
    without: Annotated[
        list[Path] | None, typer.Option("--without", help="Leave out what this earlier export has; may be repeated")
    ] = None,
) -> None:
    """Export finished runs to a file, with their metrics, files, child runs and times, for `runs import`."""
    from noisybench.cli.console import step_progress
    from noisybench.config.spec import WORKSPACE
    from noisybench.records.codes import matches_code
    from noisybench.tracking.bundle import write_parts
    from noisybench.tracking.known_items import without_known
    from noisybench.tracking.run_export import Exporter
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console

    limit = _parse_size(max_size)
    check_output_file(output, (".zip",))
    store = Store()
    with step_progress(make_console()), tempfile.TemporaryDirectory(prefix="noisybench-") as downloads:
        exporter = Exporter(store, Path(downloads), lambda run: matches_code(run.tags, code))
        drafts = exporter.finished()
        if checkpoints:
            with exporter.unfinished(WORKSPACE) as unfinished:
                found = [*drafts, *unfinished]
                drafts = without_known(found, without or [])
                files = write_parts(drafts, output, limit) if drafts else []
        else:
            found, drafts = drafts, without_known(drafts, without or [])
            files = write_parts(drafts, output, limit) if drafts else []
    for note in exporter.notes:
        typer.echo(f"left out: {note}")
    if found and not drafts:
        typer.echo("Nothing to export: the earlier exports have everything")
        return
    if not drafts:
        raise UserError("the store has no runs that match; nothing was written")
    for file in files:
        typer.echo(f"{file}  {file.stat().st_size / 2**20:.1f} MiB")
    typer.echo(f"Exported {_counts(draft.kind for draft in drafts)}. Import: noisybench runs import {_names(files)}")


def import_runs(
    files: Annotated[list[Path], typer.Argument(help="Files of `runs export`; parts of an export together")],
) -> None:
    """Import runs from files of `runs export`; runs that are here already are skipped."""
    from noisybench.cli.console import step_progress
    from noisybench.config.spec import WORKSPACE
    from noisybench.tracking.bundle_reader import Bundle
    from noisybench.tracking.run_import import Importer
    from noisybench.tracking.store import Store
    from noisybench.utils.console import make_console

    with step_progress(make_console()), Bundle(files) as bundle:
        result = Importer(Store(), bundle, WORKSPACE).add()
    if result.added:
        verb = "item was" if result.present == 1 else "items were"
        present = f"; {result.present} {verb} here already" if result.present else ""
        typer.echo(f"Imported {_counts(item.kind for item in result.added)}{present}")
    elif result.present:
        typer.echo(f"Nothing to import: all {result.present} items are here already")
    other = _num_other_code(result.records)
    if other:
        typer.echo(
            f"{other} of {len(result.records)} runs were trained by other code than that installed here; tables show them "
            "separately"
        )
    if result.problems:
        raise UserError(*(f"not imported: {problem}" for problem in result.problems))


def _counts(kinds: Iterable[str]) -> str:
    """Return how many items of each kind there are.

    Example:
        >>> _counts(["run", "run", "checkpoint"])
        '2 runs, 1 checkpoint'
    """
    counts = collections.Counter(kinds)
    return ", ".join(f"{count} {KINDS[kind][count > 1]}" for kind, count in counts.items())


def _names(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else str(files[0]).replace(f"-part1of{len(files)}", "-part*")


def _parse_size(text: str) -> int | None:
    """Return a size in bytes; None for no limit.

    Raises:
        UserError: it is no size, or too small for a part.

    Example:
        >>> _parse_size("15M"), _parse_size("")
        (15728640, None)
    """
    from noisybench.tracking.bundle import MIN_PART_SIZE

    if not text:
        return None
    match = re.fullmatch(r"(\d{1,12})([KMG]?)(i?B)?", text.strip(), re.IGNORECASE)
    size = int(match[1]) * UNITS[match[2].upper()] if match else 0
    if size < MIN_PART_SIZE:
        raise UserError(f"--max-size: expected a size from {MIN_PART_SIZE // 1024}K, such as 15M, but got {text!r}")
    return size


def _num_other_code(records: Sequence[RunRecord]) -> int:
    """Return how many runs were trained by other code than the installed one."""
    from noisybench.config.source_code import SourceTree
    from noisybench.leaderboard.installed_code import InstalledCode
    from noisybench.records.codes import as_code

    installed, engine = InstalledCode(), SourceTree().code({})
    count = 0
    for record in records:
        # Without a component or the data of a run, its code is compared by the engine alone.
        code = installed.of(record)
        count += as_code(record.code) != code if code else record.code.get("engine") != engine["engine"]
    return count

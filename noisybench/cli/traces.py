"""The `noisybench traces` commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.cli.hints import HintingCommand

if TYPE_CHECKING:
    from noisybench.audit.traces.cleaning import CleanedTraces

traces_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clean files of reasoning traces.")


@traces_app.callback()
def _traces() -> None:
    """Clean files of reasoning traces."""


@traces_app.command(
    "clean",
    cls=HintingCommand,
    epilog="Example: noisybench traces clean traces.jsonl --fraction 0.1 -o cleaned.jsonl --dropped dropped.jsonl",
)
def clean(
    source: Annotated[
        str, typer.Argument(help="File of traces, recipe with traces, or id of a finished run or its first digits")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.program=add budget.epochs=30; none for a run")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="New .jsonl file for the traces that are kept")] = Path(
        "cleaned.jsonl"
    ),
    dropped: Annotated[
        Path | None, typer.Option("--dropped", help="New .jsonl file for the traces that are dropped")
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(
            "--fraction",
            help="Fraction of the traces to drop, the most suspicious first (default: those that are contradicted or flagged)",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", help="Detector of the run: trace_loss (default), trace_worst_step or trace_execution"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Number of folds of the audit")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the audit")] = 0,
) -> None:
    """Write the traces that an audit or a finished run keeps, with their scores and the reasons for dropping others."""
    from noisybench.audit.traces.cleaning import check_fraction, write_traces
    from noisybench.errors import UserError
    from noisybench.utils.files import wrap_write_errors
    from noisybench.utils.places import check_output_folder, shown

    # Before any training: nothing that exists is overwritten.
    files = [file for file in (output, dropped) if file is not None]
    for file in files:
        if file.suffix.lower() != ".jsonl":
            raise UserError(f"{shown(file)} cannot be written: its name must end in .jsonl")
        if file.exists() or file.is_symlink():
            raise UserError(f"{shown(file)}: exists, and is not overwritten; choose another name")
        check_output_folder(file.parent)
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"--dropped: is the same file as --output, {shown(output)}; choose another name")
    check_fraction(fraction)
    cleaned = _clean(source, overrides or [], fraction, detector, folds, seed)
    typer.echo(repr(cleaned))
    for file, records in zip(files, (cleaned.kept, cleaned.dropped), strict=False):
        with wrap_write_errors(file), file.open("xb") as opened:
            opened.write(write_traces(records))
        typer.echo(f"{len(records)} traces written to {shown(file)}")


def _clean(
    source: str, overrides: list[str], fraction: float | None, detector: str | None, folds: int, seed: int
) -> CleanedTraces:
    """Clean the traces of a run if no file or recipe has the name, and those of an audit otherwise."""
    from noisybench.api.audit import audit
    from noisybench.api.trace_audit import TraceAudit
    from noisybench.audit.inputs import resolve_labels
    from noisybench.audit.traces.cleaning import DETECTORS, clean_by_run
    from noisybench.audit.traces.inputs import TRACE_TASKS
    from noisybench.cli.console import step_progress
    from noisybench.config.yaml_files import builtin_configs
    from noisybench.errors import UserError
    from noisybench.utils.console import make_console
    from noisybench.utils.places import expand_user

    path = expand_user(Path(source))
    if not path.exists() and not path.suffix and source not in builtin_configs("recipes"):
        if overrides:
            raise UserError(f"{overrides[0]}: a finished run takes no overrides; leave it out")
        return clean_by_run(source, DETECTORS[0] if detector is None else detector, fraction)
    if detector is not None:
        raise UserError("--detector: only finished runs have detectors; leave it out, or name a run")
    # Before any training.
    if resolve_labels(source, overrides)[0].task.name not in TRACE_TASKS:
        raise UserError(f"{source}: has no traces; give a file of prompts and responses, or a recipe with traces")
    console = make_console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=line.startswith("note: "))

    with step_progress(console):
        result = audit(source, folds=folds, seed=seed, overrides=overrides, progress=say)
    assert isinstance(result, TraceAudit)
    return result.clean(fraction)

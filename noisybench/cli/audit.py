"""The `audit` command and its subcommand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noisybench.cli.hints import HintingCommand
from noisybench.utils.places import check_file
from noisybench.utils.text import counted

audit_app = typer.Typer(rich_markup_mode=None)

LABELS_HELP = (
    "Folder of images with one sub-folder per class, images with masks, .parquet, .npz, .csv or features file, table of texts, "
    ".jsonl file of traces, or recipe"
)
OVERRIDES_HELP = "Overrides such as dataset.size=32 budget.epochs=30"


def audit(
    labels: Annotated[str, typer.Argument(help=LABELS_HELP)],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report")] = Path("audit"),
    folds: Annotated[
        int, typer.Option(min=2, max=20, help="Number of folds; each is predicted by a network trained on the others")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for folds and networks")] = 0,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            "-b",
            help="Pre-trained backbone whose features replace the training of networks (`noisybench list backbones`)",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=8, max=4096, help="Side in pixels of the images for the backbone (default: its own)"
        ),
    ] = None,
    pred_probs: Annotated[
        Path | None,
        typer.Option(
            "--pred-probs",
            help="Out-of-sample class probabilities of any model (.npy, .npz, .csv or .parquet), a row for each example",
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option("--pictures", min=0, help="Number of masks whose suspicious pixels are written as pictures (20)"),
    ] = None,
) -> None:
    """Estimate the noise rate of labels, rank suspicious labels, and list the best methods in similar settings."""
    # Imported here because the help of the command line must not import torch.
    from noisybench.api.audit import audit as audit_labels
    from noisybench.api.audit_results import MaskAudit
    from noisybench.api.trace_audit import TraceAudit
    from noisybench.cli.console import step_progress
    from noisybench.utils.console import make_console

    console = make_console()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=line.startswith("note: "))

    with step_progress(console):
        result = audit_labels(
            labels, pred_probs=pred_probs, backbone=backbone, size=size, folds=folds, seed=seed, overrides=overrides or (),
            folder=output, pictures=pictures, progress=say,
        )  # fmt: skip
    for line in result.summary:
        say(line)
    if isinstance(result, MaskAudit):
        say(f"Page for review:   {(output / 'report.html').resolve()}")
        say(f"Table of images:   {(output / 'scores.csv').resolve()}")
        say(f"Table of classes:  {(output / 'classes.csv').resolve()}")
        if result.num_pictures:
            say(f"Suspect pixels of {counted(result.num_pictures, 'image')}: {(output / 'suspects').resolve()}")
    elif isinstance(result, TraceAudit):
        say(f"Table of traces: {(output / 'scores.csv').resolve()}")
        say(f"Table of steps:  {(output / 'steps.csv').resolve()}")
    else:
        say(f"Report with images:   {(output / 'report.html').resolve()}")
        say(f"Table for relabeling: {(output / 'scores.csv').resolve()}")


@audit_app.command(
    "apply",
    cls=HintingCommand,
    epilog="Example: noisybench audit apply decisions.csv my-images/ dataset.size=32 -o labels/verified",
)
def apply(
    decisions: Annotated[
        Path,
        typer.Argument(
            help="Table of decisions (.csv, .tsv or .parquet) of an audit's page, or, for classes, its scores.csv"
        ),
    ],
    labels: Annotated[str, typer.Argument(help=f"{LABELS_HELP}, as for the audit")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("labels"),
) -> None:
    """Create a label set from the decisions of people who looked at the suspicious labels or masks of an audit."""
    from noisybench.audit.decisions import apply_decisions
    from noisybench.cli.labels import write_label_set

    check_file(decisions, "DECISIONS")
    write_label_set(*apply_decisions(decisions, labels, overrides or ()), output)

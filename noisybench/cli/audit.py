"""The `audit` command and its subcommand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from noisybench.cli.audit_masks import run_mask_audit
from noisybench.cli.hints import HintingCommand
from noisybench.errors import UserError
from noisybench.utils.places import check_file, check_output_folder

audit_app = typer.Typer(rich_markup_mode=None)

LABELS_HELP = (
    "Folder of images with one sub-folder per class, images with masks, .parquet, .npz, .csv or features file, table of texts, "
    "or recipe"
)
DEFAULT_PICTURES = 20
"""Number of masks whose suspicious pixels are written as pictures."""

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
    from noisybench.audit.audit import audit_labels, describe_networks
    from noisybench.audit.inputs import load_audit_input, resolve_labels
    from noisybench.audit.report import summary
    from noisybench.cli import console as view
    from noisybench.utils.console import make_console
    from noisybench.utils.durations import format_duration
    from noisybench.utils.processes import usable_cores

    arguments = list(overrides or [])
    # The networks are trained one after the other, so each may use all cores.
    if not any(argument.startswith("execution.num_threads=") for argument in arguments):
        arguments.append(f"execution.num_threads={usable_cores()}")
    if size is not None and backbone is None:
        raise UserError("--size: only a backbone has a size; name it with --backbone, or set dataset.size")
    if resolve_labels(labels, arguments)[0].task.name == "segmentation":
        if backbone is not None or pred_probs is not None:
            option = "--pred-probs" if backbone is None else "--backbone"
            raise UserError(
                f"{option}: masks are audited by segmentation networks; leave it out, or set budget.network"
            )
        run_mask_audit(labels, arguments, output, folds, seed, DEFAULT_PICTURES if pictures is None else pictures)
        return
    if pictures is not None:
        raise UserError("--pictures: only masks have suspicious pixels; leave it out")
    audit_input = load_audit_input(labels, arguments, pred_probs, backbone is not None)
    # Before hours of training: the folder may not be writable.
    check_output_folder(output)
    console, start = make_console(), time.monotonic()
    if backbone is not None:
        with view.step_progress(console):
            device = "cpu" if audit_input.spec.execution.device == "cpu" else "auto"
            audit_input = audit_input.with_backbone(backbone, size, device)
    for note in audit_input.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    networks = describe_networks(audit_input, folds)
    console.print(f"{audit_input.title}: {len(audit_input.observed)} labels; {networks} ...", markup=False)

    def print_fold(fold: int, epoch: int, loss: float) -> None:
        if epoch + 1 == audit_input.spec.budget.epochs:
            elapsed = format_duration(time.monotonic() - start)
            console.print(f"[{fold + 1}/{folds}] trained, loss {loss:.3f}, {elapsed}", markup=False)

    report = audit_labels(audit_input, folds, seed, print_fold)
    report.save(output)
    for line in summary(report):
        console.print(line, markup=False)
    console.print(f"Report with images:   {(output / 'report.html').resolve()}", markup=False)
    console.print(f"Table for relabeling: {(output / 'scores.csv').resolve()}", markup=False)


@audit_app.command(
    "apply",
    cls=HintingCommand,
    epilog="Example: noisybench audit apply decisions.csv my-images/ dataset.size=32 -o labels/verified",
)
def apply(
    decisions: Annotated[
        Path, typer.Argument(help="Table of decisions (.csv, .tsv or .parquet) of an audit's page, or its scores.csv")
    ],
    labels: Annotated[str, typer.Argument(help=f"{LABELS_HELP}, as for the audit")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("labels"),
) -> None:
    """Create a label set from the decisions of people who looked at the suspicious labels of an audit."""
    from noisybench.audit.inputs import audit_spec
    from noisybench.cli.labels import write_label_set
    from noisybench.config.registry import get_entry
    from noisybench.data.labels.label_import import own_targets

    check_file(decisions)
    spec, _ = audit_spec(labels, overrides or ())
    dataset = spec.dataset.build().load()
    base = spec.noise.build().apply(dataset)
    noise = get_entry("noise_models", "from_file").load_class()(path=decisions)
    own = {"train": own_targets(dataset.train), "validation": own_targets(dataset.validation)}
    # Decisions about the dataset's own labels need no other label set, and give the one of `labels import`.
    if base.verification or any((base.observed(name) != targets).any() for name, targets in own.items()):
        noise.base = base
    write_label_set(noise.apply(dataset), dataset, output)

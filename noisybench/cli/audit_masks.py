"""The `audit` command for masks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path


def run_mask_audit(
    labels: str, overrides: Sequence[str], output: Path, folds: int, seed: int, num_pictures: int
) -> None:
    """Audit segmentation masks, write the report and print its summary.

    Args:
        labels: folder or file of images with masks, or recipe.
        overrides: overrides of the specification.
        output: folder for the report.
        folds: number of folds.
        seed: random seed.
        num_pictures: number of the most suspicious images whose suspects are written as pictures.

    Raises:
        UserError: every problem of the input, and an output folder that cannot be written.
    """
    from noisybench.audit.masks.inputs import load_mask_audit_input
    from noisybench.audit.masks.networks import train_fold_networks
    from noisybench.audit.masks.report import audit_masks, describe_networks, summary
    from noisybench.utils.console import make_console
    from noisybench.utils.durations import format_duration
    from noisybench.utils.places import check_output_folder

    data = load_mask_audit_input(labels, overrides)
    # Before hours of training: the folder may not be writable.
    check_output_folder(output)
    console, start = make_console(), time.monotonic()
    for note in data.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"{data.title}: {len(data.masks)} masks; {describe_networks(data, folds)} ...", markup=False)

    def print_fold(fold: int, epoch: int, loss: float) -> None:
        if epoch + 1 == data.spec.budget.epochs:
            elapsed = format_duration(time.monotonic() - start)
            console.print(f"[{fold + 1}/{folds}] trained, loss {loss:.3f}, {elapsed}", markup=False)

    report = audit_masks(train_fold_networks(data, folds, seed, print_fold), data)
    written = report.save(output, num_pictures)
    for line in summary(report):
        console.print(line, markup=False)
    console.print(f"Table of images:   {(output / 'scores.csv').resolve()}", markup=False)
    console.print(f"Table of classes:  {(output / 'classes.csv').resolve()}", markup=False)
    if written:
        console.print(f"Suspect pixels of {written} images: {(output / 'suspects').resolve()}", markup=False)

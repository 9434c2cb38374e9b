"""`noisybench audit`: for people who must train on labels that they cannot trust."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from noisybench.errors import UserError


def audit(
    labels: Annotated[str, typer.Argument(help="A folder of images by class, a .parquet or .npz file, or a recipe")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.size=32 budget.epochs=30")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("audit"),
    folds: Annotated[
        int, typer.Option(min=2, max=20, help="Each part is judged by a network trained on the others")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts and the networks")] = 0,
) -> None:
    """Estimate how many labels are wrong, rank the suspects, and say which remedies helped in similar cells."""
    from noisybench.audit import report
    from noisybench.audit.audit import ask
    from noisybench.audit.audit import audit as conduct
    from noisybench.cli import console as view
    from noisybench.cli.leaderboard import write
    from noisybench.leaderboard.similar import helped
    from noisybench.leaderboard.submission import shipped_entries
    from noisybench.tracking.store import Store
    from noisybench.utils.processes import usable_cores

    question = ask(labels, [f"execution.threads={usable_cores()}", *(overrides or [])])
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}") from None
    # Asked before hours of training: a store may not answer.
    records = [record for entry in shipped_entries() for record in entry.records()] + Store().records()
    console, begun = view.make_console(), time.monotonic()
    budget = question.spec.budget
    told = (
        f"{folds} networks ({budget.network}), each trained on {folds - 1} of {folds} parts for {budget.epochs} epochs"
    )
    console.print(f"{question.title}: {len(question.observed)} labels; {told} …")

    def progress(fold: int, epoch: int, loss: float) -> None:
        if epoch + 1 == budget.epochs:
            spent = view.duration(time.monotonic() - begun)
            console.print(f"[{fold + 1}/{folds}] trained, loss {loss:.3f}, {spent}", markup=False)

    found = conduct(question, folds, seed, progress)
    made = report.Audited(
        question.title, question.images, question.observed, question.index, question.files, question.classes, found,
        question.truth, told, helped(records, found.rate, len(question.observed), len(question.classes)),
    )  # fmt: skip
    write(output / "suspects.csv", report.to_csv(made))
    write(output / "findings.json", report.to_json(made))
    write(output / "report.html", report.to_html(made))
    for line in report.summary(made):
        console.print(line, markup=False)
    console.print(f"Page with pictures: {(output / 'report.html').resolve()}", markup=False)
    console.print(f"For relabelling:    {(output / 'suspects.csv').resolve()}", markup=False)

"""The `relabel-curve` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BUDGETS = "0.02,0.05,0.1,0.2,0.3,0.4,0.5"


def relabel_curve(
    labels: Annotated[
        str, typer.Argument(help="Recipe whose dataset has features, or features file with noise=... as an override")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.path=features.npz noise.rate=0.2")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the table and the figure")] = Path(
        "relabeling"
    ),
    budgets: Annotated[
        str, typer.Option(help="Fractions of the labels to look at, ascending, separated by commas")
    ] = DEFAULT_BUDGETS,
    examples: Annotated[
        int | None, typer.Option(min=20, help="Number of training examples of each draw (default: all)")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Number of random draws of examples and folds, which intervals are over")
    ] = 5,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Number of folds of each audit")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the draws")] = 0,
) -> None:
    """Simulate relabeling on labels whose truth is known: errors found and accuracy over the number of labels looked at."""
    # Imported here because the help of the command line must not import torch.
    from noisybench.plots.relabeling import plot_relabeling
    from noisybench.relabeling.curve import simulate
    from noisybench.relabeling.inputs import load_relabeling_data, parse_budgets
    from noisybench.relabeling.summary import curves, describe, to_csv
    from noisybench.utils.console import make_console
    from noisybench.utils.files import wrap_write_errors
    from noisybench.utils.outputs import write_text
    from noisybench.utils.places import check_output_folder

    fractions = parse_budgets(budgets)
    data, title = load_relabeling_data(labels, overrides or (), examples)
    check_output_folder(output)
    size = min(examples or len(data.observed), len(data.observed))
    counts = sorted({max(1, round(fraction * size)) for fraction in fractions})
    console, points, rate = make_console(), [], 0.0
    for draw in range(draws):
        part = data.draw(size, draw, seed)
        rate += float((part.observed != part.clean).mean()) / draws
        points += simulate(
            part,
            counts,
            draw,
            folds,
            lambda draw, strategy: console.print(f"[{draw + 1}/{draws}] {strategy}", markup=False),
        )
    heading = f"{title}: {size} examples, {rate:.1%} incorrect labels, {draws} draw{'s' if draws > 1 else ''}"
    write_text(output / "curve.csv", to_csv(points, size))
    with wrap_write_errors(output):
        plot_relabeling(curves(points), heading, [output / "curve.png", output / "curve.svg"])
    console.print(
        f"{heading}; incorrect labels found / test accuracy after retraining, in percent", markup=False, soft_wrap=True
    )
    for line in describe(points):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Table and figure: {output.resolve()}", markup=False, soft_wrap=True)

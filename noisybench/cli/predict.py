"""The `noisybench predict` command."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from noisybench.utils.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from noisybench.api.model_files import FilePredictions

SHOWN_ROWS = 10
"""Number of predictions that are printed if no file is written."""


def predict(
    run: Annotated[
        str,
        typer.Argument(help="Id or identity of a finished run or its first digits, or folder of a saved model"),
    ],
    path: Annotated[
        Path,
        typer.Argument(
            help="Image or folder of images; .npz or .npy file of images or features; table of features; or text file with "
            "one prompt in each line"
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The .csv or .parquet table to write, or the folder for masks (default: print a summary)",
        ),
    ] = None,
    array: Annotated[str | None, typer.Option("--array", help="Name of the array in a .npz file with several")] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the run again if its model was not saved, and add it to the run")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="Device of the networks: auto, cpu or cuda")] = "auto",
) -> None:
    """Predict with the model of a finished run."""
    # Imported here because the help of the command line must not import torch.
    from noisybench.api.model_files import predict_files
    from noisybench.api.models import load_model
    from noisybench.cli.console import step_progress
    from noisybench.errors import UserError
    from noisybench.utils.console import make_console
    from noisybench.utils.places import check_output_file, check_output_folder, shown

    console = make_console()
    if not path.exists():
        raise UserError(f"path: {shown(path)} does not exist")
    with step_progress(console):
        model = load_model(run, retrain, _device(device))
        is_mask = model.description.outputs == "masks"
        if is_mask:
            output = check_output_folder(output or Path("masks"))
        elif output is not None:
            check_output_file(output, (".csv", ".parquet"))
        predictions = predict_files(model, path, array)
    if is_mask:
        assert output is not None
        predictions.write_masks(output)
        console.print(
            f"{counted(len(predictions.masks), 'mask')} of class indices: {output.resolve()}",
            markup=False,
            soft_wrap=True,
        )
        names = ", ".join(f"{number} {name}" for number, name in enumerate(model.class_names))
        console.print(f"Classes: {names}", markup=False, soft_wrap=True)
        return
    if output is not None:
        predictions.write_table(model.class_names, output)
        console.print(
            f"{counted(len(predictions.names), 'prediction')}: {output.resolve()}", markup=False, soft_wrap=True
        )
        return
    _print_rows(console, predictions)


def _print_rows(console: Console, predictions: FilePredictions) -> None:
    """Print the first predictions, with the probability of the predicted class."""
    rows = zip(predictions.names, predictions.predicted, strict=True)
    for row, (name, predicted) in enumerate(itertools.islice(rows, SHOWN_ROWS)):
        confidence = "" if predictions.probabilities is None else f"  ({predictions.probabilities[row].max():.3f})"
        console.print(f"{name}: {predicted}{confidence}", markup=False, soft_wrap=True)
    if (rest := len(predictions.names) - SHOWN_ROWS) > 0:
        console.print(f"... and {rest} more; write all with -o predictions.csv", markup=False)


def _device(name: str) -> Literal["auto", "cpu", "cuda"]:
    from noisybench.embedding.embed import choose_device

    return "cuda" if choose_device(name).type == "cuda" else "cpu"

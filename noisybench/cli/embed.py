"""The `noisybench embed` command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def embed(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder or file of images, or table of texts, whose dataset is found by its layout; or a recipe"
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.size=112 dataset.on_error=skip")
    ] = None,
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="Pre-trained backbone (`noisybench list backbones`)")
    ] = "efficientnet_lite0",
    network: Annotated[
        str | None,
        typer.Option(
            "--network", "-n", help="Network whose weights --backbone checkpoint:FILE holds, as in budget.network"
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=8,
            max=4096,
            help="Side in pixels of the images for the backbone, or its largest number of tokens (default: its own)",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Device that computes the features: auto, cpu or cuda")
    ] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz or .parquet file to write")] = Path(
        "features.npz"
    ),
) -> None:
    """Compute features of all images or texts with a pre-trained backbone, for dataset=features."""
    # Imported here because the help of the command line must not import torch.
    from noisybench.backbones import load_backbone
    from noisybench.cli import console as view
    from noisybench.cli.data import data_spec
    from noisybench.embedding.embed import SUFFIXES, choose_device, embed_dataset, save_features
    from noisybench.utils.console import make_console
    from noisybench.utils.places import check_output_file

    check_output_file(output, SUFFIXES)
    chosen = choose_device(device)
    encoder = load_backbone(backbone, size, network)
    source, console = data_spec(data, overrides or []).dataset.build(), make_console()
    with view.step_progress(console):
        arrays = embed_dataset(source, encoder, chosen)
        save_features(arrays, output)
    count = sum(len(arrays[name]) for name in ("train_x", "id_x") if name in arrays)
    sizes = {"images": f" at {encoder.size} pixels", "texts": f" of up to {encoder.size} tokens"}
    console.print(
        f"{count} {encoder.reads}, {arrays['train_x'].shape[1]} features of {backbone}"
        f"{sizes[encoder.reads] if encoder.size else ''}: {output.resolve()}\n"
        f"Use them with: noisybench run features dataset.path={shlex.quote(str(output))}",
        markup=False,
        soft_wrap=True,
    )

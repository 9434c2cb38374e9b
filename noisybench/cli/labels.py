"""The commands below `noisybench labels`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisybench.errors import UserError

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec

labels_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make, show, check, export and import label sets."
)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides such as noise.rate=0.2 mitigations=elr seed=0,1,2")
]
Recipe = Annotated[str, typer.Argument(help="A shipped recipe (`noisybench list recipes`) or the path of a YAML file")]


@labels_app.command(
    "make",
    epilog="Example: noisybench labels make digits noise=pair_flip noise.rate=0.3 --output labels/pair",
)
def labels_make(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("labels"),
    format: Annotated[str, typer.Option("--format", "-f", help="parquet or csv")] = "parquet",
) -> None:
    """Freeze the labels of a recipe's noise in a folder, with their manifest."""
    from noisybench.data import label_files as labels

    if format not in ("parquet", "csv"):
        raise UserError(f"--format: must be parquet or csv, but got `{format}`")
    spec = one_spec(recipe, overrides)
    dataset = spec.dataset.build().load()
    made = spec.noise.build().apply(dataset)
    labels.save(made, dataset, output, format)  # type: ignore[arg-type]
    typer.echo(describe_labels(made.manifest))
    typer.echo(f"written to {output}; use it with noise=from_file noise.path={output}")


@labels_app.command("show", epilog="Example: noisybench labels show labels/pair")
def labels_show(folder: Annotated[Path, typer.Argument(help="Folder of a label set")]) -> None:
    """Show a label set's manifest and transitions, after checking them."""
    from noisybench.data import label_files as labels

    manifest = labels.load(folder).manifest
    typer.echo(describe_labels(manifest))
    names = manifest["dataset"]["classes"]
    if "traces" in manifest["noise"]:
        return  # characters are no classes
    typer.echo("transitions (rows: clean, columns: observed):")
    for name, row in zip(names, manifest["transition_counts"], strict=True):
        typer.echo(f"  {name:>16} " + " ".join(f"{count:>5}" for count in row))


@labels_app.command("verify", epilog="Example: noisybench labels verify labels/pair digits")
def labels_verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a label set")],
    recipe: Annotated[str | None, typer.Argument(help="Also hold it against this recipe's dataset")] = None,
    overrides: Overrides = None,
) -> None:
    """Check a label set against its manifest, and against a dataset where one is named."""
    from noisybench.data import label_files as labels

    found = labels.load(folder)
    if recipe is not None:
        dataset = one_spec(recipe, overrides).dataset.build().load()
        if dataset.hash != found.manifest["dataset"]["sha256"]:
            raise UserError(
                f"{folder} was made for another dataset ({found.manifest['dataset']['sha256'][:12]}… is not {dataset.hash[:12]}…)"
            )
    typer.echo(f"{folder}: the labels match their manifest ({found.hash})")


@labels_app.command("export", epilog="Example: noisybench labels export labels/pair labels.csv")
def labels_export(
    folder: Annotated[Path, typer.Argument(help="Folder of a label set")],
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file to write; of traces a .jsonl file")],
) -> None:
    """Write a label set as one table: split, index, clean, observed; traces as JSON lines."""
    from noisybench.data import label_files as labels

    labels.load(folder)
    if (folder / labels.TRACES).exists():
        if file.suffix != ".jsonl":
            raise UserError(f"{file}: traces are exported as JSON lines; give a name that ends in .jsonl")
        shutil.copyfile(folder / labels.TRACES, file)
        typer.echo(f"traces written to {file}")
        return
    if (folder / labels.MASKS).exists():
        raise UserError(
            f"{folder} holds masks, which no table does; {folder / labels.MASKS} has them as arrays of NumPy"
        )
    tables = [folder / name for name in ("labels.parquet", "labels.csv") if (folder / name).exists()]
    table = labels.read_table(tables[0])
    if file.suffix == ".csv":
        table.to_csv(file, index=False, lineterminator="\n")
    elif file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    else:
        raise UserError(f"{file}: give a name that ends in .csv or .parquet")
    typer.echo(f"{len(table)} labels written to {file}")


@labels_app.command("import", epilog="Example: noisybench labels import my-labels.csv digits --output labels/mine")
def labels_import(
    file: Annotated[
        Path,
        typer.Argument(help="A .csv or .parquet file with a column `observed`, and `index` where not all rows"),
    ],
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write")] = Path("labels"),
) -> None:
    """Make a label set of labels of your own for a recipe's dataset."""
    labels_make(recipe, [*(overrides or []), "noise=from_file", f"noise.path={file}"], output)


def one_spec(recipe: str, overrides: list[str] | None) -> RunSpec:
    """The run of a recipe for a command that takes one.

    Raises:
        UserError: an override lists several values.
    """
    from noisybench.config.resolve import read_recipe

    specs = read_recipe(recipe, overrides or [])
    if len(specs) > 1:
        raise UserError("this command takes one value per override, not a list with commas")
    return specs[0]


def _describe_masks(manifest: dict[str, Any]) -> str:
    found, names = manifest["masks"], manifest["dataset"]["classes"]
    level = "unknown" if found["miou"] is None else f"{found['miou']:.4f}"
    bias = "" if found["area_bias"] is None else f", area of objects {found['area_bias']:+.1%}"
    classes = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(names, found["iou"], strict=True) if value is not None
    )
    severity = f", severity {manifest['noise']['severity']:.4g}" if "severity" in manifest["noise"] else ""
    return f"masks          foreground mIoU {level}{bias}{severity}\nIoU            {classes}"


def describe_labels(manifest: dict[str, Any]) -> str:
    """A label set's manifest for people."""
    noise, dataset = manifest["noise"], manifest["dataset"]
    nominal = "not stated" if noise["nominal_rate"] is None else f"{noise['nominal_rate']:.4f}"
    validation = manifest["actual_noise_rate_validation"]
    held_out = f", validation {validation:.4f}" if validation is not None else ""
    realised = "unknown" if manifest["actual_noise_rate"] is None else f"{manifest['actual_noise_rate']:.4f}{held_out}"
    states = manifest.get("label_status")
    more = []
    if states:
        more.append("examples       " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in states.items()))
    if "masks" in manifest:
        more.append(_describe_masks(manifest))
    if "traces" in noise:
        more.append(
            "traces         "
            + ", ".join(f"{name.replace('_', ' ')} {share:.4f}" for name, share in noise["traces"].items())
        )
    if "source" in noise:
        more.append(f"images from    {noise['source']['name']}, {noise['source']['sha256'][:16]}…")
    if dataset.get("skipped"):
        more.append(f"left out       {len(dataset['skipped'])} damaged images, the first: {dataset['skipped'][0]}")
    return "\n".join([
        f"label set      {manifest['sha256']}",
        f"dataset        {dataset['name']} ({dataset['sizes']['train']} training examples, {dataset['sha256'][:16]}…)",
        f"noise          {noise['name']}, seed {noise['seed']}",
        f"convention     {noise['convention']}",
        f"nominal rate   {nominal}",
        f"realised rate  {realised}",
        *more,
    ])  # fmt: skip

"""The `noisybench labels` commands."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from noisybench.cli.hints import HintingCommand
from noisybench.errors import UserError
from noisybench.utils.files import wrap_write_errors
from noisybench.utils.outputs import output_file, write_text
from noisybench.utils.places import check_file, check_output_file, check_output_folder, read_text, shown
from noisybench.utils.text import counted, printable_lines

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec
    from noisybench.data.dataset import Dataset
    from noisybench.data.label_sets.label_set import LabelSet

labels_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Create, inspect, verify, export, import and share label sets."
)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides such as noise.rate=0.2 mitigations=elr seed=0,1,2")
]
Recipe = Annotated[
    str, typer.Argument(help="Name of a shipped recipe (`noisybench list recipes`), or path of a YAML file")
]
LabelSetFolder = Annotated[Path, typer.Argument(help="Folder of a label set")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write")]

FORMATS = ("parquet", "csv")


@labels_app.command(
    "create",
    cls=HintingCommand,
    epilog="Example: noisybench labels create digits noise=pair_flip noise.rate=0.3 --output labels/pair",
)
def labels_create(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Output = Path("labels"),
    format: Annotated[
        str, typer.Option("--format", "-f", help="Format of the label table: parquet or csv")
    ] = "parquet",
) -> None:
    """Freeze the labels of a recipe in a folder, with their manifest."""
    if format not in FORMATS:
        raise UserError(f"--format: must be {' or '.join(FORMATS)}, but got `{format}`")
    spec = one_spec(recipe, overrides)
    check_output_folder(output)
    dataset = spec.dataset.build().load()
    labels = spec.noise.build().apply(dataset)
    write_label_set(labels, dataset, output, cast("Literal['parquet', 'csv']", format))


def write_label_set(
    labels: LabelSet, dataset: Dataset, output: Path, format: Literal["parquet", "csv"] = "parquet"
) -> None:
    """Freeze labels in a folder, and print their statistics.

    Raises:
        UserError: the folder cannot be written, or has another label set.
    """
    from noisybench.cli.label_text import describe_labels
    from noisybench.data.check.notes import dataset_notes
    from noisybench.data.label_sets import label_files

    with wrap_write_errors(output):
        label_files.save(labels, dataset, output, format)
    for note in (*dataset_notes(dataset), *labels.notes):
        typer.echo(f"note: {printable_lines(str(note))}")
    typer.echo(describe_labels(labels.manifest, labels.verification))
    typer.echo(f"Label set written to {output}. Use it with noise=from_file noise.path={output}")


@labels_app.command("info", epilog="Example: noisybench labels info labels/pair")
def labels_info(folder: LabelSetFolder) -> None:
    """Verify a label set, and print its manifest and transition counts."""
    from noisybench.cli.label_text import describe_check, describe_fields, describe_labels, describe_transitions
    from noisybench.data.label_sets import label_files
    from noisybench.data.label_sets.provenance import check_provenance
    from noisybench.sharing.card import describe_card
    from noisybench.sharing.transfer import read_published_card

    labels = label_files.load(folder)
    card = read_published_card(folder)
    check = check_provenance(labels)
    typer.echo(describe_labels(labels.manifest, labels.verification))
    if card is not None:
        typer.echo(describe_fields(describe_card(card)))
    if transitions := describe_transitions(labels):
        typer.echo(transitions)
    typer.echo(f"checked\n{describe_check(check)}")


@labels_app.command("verify", cls=HintingCommand, epilog="Example: noisybench labels verify labels/pair digits")
def labels_verify(
    folder: LabelSetFolder,
    recipe: Annotated[str | None, typer.Argument(help="Recipe whose dataset the label set must belong to")] = None,
    overrides: Overrides = None,
) -> None:
    """Verify every entry of a label set; with a recipe also against its dataset and by making the labels again."""
    from noisybench.cli.label_text import describe_check
    from noisybench.data.label_sets import label_files
    from noisybench.data.label_sets.provenance import check_provenance

    labels = label_files.load(folder)
    dataset = None if recipe is None else one_spec(recipe, overrides).dataset.build().load()
    try:
        check = check_provenance(labels, dataset)
    except UserError as error:
        raise UserError(*(f"{shown(folder)}: {problem}" for problem in error.problems)) from None
    typer.echo(f"{shown(folder)}: the labels match their manifest ({labels.hash})\n{describe_check(check)}")


@labels_app.command("export", cls=HintingCommand, epilog="Example: noisybench labels export labels/pair labels.csv")
def labels_export(
    folder: LabelSetFolder,
    file: Annotated[
        Path,
        typer.Argument(help="Table to write (.csv or .parquet), .jsonl file for traces and texts, or folder for masks"),
    ],
    recipe: Annotated[
        str | None,
        typer.Argument(help="Recipe of the dataset; masks get the names and sizes of its images, labels its texts"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Export a label set as a table with the columns split, index, clean, observed; traces, texts as JSON lines; masks as PNG."""
    from noisybench.data.label_sets import label_files

    # Loaded for its verification: a damaged label set is not exported.
    labels = label_files.load(folder)
    if file.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{shown(file)}: is inside of the label set, whose files stay as they are; choose another place"
        )
    if (folder / label_files.TRACES).exists():
        check_output_file(file, (".jsonl",))
        write_text(file, read_text(folder / label_files.TRACES))
        typer.echo(f"Traces written to {file}")
        return
    if (folder / label_files.MASKS).exists():
        if recipe is None:
            raise UserError(
                f"{shown(folder)} contains masks, which get the names and sizes of the images of its dataset; name its recipe: "
                f"noisybench labels export {shown(folder)} {shown(file)} {labels.manifest['dataset']['name']} …"
            )
        count = export_masks(labels, dataset_of(labels, recipe, overrides), file)
        typer.echo(
            f"{counted(count, 'mask')} written to {shown(file)}. Read them with noise=from_folder noise.path={shown(file)}"
        )
        return
    check_output_file(file, (".csv", ".parquet", ".jsonl"))
    if file.suffix.lower() == ".jsonl":
        if recipe is None:
            raise UserError(
                f"{shown(folder)} contains classes; JSON lines repeat the texts and fields of its dataset, so name its recipe: "
                f"noisybench labels export {shown(folder)} {shown(file)} RECIPE …, or write a table (.csv or .parquet)"
            )
        from noisybench.data.label_sets.labeled_texts import write_labeled_texts

        dataset = dataset_of(labels, recipe, overrides)
        with output_file(file) as target:
            count = write_labeled_texts(labels, dataset, target)
        typer.echo(f"{counted(count, 'text')} written to {file}")
        return
    table = label_files.read_stored_table(
        next(folder / name for name in label_files.TABLES if (folder / name).exists())
    )
    if labels.verification is not None:
        decided = label_files.read_stored_table(folder / label_files.VERIFIED)
        table = table.merge(decided, how="outer", on=["split", "index"], sort=False)
        table = table.astype(dict.fromkeys(("clean", "observed", "given", "verified"), "Int64"))
    with output_file(file) as target:
        if file.suffix.lower() == ".csv":
            # A fixed line end gives the same bytes on every operating system.
            table.to_csv(target, index=False, lineterminator="\n")
        else:
            table.to_parquet(target, index=False)
    typer.echo(f"{len(table)} labels written to {file}")


@labels_app.command(
    "import", cls=HintingCommand, epilog="Example: noisybench labels import my-labels.csv digits --output labels/mine"
)
def labels_import(
    file: Annotated[
        Path,
        typer.Argument(
            help="Table (.csv, .tsv or .parquet) with a column of labels, and a column `file` or `index` unless it has a row "
            "for each training example in order; or decisions about an audit"
        ),
    ],
    recipe: Recipe,
    overrides: Overrides = None,
    output: Output = Path("labels"),
) -> None:
    """Create a label set from your own labels for the dataset of a recipe."""
    check_file(file)
    # Through the noise model `from_file`, so that imported labels pass the checks of a run that reads them.
    labels_create(recipe, [*(overrides or []), "noise=from_file", f"noise.path={file}"], output)


@labels_app.command(
    "push", epilog="Example: noisybench labels push labels/pair hf://datasets/USER/digits-pair --license cc-by-4.0"
)
def labels_push(
    folder: LabelSetFolder,
    destination: Annotated[
        str, typer.Argument(help="Folder, URL such as s3://bucket/labels, or hf://datasets/USER/NAME")
    ],
    license: Annotated[
        str, typer.Option("--license", help="License of the labels by its name in SPDX, or `other` or `unknown`")
    ] = "",
    source: Annotated[str, typer.Option("--source", help="Origin of the labels, in words")] = "",
    citation: Annotated[str, typer.Option("--citation", help="Publication to cite, such as its BibTeX entry")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace another label set at the destination")] = False,
) -> None:
    """Publish a label set with a card in a folder, at a URL, or on the Hugging Face Hub."""
    from noisybench.api.label_sets import push_label_set

    sha256 = push_label_set(folder, destination, license=license, source=source, citation=citation, replace=replace)
    typer.echo(
        f"Label set {sha256} published at {destination}\n"
        f"Copy it with: noisybench labels pull {shlex.quote(str(destination))} --sha256 {sha256[:16]}"
    )


@labels_app.command(
    "pull", epilog="Example: noisybench labels pull hf://datasets/USER/digits-pair --output labels/pair"
)
def labels_pull(
    source: Annotated[
        str, typer.Argument(help="Folder, URL such as https://example.org/labels, or hf://datasets/USER/NAME")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write (default: last part of the address)")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="Hash of the expected label set, or its first 8 digits or more")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another label set in the folder")] = False,
    max_gb: Annotated[float, typer.Option("--max-gb", min=0, help="Largest size of all files, in gigabytes")] = 4.0,
) -> None:
    """Copy a published label set to this machine, and verify every file."""
    from noisybench.api.label_sets import pull_label_set
    from noisybench.cli.label_text import describe_fields, describe_labels
    from noisybench.data.label_sets.manifest import read_manifest
    from noisybench.sharing.card import describe_card
    from noisybench.sharing.transfer import read_published_card

    folder = pull_label_set(source, output, sha256=sha256, replace=replace, max_gb=max_gb)
    card = read_published_card(folder)
    assert card is not None
    typer.echo(describe_labels(read_manifest(folder)))
    typer.echo(describe_fields(describe_card(card)))
    typer.echo(f"Label set copied to {folder} and verified. Use it with noise=from_file noise.path={folder}")


def dataset_of(labels: LabelSet, recipe: str, overrides: list[str] | None) -> Dataset:
    """Return the dataset of a recipe.

    Raises:
        UserError: the label set belongs to another dataset.
    """
    dataset: Dataset = one_spec(recipe, overrides).dataset.build().load()
    if labels.manifest["dataset"]["sha256"] != dataset.hash:
        raise UserError("the label set belongs to another dataset; give the recipe and overrides that created it")
    return dataset


def export_masks(labels: LabelSet, dataset: Dataset, folder: Path) -> int:
    """Write the observed masks of a label set into an empty folder, and return their number.

    Raises:
        UserError: the folder has files.
    """
    from noisybench.data.masks.files import check_writable, write_masks

    check_writable(dataset, "labels export")
    check_output_folder(folder)
    if any(folder.iterdir()):
        raise UserError(
            f"{shown(folder)} has files already, which would be mixed with the masks; choose another folder"
        )
    try:
        with wrap_write_errors(folder):
            return write_masks(dataset, {"train": labels.train, "validation": labels.validation}, folder)
    except BaseException:
        # After a full disk or Ctrl-C, the same command can run again.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def one_spec(recipe: str, overrides: list[str] | None) -> RunSpec:
    """Return the single run of a recipe.

    Raises:
        UserError: an override lists several values.
    """
    from noisybench.config.resolve import read_recipe

    specs = read_recipe(recipe, overrides or [])
    if len(specs) > 1:
        raise UserError("this command takes one value per override, not a comma-separated list")
    return specs[0]

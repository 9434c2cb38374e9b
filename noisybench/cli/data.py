"""The `noisybench data` commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisybench.cli.hints import HintingCommand
from noisybench.utils.places import check_output_file, expand_user

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec

DEFAULT_SIZE = 64
"""Side in pixels to which images of different sizes are resized unless `dataset.size` is given."""

data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check data before anything is trained on them."
)


@data_app.command("check", cls=HintingCommand, epilog="Example: noisybench data check my-images/ -o report.html")
def data_check(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder or file, whose dataset is found by its layout or named by dataset=NAME; or a recipe"
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as dataset.size=32 dataset.group_pattern=patient[0-9]+")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file for the report with pictures")
    ] = None,
) -> None:
    """Read a dataset, and report its files, classes, splits, copies, masks and everything that was noticed."""
    # Imported here because the help of the command line must not import the readers.
    from noisybench.cli import console as view
    from noisybench.data.check.facts import check_dataset
    from noisybench.data.check.report import to_html, to_text
    from noisybench.utils.console import make_console
    from noisybench.utils.outputs import write_text

    if output is not None:
        check_output_file(output, (".html",))
    spec = data_spec(data, overrides or [])
    source, console = spec.dataset.build(), make_console()
    with view.step_progress(console):
        # Labels of a noise model are made from the dataset that it reads, which is cached by then.
        noisy = None if spec.noise.name == "clean" else spec.noise.build().apply(spec.dataset.build().load())
        report = check_dataset(source, noisy, None if _is_recipe(data) else DEFAULT_SIZE)
    for line in to_text(report):
        console.print(line, markup=False, soft_wrap=True)
    if output is not None:
        write_text(output, to_html(report, data))
        console.print(f"Report with pictures: {output.resolve()}", markup=False, soft_wrap=True)


def data_spec(data: str, overrides: list[str]) -> RunSpec:
    """Return the specification of a recipe, or of the dataset that reads a path.

    Raises:
        UserError: there is no such recipe or path, or an override is invalid.
    """
    from noisybench.cli.labels import one_spec
    from noisybench.config.overrides import expand
    from noisybench.config.registry import get_entry
    from noisybench.config.resolve import resolve
    from noisybench.data.check.detection import dataset_of
    from noisybench.errors import UserError

    path = expand_user(Path(data))
    if _is_recipe(data):
        return one_spec(data, overrides)
    said = [argument.partition("=")[2] for argument in overrides if argument.startswith(("dataset=", "dataset.name="))]
    dataset = dataset_of(path, said[-1] if said else None)
    others = [argument for argument in overrides if not argument.startswith(("dataset=", "dataset.name="))]
    task = get_entry("datasets", dataset["name"]).load_class().tasks[0]
    raw: dict[str, Any] = {"dataset": dataset, "task": task, "noise": "clean"}
    specs = [resolve(expanded) for expanded in expand(raw, others)]
    if len(specs) > 1:
        raise UserError("a check takes one value per override, not a comma-separated list")
    return specs[0]


def _is_recipe(data: str) -> bool:
    """Return True for the name of a recipe that is no path as well, and for the path of a recipe."""
    from noisybench.config.published_recipes import recipe_names

    path = expand_user(Path(data))
    return path.suffix in (".yaml", ".yml") or (data in recipe_names() and not path.exists())

"""The command `validate`."""

from __future__ import annotations

from typing import Annotated

import typer

from noisybench.cli.labels import Overrides
from noisybench.cli.run import checked_figures
from noisybench.errors import UserError, nearest, show
from noisybench.utils.text import printable_lines


def validate(
    name: Annotated[str, typer.Argument(help="Name of a built-in recipe, suite or search, or path of a YAML file")],
    overrides: Overrides = None,
) -> None:
    """Check a recipe, suite or search with its data and stacks, without training."""
    from noisybench.cli.preset_text import print_notes
    from noisybench.config.resolve import read_recipe
    from noisybench.config.suite import read_suite
    from noisybench.execution.preflight import preflight
    from noisybench.search.config import read_searches
    from noisybench.utils.console import make_console
    from noisybench.utils.processes import process_context

    kind, arguments = _kind_of(name), overrides or []

    def print_note(note: str) -> None:
        typer.echo(f"note: {printable_lines(note)}")

    if kind == "searches":
        searches = read_searches(name, arguments)
        first = [definition.first_spec() for definition in searches]
        preflight(process_context(), first, on_note=print_note, repeat_notes=True)
        typer.echo(f"{name} is valid: {len(searches)} search{'es' if len(searches) != 1 else ''}")
        return
    specs = (read_suite if kind == "suites" else read_recipe)(name, arguments)
    if kind == "suites":
        checked_figures(name, specs)
    preflight(process_context(), specs, on_note=print_note, repeat_notes=True)
    print_notes(make_console(), specs)
    typer.echo(f"{name} is valid: {len(specs)} run{'s' if len(specs) != 1 else ''}")


def _kind_of(name: str) -> str:
    """Return the kind of a configuration: ``recipes``, ``suites`` or ``searches``.

    Raises:
        UserError: no built-in configuration has the name, or the file cannot be read.
    """
    from noisybench.config.published_recipes import recipe_names
    from noisybench.config.suite import is_suite
    from noisybench.config.yaml_files import builtin_configs, is_path, load_config
    from noisybench.search.config import is_search

    if is_path(name):
        # Of a path, only the content shows the kind.
        raw = load_config("recipes", name)
        return "searches" if is_search(raw) else "suites" if is_suite(raw) else "recipes"
    names = {"recipes": recipe_names(), **{kind: list(builtin_configs(kind)) for kind in ("suites", "searches")}}
    for kind, configs in names.items():
        if name in configs:
            return kind
    known = [known for configs in names.values() for known in configs]
    raise UserError(
        f"unknown recipe, suite or search {show(name, quotes=False)}; {nearest(name, known)} (`noisybench list`, or the path "
        "of a .yaml file)"
    )

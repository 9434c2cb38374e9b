"""The commands `list`, `describe` and `inspect`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.cli.fidelity_text import describe_metric
from noisybench.cli.labels import Overrides, Recipe, one_spec
from noisybench.errors import UserError, nearest

if TYPE_CHECKING:
    from noisybench.config.registry import Entry

FIGURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg")
PAGE_SUFFIXES = (".html",)


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Kind: noise_models, mitigations, datasets, tasks, networks, backbones, "
            "metrics, recipes, suites or searches"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List available names with a one-line summary each."""
    from noisybench.api import catalog

    summaries = {name: catalog.list_names(name) for name in ([kind] if kind else catalog.ALL_KINDS)}
    if as_json:
        typer.echo(json.dumps(summaries, indent=2))
        return
    for kind_name, lines in summaries.items():
        typer.echo(kind_name)
        width = max((len(name) for name in lines), default=0)
        for name, summary in lines.items():
            typer.echo(f"  {name:<{width}}  {summary}")
        typer.echo("")


def describe(name: Annotated[str, typer.Argument(help="Name, as listed by `noisybench list`")]) -> None:
    """Show the documentation, the parameters and the source file of a name."""
    from noisybench.api.catalog import CONFIG_KINDS
    from noisybench.cli.preset_text import describe_published_recipe
    from noisybench.config.published_recipes import published_recipes
    from noisybench.config.registry import KINDS, list_entries
    from noisybench.config.yaml_files import builtin_configs
    from noisybench.evaluation.catalog import METRICS

    entries = [list_entries(kind)[name] for kind in KINDS if name in list_entries(kind)]
    configs = [(kind, builtin_configs(kind)[name]) for kind in CONFIG_KINDS if name in builtin_configs(kind)]
    published, metric = published_recipes().get(name), METRICS.get(name)
    if not entries and not configs and not published and not metric:
        known = {
            *(n for kind in KINDS for n in list_entries(kind)),
            *(n for k in CONFIG_KINDS for n in builtin_configs(k)),
            *published_recipes(),
            *METRICS,
        }
        raise UserError(f"unknown name `{name}`; {nearest(name, known)} (`noisybench list`)")
    for entry in entries:
        _describe_entry(entry)
    if metric:
        typer.echo(describe_metric(name, metric))
    if published:
        specification = json.dumps(published.specification(), indent=2)
        typer.echo(f"{name} (recipe)\n\n{describe_published_recipe(published)}\n\n{specification}\n")
    for kind, path in configs:
        singular = "search" if kind == "searches" else kind.removesuffix("s")
        # The text of the file, because its comments contain the command, the expected result and the paper.
        typer.echo(f"{name} ({singular}): {path}\n\n{path.read_text(encoding='utf-8')}")


def fidelity(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file to write")] = None,
) -> None:
    """Print how true every mitigation, noise model and metric is to its reference, as Markdown."""
    from noisybench.cli.fidelity_page import fidelity_page
    from noisybench.utils.outputs import write_text

    text = fidelity_page()
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text(output, text)
        typer.echo(f"written to {output}")


def inspect(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for the figure or page")] = None,
) -> None:
    """Plot the effect of a noise model: transition matrix, rates, class counts and examples, or a page of traces."""
    from noisybench.cli.label_text import describe_labels
    from noisybench.plots.label_sets import plot_label_set
    from noisybench.plots.traces import render_trace_page
    from noisybench.utils.outputs import output_file, write_text
    from noisybench.utils.places import check_output_file

    spec = one_spec(recipe, overrides)
    source = spec.dataset.build()
    is_page = "chain_of_thought" in source.tasks
    stem = f"{spec.dataset.name}-{spec.noise.name}"
    path = output or Path(f"{stem}.html" if is_page else f"{stem}.png")
    check_output_file(path, PAGE_SUFFIXES if is_page else FIGURE_SUFFIXES)
    dataset = source.load()
    labels = spec.noise.build().apply(dataset)
    if is_page:
        write_text(path, render_trace_page(dataset, labels, stem))
    else:
        with output_file(path) as file:
            plot_label_set(dataset, labels, file)
    typer.echo(describe_labels(labels.manifest))
    typer.echo(f"written to {path}")


def _describe_entry(entry: Entry) -> None:
    from noisybench.cli.card_text import describe_card, describe_parameters
    from noisybench.config.component_card import CARD_KINDS, component_card, parameter_texts

    typer.echo(f"{entry.name} ({entry.kind.replace('_', ' ').removesuffix('s')})\n\n{entry.documentation}\n")
    is_card = entry.kind in CARD_KINDS
    text = describe_card(component_card(entry)) if is_card else describe_parameters(parameter_texts(entry.schema))
    typer.echo(textwrap.indent(text, "  ") + f"\n\n  file: {entry.source}\n")

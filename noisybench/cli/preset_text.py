"""Text of published settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from noisybench.config.papers import with_titles
from noisybench.config.preset_conditions import describe_condition
from noisybench.config.presets import Presets, format_settings

if TYPE_CHECKING:
    from rich.console import Console

    from noisybench.config.published_recipes import PublishedRecipe
    from noisybench.config.spec import RunSpec


def describe_presets(presets: Presets) -> str:
    """Return the published settings of a mitigation as lines of text.

    Example:
        >>> from noisybench.config.presets import load_presets
        >>> print(describe_presets(load_presets("elr")))  # doctest: +ELLIPSIS
        published settings: Liu et al. 2020, ...
        defaults: those of cifar10-symmetric
          preset=cifar10-symmetric    cifar10, symmetric_inclusive or symmetric_exclusive
            settings: beta=0.7, reg_weight=3
            budget: network=resnet34_cifar_stem, ...
    """
    origin = f"those of {presets.defaults}" if presets.defaults else "those of no row"
    lines = [f"published settings: {with_titles(presets.paper)}", f"defaults: {origin}"]
    for name, row in presets.rows.items():
        lines += [
            f"  preset={name}    {describe_condition(row)}",
            f"    settings: {format_settings(row.settings) or 'none'}",
            f"    budget: {format_settings(row.budget) or 'not stated'}",
            f"    source: {row.source}",
        ]
        lines += [f"    deviation: {deviation}" for deviation in row.deviations]
    return "\n".join(lines)


def print_published(name: str, overrides: Iterable[str] = ()) -> None:
    """Print published result and deviations of a recipe, if it is that of a published result.

    Args:
        name: name of the recipe.
        overrides: overrides on the command line; all but seeds and execution may change the result.
    """
    from noisybench.config.published_recipes import published_recipes

    if recipe := published_recipes().get(name):
        changed = [each for each in overrides if each.partition("=")[0].partition(".")[0] not in ("seed", "execution")]
        typer.echo(describe_published_recipe(recipe, changed))


def print_notes(console: Console, specs: Iterable[RunSpec]) -> None:
    """Print what the user should know about the settings of runs, each line once."""
    for note in dict.fromkeys(note for spec in specs for note in spec.notes):
        console.print(Text(f"Note: {note}.", style="yellow"))


def describe_published_recipe(recipe: PublishedRecipe, overrides: Sequence[str] = ()) -> str:
    """Return command, published result and known deviations of a recipe as lines of text.

    Args:
        recipe: recipe.
        overrides: settings that the user has changed, which are deviations too.

    Example:
        >>> from noisybench.config.published_recipes import published_recipes
        >>> print(describe_published_recipe(published_recipes()["paper:elr-cifar10-sym40"]))
        run:     noisybench run paper:elr-cifar10-sym40 seed=0,1,2
        expect:  91.43 +- 0.21 % (Liu et al. 2020, table 1, ELR with cosine annealing; epoch: unstated)
        source:  https://github.com/shengliu66/ELR @ 934af53, ELR/config_cifar10.json
        differs: nothing in the settings that is known; `noisybench describe elr` lists deviations of the method itself
    """
    lines = [
        f"run:     noisybench run {recipe.name} seed=0,1,2",
        f"expect:  {recipe.result}",
        f"source:  {recipe.row.source}",
    ]
    lines += [f"differs: {override}, set on the command line" for override in overrides]
    lines += [f"differs: {deviation}" for deviation in recipe.row.deviations]
    if not recipe.row.deviations and not overrides:
        lines.append(
            f"differs: nothing in the settings that is known; `noisybench describe {recipe.mitigation}` lists deviations of "
            "the method itself"
        )
    return "\n".join(lines)

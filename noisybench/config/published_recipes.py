"""Recipes of published results: one for each result in `configs/presets`, and the names of all recipes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from noisybench.config.presets import Expected, Row, load_presets, mitigations_with_presets
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.errors import UserError, nearest, show

PREFIX = "paper:"
"""Beginning of the names of these recipes."""

SHORT_NOISE = {
    "symmetric_inclusive": "sym", "symmetric_exclusive": "sym", "asymmetric": "asym", "asymmetric_index_block5": "asym",
    "asymmetric_superclass_uniform": "asym", "pair_flip": "pair", "real_world": "",
}  # fmt: skip
"""Noise models as the names of recipes call them."""


@dataclass(frozen=True)
class PublishedRecipe:
    """Recipe of one published result.

    Attributes:
        mitigation: name of the mitigation.
        preset: name of its row.
        row: the row.
        expected: the published result.
    """

    mitigation: str
    preset: str
    row: Row
    expected: Expected

    @property
    def name(self) -> str:
        """Name such as `paper:elr-cifar10-sym40`."""
        noise, rate = self.expected.noise_component, self.expected.rate
        short = SHORT_NOISE.get(noise["name"], noise["name"]) + ("" if rate is None else f"{100 * rate:g}")
        ending = self.expected.name or "-".join(part for part in (self.dataset["name"], short) if part)
        return f"{PREFIX}{self.mitigation}-{ending}"

    @property
    def dataset(self) -> dict[str, Any]:
        """Dataset with its parameters."""
        named = {"name": self.row.when.dataset} if self.row.when.dataset else {}
        return {**named, **self.row.dataset, **self.expected.dataset}

    @property
    def result(self) -> str:
        """Published result with its origin, in one line."""
        table = f" ({self.row.table}; epoch: {self.row.protocol})" if self.row.table else ""
        if self.expected.value is None:
            return "no published result is known for these settings"
        deviation = "" if self.expected.deviation is None else f" +- {self.expected.deviation:g}"
        return f"{self.expected.value:g}{deviation} %{table}"

    def specification(self) -> dict[str, Any]:
        """Return the recipe, as if it was read from a file."""
        before = [self.row.stack] if self.row.stack else []
        return {
            "description": f"{self.mitigation} as published ({self.preset}): {self.result}",
            "task": self.row.task,
            "dataset": self.dataset,
            "noise": self.expected.noise_component,
            "mitigations": [*before, {"name": self.mitigation, "preset": self.preset}],
            "budget": dict(self.row.budget),
            "seed": 0,
        }


@functools.cache
def published_recipes() -> dict[str, PublishedRecipe]:
    """Return the recipes of all published results by name.

    Raises:
        UserError: a file of published settings is invalid, or two recipes have the same name.

    Example:
        >>> published_recipes()["paper:elr-cifar10-sym40"].result
        '91.43 +- 0.21 % (Liu et al. 2020, table 1, ELR with cosine annealing; epoch: unstated)'
    """
    recipes: dict[str, PublishedRecipe] = {}
    for mitigation in mitigations_with_presets():
        presets = load_presets(mitigation)
        for preset, row in presets.rows.items() if presets else ():
            for expected in row.expect:
                recipe = PublishedRecipe(mitigation, preset, row, expected)
                if recipe.name in recipes:
                    raise UserError(
                        f"configs/presets/{mitigation}.yaml: two results have the name {recipe.name}; set `name`"
                    )
                recipes[recipe.name] = recipe
    return recipes


def load_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by the name of a built-in one or of a published result, or by its path.

    Raises:
        UserError: the name or file does not exist, or the file is not a YAML mapping.

    Example:
        >>> load_recipe("paper:elr-cifar10-sym40")["noise"]
        {'name': 'symmetric_inclusive', 'rate': 0.4}
        >>> load_recipe("digits")["dataset"]
        'digits'
    """
    if not name.startswith(PREFIX):
        return load_config("recipes", name)
    recipes = published_recipes()
    if name not in recipes:
        raise UserError(
            f"unknown recipe {show(name, quotes=False)}; {nearest(name, recipes)} (`noisybench list recipes`)"
        )
    return recipes[name].specification()


def recipe_names() -> list[str]:
    """Return the names of all recipes: the built-in ones, then those of published results.

    Example:
        >>> names = recipe_names()
        >>> "digits" in names, "paper:elr-cifar10-sym40" in names
        (True, True)
    """
    return [*sorted(builtin_configs("recipes")), *sorted(published_recipes())]

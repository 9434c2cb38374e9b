"""The page of built-in suites, recipes and searches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from noisybench.config.published_recipes import published_recipes
from noisybench.config.suite import AXES
from noisybench.config.yaml_files import builtin_configs, load_config

from .pages import Page
from .text import code, command, prose, table

VERBS = {"suites": "bench", "recipes": "run", "searches": "search"}


def pages() -> Iterator[Page]:
    """Yield the page of configurations: description, command, size and the file itself."""
    parts = [
        "# Suites, recipes and searches",
        "For everyone who starts from a tested configuration: what it measures, and the command. The header of each file has "
        "the expected numbers. [Recipes, suites and overrides](../configuration.md) describes the format.",
        command("noisybench bench quickstart --dry-run"),
    ]
    for kind, verb in VERBS.items():
        parts.append(f"## {kind.capitalize()}")
        for name, path in builtin_configs(kind).items():
            description = " ".join(str(load_config(kind, name).get("description", "")).split())
            text = path.read_text(encoding="utf-8")
            parts += [f"### {name}", prose(description), command(_command(text) or f"noisybench {verb} {name}")]
            if kind == "suites":
                parts.append(_axes(name))
            parts.append(f'??? note "{path.name}"\n\n    ```yaml\n' + _indented(text) + "\n    ```")
    parts += [
        "## Recipes of published results",
        "One recipe for each published result; see [published settings](../concepts.md#published-settings).",
        table(
            ["Recipe", "Mitigation", "Published result"],
            [
                (
                    code(recipe.name),
                    f"[`{recipe.mitigation}`](mitigations/{recipe.mitigation}.md)",
                    prose(recipe.result),
                )
                for recipe in published_recipes().values()
            ],
        ),
    ]
    yield Page("reference/suites.md", "Suites, recipes, searches", "\n\n".join(parts) + "\n")


def _command(text: str) -> str:
    match = re.search(r"^# run: +(.*)", text, re.M)
    return re.split(" {3,}", match[1])[0] if match else ""


def _axes(name: str) -> str:
    """Return the axes of a suite with their values, whose product is the number of its runs."""
    config = load_config("suites", name)
    axes = {axis: config[axis] for axis in AXES if config.get(axis)}
    rows = [
        (code(axis), len(values), ", ".join(code(_short(value)) for value in values)) for axis, values in axes.items()
    ]
    return f"{math.prod(map(len, axes.values()))} runs:\n\n" + table(["Axis", "Length", "Values"], rows)


def _short(value: Any) -> str:
    """Return a value of an axis as on the command line.

    >>> _short([{"name": "gce", "q": 0.5}, "elr"])
    'gce(q=0.5)+elr'
    """
    if isinstance(value, list):
        return "+".join(map(_short, value))
    if isinstance(value, dict) and "name" in value:
        settings = ", ".join(f"{key}={setting}" for key, setting in value.items() if key != "name")
        return f"{value['name']}({settings})" if settings else str(value["name"])
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(setting)}" for key, setting in value.items())
    return str(value)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip().splitlines())

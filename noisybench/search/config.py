"""Searches from configuration files and command-line overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.suite import read_suite
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.errors import UserError, nearest
from noisybench.search.definition import SETTINGS, Search, declared_parameters, make_search

FIELDS = ("description", "base", "suite", "space", *SETTINGS)
"""Fields of a search file."""


def read_searches(name: str, overrides: Sequence[str] = ()) -> list[Search]:
    """Return the searches of a configuration: one for a search or recipe, one per stack and setting for a suite.

    Args:
        name: a built-in search, recipe or suite, or the path of a search file. For a recipe or suite, all declared ranges
            are searched.
        overrides: overrides of the base specification, and of fields of the search such as ``trials=50`` or
            ``space.elr.beta=[0.5,0.9]``.

    Raises:
        UserError: every problem of the configuration.

    Examples:
        >>> (search,) = read_searches("digits-elr", ["trials=5"])
        >>> search.name, search.trials, sorted(search.space)
        ('digits-elr elr', 5, ['elr.beta', 'elr.reg_weight'])
    """
    raw = _load(name)
    unknown = [key for key in raw if key not in FIELDS]
    if unknown:
        raise UserError(*(f"{name}: unknown field `{key}`; {nearest(key, FIELDS)}" for key in unknown))
    if ("base" in raw) == ("suite" in raw):
        raise UserError(
            f"{name}: a search needs either `base` (the specification of a run) or `suite` (the name of a suite)"
        )
    space, settings = dict(raw.get("space") or {}), {key: raw[key] for key in SETTINGS if key in raw}
    base_overrides = []
    for argument in overrides:
        # One at a time, because those of the base are passed on as text.
        ((path, values),) = parse_overrides([argument])
        if path[0] == "space":
            space[".".join(path[1:])] = values[0]
        elif path[0] in SETTINGS and len(path) == 1:
            settings[path[0]] = values if len(values) > 1 else values[0]
        else:
            base_overrides.append(argument)
    stem = Path(name).stem
    if "suite" in raw:
        return _searches_of_suite(stem, raw["suite"], base_overrides, space, settings)
    base = dict(raw["base"] or {})
    # Fields of the search file take precedence over those of its recipe.
    base = {**(load_config("recipes", base.pop("recipe")) if "recipe" in base else {}), **base}
    base.pop("description", None)
    for path, values in parse_overrides(base_overrides):
        if len(values) > 1:
            raise UserError(
                f"{'.'.join(path)}: a search has one setting and one stack; give one value, or search a suite"
            )
        base = override(base, path, values[0])
    search = make_search(f"{stem} {resolve(base).stack}", base, space, settings)
    if not search.space:
        raise UserError(
            f"space: {search.stack} has no parameter with a declared range; give one, e.g. space.NAME.PARAMETER=[0,1]"
        )
    return [search]


def _load(name: str) -> dict[str, Any]:
    """Return the raw fields of a search file, or of a search over a recipe or suite."""
    if name in builtin_configs("searches") or name.endswith((".yaml", ".yml")):
        return load_config("searches", name)
    if name in builtin_configs("recipes"):
        return {"base": {"recipe": name}}
    if name in builtin_configs("suites"):
        return {"suite": name}
    known = {*builtin_configs("searches"), *builtin_configs("recipes"), *builtin_configs("suites")}
    raise UserError(
        f"unknown search `{name}`; {nearest(name, known)} (expected a search, recipe or suite, or the path of a .yaml file)"
    )


def _searches_of_suite(
    stem: str, suite: str, overrides: Sequence[str], space: dict[str, Any], settings: dict[str, Any]
) -> list[Search]:
    """Return one search per setting and stack, each with those of the given ranges that its stack has."""
    stacks_by_setting: dict[str, dict[str, RunSpec]] = {}
    for spec in read_suite(suite, overrides):
        title = " · ".join(label for label in (spec.task_label, spec.dataset_label, spec.noise.display_name()) if label)
        # A suite lists a stack once for each seed, but a search has seeds of its own.
        stacks_by_setting.setdefault(title, {}).setdefault(spec.stack, spec)
    specs = [spec for stacks in stacks_by_setting.values() for spec in stacks.values()]
    # A range may apply to some stacks only; it is a mistake if no stack has the parameter.
    known = {name for spec in specs for name in declared_parameters(spec)}
    unknown = [name for name in space if name not in known]
    if unknown:
        raise UserError(
            *(f"space.{name}: unknown parameter of the stacks of {suite}; {nearest(name, known)}" for name in unknown)
        )
    searches, problems = [], dict[str, None]()
    for title, stacks in stacks_by_setting.items():
        for stack, spec in stacks.items():
            ranges = {name: value for name, value in space.items() if name in declared_parameters(spec)}
            base = {key: value for key, value in spec.as_dict().items() if key != "seed"}
            name = f"{stem} {stack}" if len(stacks_by_setting) == 1 else f"{stem} {title} {stack}"
            try:
                searches.append(make_search(name, base, ranges, settings))
            except UserError as error:
                # The same mistake usually concerns every stack; a dictionary keeps each problem once, in order.
                problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(*problems)
    return searches

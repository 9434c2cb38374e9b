"""Searches from configuration files and command-line overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisybench.config.overrides import Override, override, parse_overrides
from noisybench.config.published_recipes import PREFIX, recipe_names
from noisybench.config.resolve import resolve, unknown_field
from noisybench.config.spec import RunSpec
from noisybench.config.suite import AXES, BASE_FIELDS, compose_base, read_suite, without_nulls
from noisybench.config.validation import refuse
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.errors import UserError, nearest, show
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
    raw = without_nulls(_load(name))
    refuse(
        f"{name}: unknown field {show(key, quotes=False)}; {nearest(key, FIELDS)}" for key in raw if key not in FIELDS
    )
    if ("base" in raw) == ("suite" in raw):
        raise UserError(
            f"{name}: a search needs either `base` (the specification of a run) or `suite` (the name of a suite)"
        )
    space = raw.get("space", {})
    if not isinstance(space, Mapping):
        raise UserError(f"space: expected ranges such as {{elr.beta: [0.5, 0.9]}}, but got {show(space)}")
    space, base_overrides = dict(space), list[Override]()
    known = ("space", *SETTINGS, *BASE_FIELDS, *(AXES if "suite" in raw else ()))
    for change in parse_overrides(overrides):
        field = change.path[0]
        if field not in known:
            raise UserError(f"{change.key}: {unknown_field(field, known)}")
        if field == "space" and len(change.path) > 1:
            space[".".join(change.path[1:])] = change.value({}, "give one range in brackets, e.g. [0.5,0.9]")
        elif field in SETTINGS and len(change.path) == 1:
            values = change.values({})
            raw[field] = values if len(values) > 1 else values[0]
        elif field in BASE_FIELDS or field in AXES:
            base_overrides.append(change)
        else:
            raise UserError(f"{change.key}: expected {'space.MITIGATION.PARAMETER' if field == 'space' else field}")
    settings = {key: raw[key] for key in SETTINGS if key in raw}
    stem = Path(name).stem
    if "suite" in raw:
        if not isinstance(raw["suite"], str):
            raise UserError(f"suite: expected the name of a suite, but got {show(raw['suite'])}")
        arguments = [f"{change.key}={change.text}" for change in base_overrides]
        return _searches_of_suite(stem, raw["suite"], arguments, space, settings)
    base = compose_base(raw["base"])
    for change in base_overrides:
        reason = "a search has one setting and one stack; give one value, or search a suite"
        base = override(base, change.path, change.value(base, reason))
    search = make_search(f"{stem} {resolve(base).stack}", base, space, settings)
    if not search.space:
        raise UserError(
            f"space: {search.stack} has no parameter with a declared range; give one, e.g. space.NAME.PARAMETER=[0,1]"
        )
    return [search]


def is_search(raw: Mapping[str, Any]) -> bool:
    """Return True if a configuration is a search, False if it is a suite or recipe.

    Example:
        >>> is_search({"base": {"recipe": "digits"}, "trials": 5}), is_search({"base": {"recipe": "digits"}, "seeds": [0]})
        (True, False)
    """
    return bool(({"suite", "space", *SETTINGS} - {"seeds"}) & {*raw})  # `seeds` is a field of suites, too


def _load(name: str) -> dict[str, Any]:
    """Return the raw fields of a search file, or of a search over a recipe or suite."""
    if name in builtin_configs("searches") or name.endswith((".yaml", ".yml")):
        return load_config("searches", name)
    if name in builtin_configs("recipes") or name.startswith(PREFIX):
        return {"base": {"recipe": name}}
    if name in builtin_configs("suites"):
        return {"suite": name}
    known = {*builtin_configs("searches"), *recipe_names(), *builtin_configs("suites")}
    raise UserError(
        f"unknown search {show(name, quotes=False)}; {nearest(name, known)} "
        "(expected a search, recipe or suite, or the path of a .yaml file)"
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
    refuse(f"space.{name}: unknown parameter of the stacks of {suite}; {nearest(name, known)}" for name in unknown)
    searches, problems = [], list[str]()
    for title, stacks in stacks_by_setting.items():
        for stack, spec in stacks.items():
            ranges = {name: value for name, value in space.items() if name in declared_parameters(spec)}
            base = {key: value for key, value in spec.as_dict().items() if key != "seed"}
            name = f"{stem} {stack}" if len(stacks_by_setting) == 1 else f"{stem} {title} {stack}"
            try:
                searches.append(make_search(name, base, ranges, settings))
            except UserError as error:
                problems += error.problems  # the same mistake usually concerns every stack
    refuse(problems)
    return searches

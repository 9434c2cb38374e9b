"""Suites: settings x stacks x seeds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noisybench.config.noise_seeds import with_noise_seeds
from noisybench.config.overrides import Override, override, parse_overrides
from noisybench.config.published_recipes import load_recipe
from noisybench.config.resolve import resolve, unknown_field
from noisybench.config.scalars import is_null
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.config.suite_fields import Figure, SeededStack, Setting, Suite
from noisybench.config.validation import check_model, refuse
from noisybench.config.yaml_files import load_config
from noisybench.errors import UserError, show
from noisybench.utils.digests import snapshot

AXES = ("settings", "datasets", "noise", "noise_seeds", "stacks", "seeds")
"""Fields of a suite whose lists span its runs."""

BASE_FIELDS = ("task", "dataset", "noise", "mitigations", "budget", "seed", "execution")
"""Fields of the base that overrides can change."""

EXAMPLES = {
    "settings": '"settings=[{dataset: digits, noise: clean}]"',
    "datasets": "datasets=[digits]",
    "noise": "noise=[clean,pair_flip]",
    "noise_seeds": "noise_seeds=[0,1,2]",
    "stacks": "stacks=[elr,mixup+gce]",
    "seeds": "seeds=[0,1,2]",
}
"""Override of each axis."""


def shard(specs: Sequence[RunSpec], selector: str | None) -> list[RunSpec]:
    """Return every n-th run, for n machines that share a store.

    Args:
        specs: all runs.
        selector: shard and number of shards, e.g. ``3/16``; None selects all runs.

    Raises:
        UserError: the selector is malformed or out of range.

    Example:
        >>> shard(["a", "b", "c", "d", "e"], "2/3")
        ['b', 'e']
    """
    if selector is None:
        return list(specs)
    number, slash, count = selector.partition("/")
    if not (slash and _is_small(number) and _is_small(count) and 1 <= int(number) <= int(count)):
        raise UserError(
            f"--shard: expected a shard such as 3/16, from 1/16 to 16/16, but got {show(selector, quotes=False)}"
        )
    # Consecutive runs share a setting and hence its cost, so blocks would be less balanced than every n-th run.
    return list(specs[int(number) - 1 :: int(count)])


def _is_small(text: str) -> bool:
    # Python refuses to convert thousands of digits.
    return text.isdecimal() and len(text) < 10


def read_suite(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """Return the runs of a suite, seeds outermost, so that an interrupted suite has comparable runs of all stacks.

    Args:
        name: name of a built-in suite, or path of a YAML file.
        overrides: fields of the suite such as ``seeds=[0,1]``, or of its base such as ``budget.epochs=5``.

    Raises:
        UserError: all problems of the suite at once.

    Example:
        >>> runs = read_suite("quickstart", ["seeds=[0,1]", "stacks=[elr,gce]"])
        >>> len(runs), runs[0].stack, runs[1].stack
        (12, 'elr', 'gce')
    """
    raw = without_nulls(load_config("suites", name))
    base = compose_base(raw.get("base", {}))
    has_own_seeds = True
    # Axes first: they decide which overrides of the base would have no effect.
    for change in sorted(parse_overrides(overrides), key=lambda item: item.path[0] not in AXES):
        axis = _axis_of(raw, change.path)
        if change.path[0] not in (*AXES, *BASE_FIELDS):
            raise UserError(f"{change.key}: {unknown_field(change.path[0], (*AXES, *BASE_FIELDS))}")
        if axis is None:
            reason = f"all runs of a suite share one value; only {', '.join(AXES)} take several values"
            base = override(base, change.path, change.value(base, reason))
        elif change.path == (axis,):
            values = change.values(base)
            if axis == "stacks" and isinstance(raw.get("settings"), list):
                raw["settings"] = [without_stacks(item) for item in raw["settings"]]
            has_own_seeds = has_own_seeds and axis != "seeds"
            # `seeds=0,1` and `seeds=[0,1]` have the same meaning.
            raw[axis] = values if len(values) > 1 else values[0]
        else:
            raise UserError(_ignored(change, axis))
    suite = _check(raw, name)
    seeds = [base.get("seed", 0)] if suite.seeds is None else suite.seeds
    settings = with_noise_seeds(
        ({"noise": base.get("noise", "clean"), **setting} for setting in _settings(suite, base)),
        suite.noise_seeds or [],
    )
    stacks = [base.get("mitigations")] if suite.stacks is None else _seeded(suite.stacks, "stacks")
    runs = [
        (setting, *((stack.stack, stack.seeds) if isinstance(stack, SeededStack) else (stack, seeds)))
        for setting in settings
        for stack in setting.get("stacks", stacks)
    ]
    if not has_own_seeds:
        runs = [(setting, stack, seeds) for setting, stack, _ in runs]
    with snapshot():  # all runs of one command see the same data
        specs = _resolve_all(
            {**base, "seed": seed, **without_stacks(setting), "mitigations": stack}
            for seed in dict.fromkeys([*seeds, *itertools.chain.from_iterable(own for *_, own in runs)])
            for setting, stack, own in runs
            if seed in own
        )
    # A path is named by its file, as the figures and searches of a suite are.
    return [dataclasses.replace(spec, suite=Path(name).stem) for spec in unique_specs(specs)]


def without_nulls(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value: a key without one, such as ``figures:``, counts as missing.

    Example:
        >>> without_nulls({"figures": None, "seeds": [0]})
        {'seeds': [0]}
    """
    return {key: value for key, value in raw.items() if not is_null(value)}


def without_stacks(setting: Any) -> Any:
    """Return a setting without its own stacks; anything but a mapping stays, and is refused later.

    Example:
        >>> without_stacks({"noise": "clean", "stacks": ["elr"]})
        {'noise': 'clean'}
    """
    return (
        {key: value for key, value in setting.items() if key != "stacks"} if isinstance(setting, Mapping) else setting
    )


def _seeded(stacks: Sequence[Any], location: str) -> list[Any]:
    """Return stacks, and those with seeds of their own as `SeededStack`.

    Raises:
        UserError: an item with seeds has other fields or invalid seeds.
    """
    problems, items = list[str](), list[Any]()
    for number, item in enumerate(stacks):
        if isinstance(item, Mapping) and "stack" in item:
            items.append(check_model(SeededStack, item, f"{location}.{number}", problems))
        elif isinstance(item, Mapping) and "seeds" in item:
            problems.append(
                f"{location}.{number}.seeds: seeds stand beside a stack; write {{stack: {{...}}, seeds: [0, 1]}}"
            )
        else:
            items.append(item)
    refuse(problems)
    return items


def _check(raw: dict[str, Any], name: str) -> Suite:
    """Return the checked fields of a suite.

    Raises:
        UserError: a field is unknown or has a wrong type, or an axis is empty.
    """
    # A single value is an axis of one item.
    fields = {key: value if key not in AXES or isinstance(value, list) else [value] for key, value in raw.items()}
    problems = [f"{axis}: the list is empty; give at least one value" for axis in AXES if fields.get(axis) == []]
    suite = check_model(Suite, fields, "", problems)
    if suite is None or problems:
        raise UserError(
            *(f"{name}: {problem}" if problem.startswith("unknown field") else problem for problem in problems)
        )
    return suite


def _axis_of(raw: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """Return the axis that an override names, or that decides the field it names; None if the base decides."""
    field, settings = path[0], raw.get("settings")
    listed = settings if isinstance(settings, list) else [settings]
    if field in ("task", "dataset", "noise") and any(isinstance(item, Mapping) and field in item for item in listed):
        return "settings"
    # `noise` is the name of an axis and of a field of the base: its parameters belong to the base unless it is listed.
    if field in AXES and (field != "noise" or (len(path) == 1 and settings is None)):
        return field
    if path[:2] == ("noise", "seed") and "noise_seeds" in raw:
        return "noise_seeds"
    axis = {"seed": "seeds", "mitigations": "stacks", "dataset": "datasets", "noise": "noise"}.get(field)
    given = [fields.get("stacks") for fields in (raw, *listed) if isinstance(fields, Mapping)]
    stacks = itertools.chain.from_iterable(each if isinstance(each, list) else [each] for each in given)
    has_own_seeds = any(isinstance(stack, Mapping) and "seeds" in stack for stack in stacks)
    return axis if axis in raw or (axis == "seeds" and has_own_seeds) else None


def _is_plain_list(text: str) -> bool:
    """Return True for the text of one list.

    >>> [_is_plain_list(text) for text in ("[0, 1]", "0,1", "[0],[1]")]
    [True, False, False]
    """
    return text[:1] == "[" and text[-1:] == "]" and text.count("[") == 1


def _ignored(change: Override, axis: str) -> str:
    """Return the message for an override that an axis of the suite would hide."""
    field, parameter = change.path[0], change.path[-1]
    if field == axis and axis != "noise":
        return f"{change.key}: replace the whole list of the suite, e.g. {EXAMPLES[axis]}"
    example = EXAMPLES[axis]
    if axis == "noise_seeds" or (len(change.path) == 1 and axis != "settings"):
        text = change.text.removeprefix("[").removesuffix("]") if _is_plain_list(change.text) else change.text
        example = f"{axis}=[{text}]"
    elif axis != "settings" and len(change.path) == (3 if axis == "stacks" else 2):
        name = change.path[1] if axis == "stacks" else "NAME"
        example = f'"{axis}=[{{name: {name}, {parameter}: {change.text}}}]"'
    return f"{change.key}: the suite lists its {axis}, so this override would have no effect; write {example}"


def is_suite(raw: dict[str, Any]) -> bool:
    """Return True if a configuration is a suite, False if it is a recipe.

    Example:
        >>> is_suite({"stacks": ["elr", "gce"]}), is_suite({"noise": "clean", "mitigations": "elr"})
        (True, False)
    """
    return bool({"base", *AXES} & {*raw} - {"noise"})  # `noise` is a field of both


def read_figures(name: str) -> list[Figure]:
    """Return the figures of a suite.

    Raises:
        UserError: a figure has unknown fields or values of a wrong type, or two figures have the same title.
    """
    raw, problems, figures = without_nulls(load_config("suites", name)).get("figures", []), list[str](), list[Figure]()
    for number, item in enumerate(raw if isinstance(raw, list) else [raw]):
        if figure := check_model(Figure, item, f"figures.{number}", problems):
            figures.append(figure)
    refuse(problems)
    return figures


def read_metric(name: str) -> str:
    """Return the metric by which the stacks of a suite are ranked.

    Example:
        >>> read_metric("quickstart")
        'default'
    """
    return _check(without_nulls(load_config("suites", name)), name).metric


def unique_specs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return the runs without repetitions, in order."""
    # Items that differ in a suite may be equal once defaults are filled in, such as a parameter given at its default.
    return list({spec.identity: spec for spec in specs}.values())


def _settings(suite: Suite, base: dict[str, Any]) -> list[dict[str, Any]]:
    """Return task, dataset and noise of each setting: as listed, or the product of the axes of datasets and noise."""
    if suite.settings is None:
        datasets = [base.get("dataset", "digits")] if suite.datasets is None else suite.datasets
        noise_models = [base.get("noise", "clean")] if suite.noise is None else suite.noise
        return [{"dataset": dataset, "noise": noise} for dataset, noise in itertools.product(datasets, noise_models)]
    if suite.datasets is not None or suite.noise is not None:
        raise UserError("settings: a suite that lists settings excludes the axes `datasets` and `noise`")
    problems = list[str]()
    for number, item in enumerate(suite.settings):
        check_model(Setting, item, f"settings.{number}", problems)
    refuse(problems)
    settings = [without_nulls(setting) for setting in suite.settings]
    for number, setting in enumerate(settings):
        if "stacks" in setting:
            setting["stacks"] = _seeded(setting["stacks"], f"settings.{number}.stacks")
    return settings


def compose_base(raw: Any) -> dict[str, Any]:
    """Return the specification that all runs start from; its fields are merged into those of a recipe, if it names one.

    Args:
        raw: field `base` of a suite or search.

    Raises:
        UserError: the base is no mapping, or the recipe does not exist.

    Example:
        >>> base = compose_base({"recipe": "digits", "budget": {"epochs": 5}})
        >>> base["budget"]["epochs"], base["budget"]["batch_size"]
        (5, 64)
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"base: expected a mapping such as {{recipe: digits}}, but got {show(raw)}")
    recipe = raw.get("recipe", "")
    if not isinstance(recipe, str):
        raise UserError(f"base.recipe: expected the name of a recipe, but got {show(recipe)}")
    base = dict(load_recipe(recipe)) if "recipe" in raw else {}
    for key, value in raw.items():
        # Merged field by field, so that a suite can change one setting of the recipe's budget.
        if key == "budget" and isinstance(value, Mapping) and isinstance(base.get("budget", {}), Mapping):
            base["budget"] = {**base.get("budget", {}), **value}
        elif key != "recipe" and not is_null(value):
            base[key] = value
    # A description says nothing about the runs.
    base.pop("description", None)
    return base


def _resolve_all(raws: Iterable[dict[str, Any]]) -> list[RunSpec]:
    """Resolve specifications and report every distinct problem once."""
    specs, problems, tree = [], list[str](), SourceTree()
    for raw in raws:
        try:
            specs.append(resolve(raw, tree))
        except UserError as error:
            problems += error.problems
    refuse(problems)
    return specs

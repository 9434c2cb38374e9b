"""Suites: settings x stacks x seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.resolve import resolve
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.errors import UserError, nearest
from noisybench.utils.digests import snapshot

SUITE_FIELDS = ("description", "base", "settings", "datasets", "noise", "stacks", "seeds", "figures")
"""Fields of a suite."""

AXES = ("settings", "datasets", "noise", "stacks", "seeds")
"""Fields of a suite whose lists span its runs."""

SETTING_FIELDS = ("task", "dataset", "noise")
"""Fields of one item of `settings`."""

FIGURE_FIELDS = ("title", "x", "y")
"""Fields of one item of `figures`."""


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
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard: expected a shard such as 3/16, from 1/16 to 16/16, but got `{selector}`")
    # Consecutive runs share a setting and hence its cost, so blocks would be less balanced than every n-th run.
    return list(specs[int(number) - 1 :: int(count)])


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
    raw = load_config("suites", name)
    unknown = [key for key in raw if key not in SUITE_FIELDS]
    if unknown:
        raise UserError(*(f"{name}: unknown field `{key}`; {nearest(key, SUITE_FIELDS)}" for key in unknown))
    base = _base(raw.get("base") or {})
    for path, values in parse_overrides(overrides):
        if path[0] in AXES:
            if len(path) > 1:
                raise UserError(f"{'.'.join(path)}: replace the whole list of the suite, e.g. {path[0]}=[...]")
            # `seeds=0,1` and `seeds=[0,1]` have the same meaning.
            raw[path[0]] = values if len(values) > 1 else values[0]
        elif len(values) > 1:
            raise UserError(
                f"{'.'.join(path)}: all runs of a suite share one value; only {', '.join(AXES)} take several values"
            )
        else:
            base = override(base, path, values[0])
    axes = [
        _axis(raw, "seeds", base.get("seed", 0)),
        _settings(raw, base),
        _axis(raw, "stacks", base.get("mitigations")),
    ]
    with snapshot():  # all runs of one command see the same data
        specs = _resolve_all(
            {**base, "seed": seed, **setting, "mitigations": stack} for seed, setting, stack in itertools.product(*axes)
        )
    return unique_specs(specs)


def is_suite(raw: dict[str, Any]) -> bool:
    """Return True if a configuration is a suite, False if it is a recipe.

    Example:
        >>> is_suite({"stacks": ["elr", "gce"]}), is_suite({"noise": "clean", "mitigations": "elr"})
        (True, False)
    """
    return bool({"base", *AXES} & {*raw} - {"noise"})  # `noise` is a field of both


def read_figures(name: str) -> list[dict[str, Any]]:
    """Return the figures of a suite: mappings of `title`, `x` and a list `y`.

    Raises:
        UserError: a figure is not such a mapping.
    """
    figures = load_config("suites", name).get("figures") or []
    invalid = [
        figure
        for figure in (figures if isinstance(figures, list) else [figures])
        if not isinstance(figure, dict)
        or set(figure) != set(FIGURE_FIELDS)
        or not isinstance(figure["y"], list)
        or not figure["y"]
    ]
    if invalid:
        raise UserError(
            "figures: each figure is a mapping of `title`, `x` (a field of the runs such as mitigations.el2n.offset, or "
            f"probe.rank) and a list `y` of metrics, but got {invalid[0]!r}"
        )
    return figures


def unique_specs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return the runs without repetitions, in order."""
    # Items that differ in a suite may be equal once defaults are filled in, such as a parameter given at its default.
    return list({spec.identity: spec for spec in specs}.values())


def _settings(raw: dict[str, Any], base: dict[str, Any]) -> list[dict[str, Any]]:
    """Return task, dataset and noise of each setting: as listed, or the product of the axes of datasets and noise."""
    if "settings" not in raw:
        datasets = _axis(raw, "datasets", base.get("dataset", "digits"))
        noise_models = _axis(raw, "noise", base.get("noise", "clean"))
        return [{"dataset": dataset, "noise": noise} for dataset, noise in itertools.product(datasets, noise_models)]
    settings = _axis(raw, "settings", {})
    invalid = [item for item in settings if not isinstance(item, dict) or set(item) - set(SETTING_FIELDS)]
    if invalid or "datasets" in raw or "noise" in raw:
        raise UserError(
            "settings: each setting is a mapping of `task`, `dataset` and `noise`, whose missing fields come from the base, "
            f"and excludes the axes `datasets` and `noise`{f'; got {invalid[0]!r}' if invalid else ''}"
        )
    return settings


def _base(raw: Any) -> dict[str, Any]:
    """Return the specification that all runs start from; its fields are merged into those of a recipe, if it names one."""
    if not isinstance(raw, dict):
        raise UserError(f"base: expected a mapping such as {{recipe: digits}}, but got {raw!r}")
    base = dict(load_config("recipes", raw["recipe"])) if "recipe" in raw else {}
    for key, value in raw.items():
        # Merged field by field, so that a suite can change one setting of the recipe's budget.
        if key == "budget":
            base["budget"] = {**base.get("budget", {}), **value}
        elif key != "recipe":
            base[key] = value
    return base


def _axis(raw: dict[str, Any], name: str, default: Any) -> list[Any]:
    values = raw.get(name, [default])
    values = values if isinstance(values, list) else [values]
    if not values:
        raise UserError(f"{name}: the list is empty; give at least one value")
    return values


def _resolve_all(raws: Iterable[dict[str, Any]]) -> list[RunSpec]:
    """Resolve specifications and report every distinct problem once."""
    specs, problems, tree = [], dict[str, None](), SourceTree()
    for raw in raws:
        try:
            specs.append(resolve(raw, tree))
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(*problems)
    return specs

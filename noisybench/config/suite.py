"""Suite."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.errors import UserError, nearest

SUITE_FIELDS = ("description", "base", "cells", "datasets", "noise", "stacks", "seeds", "figures")

AXES = SUITE_FIELDS[2:-1]

CELL_FIELDS = ("task", "dataset", "noise")

FIGURE_FIELDS = ("title", "x", "y")


def shard(specs: Sequence[RunSpec], part: str | None) -> list[RunSpec]:
    """Every n-th run, such as ``3/16``: sixteen such parts are all of them. None is the whole.

    Raises:
        UserError: it is not such a part.
    """
    if part is None:
        return list(specs)
    number, slash, count = part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part: expected a share such as 3/16, from 1/16 to 16/16, but got `{part}`")
    return list(specs[int(number) - 1 :: int(count)])


def read_suite(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """The runs of a suite, seeds outermost, so that an interrupted suite has comparable runs of all stacks.

    Args:
        name: a shipped suite or the path of a YAML file.
        overrides: ``seeds=[0,1]`` and other fields of the suite, or fields of its base such as ``budget.epochs=5``.

    Raises:
        UserError: every problem found.
    """
    raw = load_config("suites", name)
    unknown = [key for key in raw if key not in SUITE_FIELDS]
    if unknown:
        raise UserError(*(f"{name}: {key}: a suite has no such field; {nearest(key, SUITE_FIELDS)}" for key in unknown))
    base = _base(raw.get("base") or {})
    for path, values in parse_overrides(overrides):
        if path[0] in AXES:
            if len(path) > 1:
                raise UserError(f"{'.'.join(path)}: give the suite's list as a whole, e.g. {path[0]}=[…]")
            raw[path[0]] = values if len(values) > 1 else values[0]
        elif len(values) > 1:
            raise UserError(f"{'.'.join(path)}: a suite has one value for all its runs; sweep over {', '.join(AXES)}")
        else:
            base = override(base, path, values[0])
    axes = [
        _axis(raw, "seeds", base.get("seed", 0)),
        _cells(raw, base),
        _axis(raw, "stacks", base.get("mitigations")),
    ]
    return _unique(
        _resolve_all(
            {**base, "seed": seed, **cell, "mitigations": stack} for seed, cell, stack in itertools.product(*axes)
        )
    )


def read_figures(name: str) -> list[dict[str, Any]]:
    """The figures that a suite draws of its runs: mappings of `title`, `x` and a list `y`.

    Raises:
        UserError: one is not such a mapping.
    """
    figures = load_config("suites", name).get("figures") or []
    wrong = [
        each
        for each in (figures if isinstance(figures, list) else [figures])
        if not isinstance(each, dict)
        or set(each) != set(FIGURE_FIELDS)
        or not isinstance(each["y"], list)
        or not each["y"]
    ]
    if wrong:
        raise UserError(
            "figures: each is a mapping of `title`, `x` (a field of the runs such as mitigations.el2n.offset, or probe.rank) "
            f"and a list `y` of what is measured, but got {wrong[0]!r}"
        )
    return figures


def _cells(raw: dict[str, Any], base: dict[str, Any]) -> list[dict[str, Any]]:
    """Task, dataset and noise of each cell: as listed, or all of the axes of datasets and noise."""
    if "cells" not in raw:
        datasets = _axis(raw, "datasets", base.get("dataset", "digits"))
        noises = _axis(raw, "noise", base.get("noise", "clean"))
        return [{"dataset": dataset, "noise": noise} for dataset, noise in itertools.product(datasets, noises)]
    cells = _axis(raw, "cells", {})
    wrong = [each for each in cells if not isinstance(each, dict) or set(each) - set(CELL_FIELDS)]
    if wrong or "datasets" in raw or "noise" in raw:
        raise UserError(
            "cells: each is a mapping of `task`, `dataset` and `noise`, where what is missing comes from the base, and the axes "
            f"`datasets` and `noise` are then not given{f'; got {wrong[0]!r}' if wrong else ''}"
        )
    return cells


def _base(raw: Any) -> dict[str, Any]:
    """A base is a specification, which may name a recipe to start from."""
    if not isinstance(raw, dict):
        raise UserError(f"base: expected a mapping such as {{recipe: digits}}, but got {raw!r}")
    base = dict(load_config("recipes", raw["recipe"])) if "recipe" in raw else {}
    for key, value in raw.items():
        if key == "budget":
            base["budget"] = {**base.get("budget", {}), **value}
        elif key != "recipe":
            base[key] = value
    return base


def _axis(raw: dict[str, Any], name: str, default: Any) -> list[Any]:
    values = raw.get(name, [default])
    values = values if isinstance(values, list) else [values]
    if not values:
        raise UserError(f"{name}: the list is empty; give at least one")
    return values


def _resolve_all(raws: Iterable[dict[str, Any]]) -> list[RunSpec]:
    """Resolve specifications; every distinct problem is reported once."""
    specs, problems = [], dict[str, None]()
    for raw in raws:
        try:
            specs.append(resolve(raw))
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(*problems)
    return specs


def _unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    return list({spec.identity: spec for spec in specs}.values())

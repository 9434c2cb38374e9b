"""Specifications of runs from the arguments of Python functions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.published_recipes import load_recipe
from noisybench.config.resolve import resolve
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError, show
from noisybench.utils.digests import snapshot

Path = tuple[str, ...]
"""Keys of a field."""


def read_specs(
    recipe: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str], fields: Mapping[str, Any]
) -> tuple[list[RunSpec], bool]:
    """Return the runs of a recipe with changes applied, and whether a change has several values.

    Args:
        recipe: name of a recipe, path of a YAML file, or its content.
        overrides: changes as on the command line, such as ``noise.rate=0.4``.
        fields: values of fields; a list has one value for each run.

    Raises:
        UserError: the recipe or a change is invalid.

    Example:
        >>> specs, is_several = read_specs("digits", ["noise.rate=0.3"], {"noise": "pair_flip", "seed": [0, 1]})
        >>> [spec.title for spec in specs], is_several
        (['digits · pair_flip(rate=0.3) · cross_entropy · seed 0', 'digits · pair_flip(rate=0.3) · cross_entropy · seed 1'], True)
    """
    raws, is_several, tree = [_read_recipe(recipe)], False, SourceTree()
    changes: dict[Path, Any] = {}
    for name, value in fields.items():
        for path, values in _changes(name, value):
            changes[path] = values
    for change in parse_overrides(list_of_overrides(overrides)):
        if change.path in changes:
            raise UserError(f"{change.key} is given twice, as an argument and as {show(change.text, quotes=False)}")
        changes[change.path] = change
    # Whole components first, so that a parameter that is given beside one is kept.
    for path, change in sorted(changes.items(), key=lambda item: len(item[0])):
        changed = []
        for raw in raws:
            if isinstance(change, list):
                is_several |= len(change) > 1
                changed += [_with_value(raw, path, value) for value in change]
            else:
                values = change.values(raw)
                is_several |= len(values) > 1
                changed += [override(raw, path, value) for value in values]
        raws = changed
    is_several |= any(_is_list(value) for value in fields.values())
    with snapshot():  # all runs of one call see the same data
        return [resolve(raw, tree) for raw in raws], is_several


def list_of_overrides(overrides: object) -> list[str]:
    """Return overrides as a list.

    Raises:
        UserError: they are no list of text.

    Example:
        >>> list_of_overrides(("noise.rate=0.4",))
        ['noise.rate=0.4']
    """
    texts: list[str] = []
    for text in overrides if isinstance(overrides, Iterable) and not isinstance(overrides, str) else [overrides]:
        if not isinstance(text, str):
            raise UserError(
                f"overrides are text such as 'noise.rate=0.4', but got {show(text)}; give values of fields as arguments"
            )
        texts.append(text)
    return texts


def _with_value(raw: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a specification with one value of an argument; a mapping in a list changes what it names, as one alone does."""
    if len(path) > 1:
        return override(raw, path, value)
    for each, items in _changes(path[0], value, is_list=False):
        for item in items:
            raw = override(raw, each, item)
    return raw


def _read_recipe(recipe: object) -> dict[str, Any]:
    if isinstance(recipe, Mapping):
        return {str(key): plain(value) for key, value in recipe.items()}
    if isinstance(recipe, str):
        return load_recipe(recipe)
    if isinstance(recipe, os.PathLike):
        path = os.fspath(recipe)
        # A bare file name of a path is no name of a built-in recipe.
        return load_recipe(path if isinstance(path, str) and "/" in path else f"./{path}")
    raise UserError(f"recipe: expected a name, a path or a mapping of fields, but got {show(recipe)}")


def _changes(name: str, value: Any, is_list: bool | None = None) -> Iterator[tuple[Path, list[Any]]]:
    """Yield the path and the values of each field that an argument changes.

    A mapping without ``name`` changes some parameters of a component, or some fields of the budget, and keeps the others.

    Args:
        name: name of the field.
        value: its value.
        is_list: the value is a list with a value for each run; by default, if it is a list.
    """
    if _is_list(value) if is_list is None else is_list:
        items = [plain(item) for item in (value.tolist() if hasattr(value, "tolist") else value)]
        if not items:
            raise UserError(f"{name}: the list is empty; give at least one value")
        if repeated := [item for number, item in enumerate(items) if item in items[:number]]:
            raise UserError(f"{name}: {show(repeated[0])} is given several times; give it once")
        yield (name,), items
        return
    value = plain(value)
    if not isinstance(value, dict) or "name" in value:
        yield (name,), [value]
        return
    for key, item in value.items():
        if name == "mitigations" and isinstance(item, dict):
            yield from (((name, key, parameter), [setting]) for parameter, setting in item.items())
        else:
            yield (name, key), [item]


def override_texts(fields: Mapping[str, Any]) -> list[str]:
    """Return fields of a suite as overrides of the command line.

    Example:
        >>> override_texts({"seeds": [0, 1], "stacks": ["gce(q=0.5)"], "budget": {"epochs": 5}})
        ['seeds=[0, 1]', 'stacks=["gce(q=0.5)"]', 'budget.epochs=5']
    """
    texts = []
    for name, value in fields.items():
        if _is_list(value):
            items = [item for (_, items) in _changes(name, value) for item in items]
            texts.append(f"{name}={json.dumps(items, ensure_ascii=False)}")
        else:
            texts += [f"{'.'.join(path)}={_override_text(item)}" for path, (item,) in _changes(name, value)]
    return texts


def _override_text(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    # In quotes, because a comma outside of them separates values.
    return f"'{value}'" if "'" not in value else f'"{value}"'


def _is_list(value: object) -> bool:
    """Return True for lists, tuples, ranges, arrays and columns."""
    if isinstance(value, str | bytes | Mapping):
        return False
    return isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1


def plain(value: Any) -> Any:
    """Return a value in the types that YAML has.

    Example:
        >>> import numpy as np, pathlib
        >>> plain({"root": pathlib.PurePosixPath("photos"), "size": np.int64(32)})
        {'root': 'photos', 'size': 32}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # A noise model of `nb.noise`, whose module imports more than specifications need.
    if hasattr(value, "as_field"):
        return value.as_field()
    # NumPy numbers and arrays.
    if hasattr(value, "tolist") and hasattr(value, "ndim"):
        return plain(value.tolist())
    return value

"""Resolve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from noisybench.config.overrides import expand, parse_stack
from noisybench.config.provenance import Provenance
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.spec import Budget, Component, Execution, RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.errors import UserError, nearest

Model = TypeVar("Model", bound=pydantic.BaseModel)

FIELDS = ("description", "task", "dataset", "noise", "mitigations", "budget", "seed", "execution", "provenance")


def resolve(raw: Mapping[str, Any]) -> RunSpec:
    """Complete and check a specification.

    Args:
        raw: as read from YAML, after overrides.

    Raises:
        UserError: every problem found, at once.
    """
    problems = [f"{key}: there is no such field; {nearest(str(key), FIELDS)}" for key in raw if key not in FIELDS]
    task = _component("tasks", raw.get("task", "classification"), "task", problems)
    dataset = _component("datasets", raw.get("dataset", "digits"), "dataset", problems)
    noise = _component("noise_models", raw.get("noise", "clean"), "noise", problems)
    members = [_component("mitigations", each, _place(each), problems) for each in parse_stack(raw.get("mitigations"))]
    names = [member.name for member in members if member]
    problems += [
        f"mitigations: `{name}` stands twice in the stack" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    budget = _section(Budget, raw.get("budget") or {}, "budget", problems)
    execution = _section(Execution, raw.get("execution") or {}, "execution", problems)
    origin = raw.get("provenance")
    provenance = None if origin is None else _section(Provenance, origin, "provenance", problems)
    seed = raw.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        problems.append(f"seed: must be a whole number from 0 up, but got {seed!r}")
    if budget and (family := budget.network.partition(":")[0]) not in list_entries("networks"):
        problems.append(
            f"budget.network: unknown network `{budget.network}`; {nearest(family, list_entries('networks'))} "
            "(`noisybench list networks`)"
        )
    if problems or not (task and dataset and noise and budget and execution):
        raise UserError(*problems)
    return RunSpec(task, dataset, noise, tuple(each for each in members if each), budget, seed, execution, provenance)


def _place(member: Any) -> str:
    name = member.get("name") if isinstance(member, Mapping) else member
    return f"mitigations.{name}"


def _component(kind: str, value: Any, place: str, problems: list[str]) -> Component | None:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        problems.append(f"{place}: expected a name, or a mapping with `name` and parameters, but got {value!r}")
        return None
    parameters = {str(key): item for key, item in value.items() if key != "name"}
    try:
        entry = get_entry(kind, value["name"], place.split(".")[0])
    except UserError as error:
        problems += error.problems
        return None
    complete, found = entry.schema.validate(parameters, place)
    problems += found
    return None if found else Component(kind, entry.name, complete)


def _section(model: type[Model], raw: Any, place: str, problems: list[str]) -> Model | None:
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        for each in error.errors():
            where = ".".join([place, *(str(part) for part in each["loc"])])
            if each["type"] == "extra_forbidden":
                problems.append(f"{where}: there is no such field; {nearest(str(each['loc'][-1]), model.model_fields)}")
            else:
                message = each["msg"].removeprefix("Value error, ")
                problems.append(f"{where}: {message[0].lower()}{message[1:]}, but got {each['input']!r}")
        return None


def read_recipe(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """The runs of a recipe with overrides applied.

    Raises:
        UserError: anything is wrong with it.
    """
    return [resolve(each) for each in expand(load_config("recipes", name), overrides)]

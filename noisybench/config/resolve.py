"""Complete and validate specifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pydantic

from noisybench.config.budget import Budget, Execution
from noisybench.config.budget_checks import find_inactive
from noisybench.config.data_files import data_digests
from noisybench.config.overrides import DEFAULT_COMPONENTS, expand, parse_stack
from noisybench.config.preset_choice import Choices
from noisybench.config.provenance import Provenance
from noisybench.config.published_recipes import load_recipe
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.scalars import is_null, plain_value
from noisybench.config.source_code import SourceTree, modules_of_run
from noisybench.config.spec import Component, RunSpec
from noisybench.config.validation import check_model
from noisybench.errors import UserError, nearest, show
from noisybench.utils.digests import snapshot

FIELDS = ("description", "task", "dataset", "noise", "mitigations", "budget", "seed", "execution", "provenance")
"""Fields of a specification."""


def resolve(raw: Mapping[str, Any], tree: SourceTree | None = None) -> RunSpec:
    """Complete a specification with defaults, check it, and add the digests of its source code and data.

    Args:
        raw: specification as read from YAML, after overrides.
        tree: source files that the runs of a command share; by default they are read again.

    Raises:
        UserError: all problems of the specification at once.

    Example:
        >>> spec = resolve({"noise": {"name": "symmetric_exclusive", "rate": 0.4}, "mitigations": "elr"})
        >>> spec.dataset.name, spec.noise.parameters["rate"], spec.budget.network
        ('digits', 0.4, 'small_cnn')
        >>> resolve({"budget": {"epochs": 0}})
        Traceback (most recent call last):
        noisybench.errors.UserError: budget.epochs: input should be greater than or equal to 1, but got 0
    """
    spec = complete(raw)
    modules = modules_of_run(spec.task, spec.dataset, spec.noise, spec.mitigations, spec.budget)
    spec = replace(spec, code=(tree or SourceTree()).code(modules))
    return replace(spec, data=data_digests(spec.components, spec.budget.network))


def complete(raw: Mapping[str, Any]) -> RunSpec:
    """Complete a specification with defaults, and check it; it has no digests, so that no file is read.

    Args:
        raw: specification as read from YAML, after overrides.

    Raises:
        UserError: all problems of the specification at once.

    Example:
        >>> complete({"mitigations": "gce(q=0.5)"}).stack, complete({}).code
        ('gce(q=0.5)', {})
    """
    problems = [unknown_field(str(key), FIELDS) for key in raw if key not in FIELDS]
    raw = {**DEFAULT_COMPONENTS, **{key: value for key, value in raw.items() if not is_null(value)}}
    task = _component("tasks", raw["task"], "task", problems)
    dataset = _component("datasets", raw["dataset"], "dataset", problems)
    noise = _component("noise_models", raw["noise"], "noise", problems)
    choices = Choices(dataset, noise)
    members = [
        _component("mitigations", choices.fill_in(member, problems), _location(member), problems)
        for member in parse_stack(raw.get("mitigations"))
    ]
    names = [member.name for member in members if member]
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [f"mitigations: `{name}` appears twice in the stack" for name in repeated]
    budget = check_model(Budget, choices.fill_in_budget(raw.get("budget", {}), problems), "budget", problems)
    execution = check_model(Execution, raw.get("execution", {}), "execution", problems)
    origin = raw.get("provenance")
    provenance = None if origin is None else check_model(Provenance, origin, "provenance", problems)
    seed = plain_value(raw.get("seed", 0))
    # `bool` is a subclass of `int`, so `seed: true` would pass as 1.
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        problems.append(f"seed: must be an integer from 0 to 2^63 - 1, but got {show(raw['seed'])}")
    if not isinstance(raw.get("description", ""), str):
        problems.append(f"description: expected text, but got {show(raw['description'])}")
    # Only the family of a network such as `torchvision:resnet50` is registered.
    if budget and (family := budget.network.partition(":")[0]) not in list_entries("networks"):
        problems.append(
            f"budget.network: unknown network {show(budget.network, quotes=False)}; {nearest(family, list_entries('networks'))} "
            "(`noisybench list networks`)"
        )
    if problems or not (task and dataset and noise and budget and execution):
        raise UserError(*problems)
    stack = tuple(choices.complete(member) for member in members if member)
    notes = (*choices.notes(stack, budget), *(f"budget.{line}" for line in find_inactive(budget)))
    return RunSpec(task, dataset, noise, stack, budget, seed, execution, {}, provenance, notes=notes)


def read_recipe(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """Return the runs of a recipe with overrides applied.

    Args:
        name: name of a recipe, or path of a YAML file.
        overrides: arguments such as ``noise.rate=0.4``; several values separated by commas give several runs.

    Raises:
        UserError: the recipe or an override is invalid.

    Example:
        >>> [spec.seed for spec in read_recipe("digits", ["mitigations=elr", "seed=0,1"])]
        [0, 1]
    """
    tree = SourceTree()
    with snapshot():  # all runs of one command see the same data
        return [resolve(raw, tree) for raw in expand(load_recipe(name), overrides)]


def unknown_field(name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown field at the top level of a specification.

    Args:
        name: the unknown field.
        known: allowed fields.

    Example:
        >>> unknown_field("sead", FIELDS), unknown_field("epochs", FIELDS)
        ('unknown field `sead`; did you mean `seed`?', 'unknown field `epochs`; did you mean `budget.epochs`?')
    """
    sections: dict[str, type[pydantic.BaseModel]] = {"budget": Budget, "execution": Execution}
    inside = [f"`{section}.{name}`" for section, model in sections.items() if name in model.model_fields]
    hint = f"did you mean {inside[0]}?" if inside else nearest(name, known)
    return f"unknown field {show(name, quotes=False)}; {hint}"


def _location(member: Any) -> str:
    """Return the location of a member of the stack, for messages."""
    name = member.get("name") if isinstance(member, Mapping) else member
    return f"mitigations.{name}"


def _component(kind: str, value: Any, location: str, problems: list[str]) -> Component | None:
    """Return a component with all its parameters; on a problem, add it to ``problems`` and return None."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        problems.append(f"{location}: expected a name, or a mapping with `name` and parameters, but got {show(value)}")
        return None
    parameters = {str(key): item for key, item in value.items() if key != "name"}
    try:
        # The message names the unknown member itself, so its location is `mitigations` alone.
        entry = get_entry(kind, value["name"], location.split(".")[0])
    except UserError as error:
        problems += error.problems
        return None
    complete, parameter_problems = entry.schema.validate(parameters, location)
    problems += parameter_problems
    return None if parameter_problems else Component(kind, entry.name, complete)

"""What a run is asked to do: typed, validated as a whole, and with an identity.

A specification is YAML (a recipe) plus dotted overrides from the command line:

    noisybench run digits noise=symmetric_exclusive noise.rate=0.4 mitigations=mixup+gce mitigations.gce.q=0.5

A component (dataset, noise, each mitigation) is a name, or a mapping with `name` and its parameters.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic
import yaml

from noisybench.configuration import read_yaml
from noisybench.errors import UserError, nearest
from noisybench.parameters import content_digest
from noisybench.registry import entries, find

WORKSPACE = Path(".noisybench")
"""Below the working folder: checkpoints, and records that could not be sent yet."""

IDENTITY_FORMAT = 2
"""Raised when the same specification would come to train differently."""


class Budget(pydantic.BaseModel):
    """What must be equal for a fair comparison."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    network: str = "small_cnn"
    """A file of `noisybench/networks/`; of a family, the one named after a colon, such as `torchvision:resnet50`."""
    epochs: int = pydantic.Field(30, ge=1)
    batch_size: int = pydantic.Field(128, ge=2)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = pydantic.Field(0.1, gt=0)
    momentum: float = pydantic.Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = pydantic.Field(5e-4, ge=0)
    schedule: Literal["constant", "cosine", "multistep", "polynomial"] = "cosine"
    """`polynomial` falls as (1 - epoch / epochs)**0.9, usual for segmentation."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `multistep` multiplies the learning rate by `gamma`."""
    gamma: float = pydantic.Field(0.1, gt=0, le=1)
    warmup_epochs: int = pydantic.Field(0, ge=0)
    """Epochs of linear increase from zero before the schedule."""
    augmentation: Literal["none", "crop", "crop_flip", "affine", "scale_crop"] = "none"
    """`affine` and `scale_crop` are for images with masks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    devices: int = pydantic.Field(1, ge=1)
    """GPUs (or processes on a processor) that share every batch."""
    strategy: Literal["ddp"] = "ddp"
    """How they do: data parallelism, each with the whole network."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Budget:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs the optimizer sgd with momentum")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("milestones and the schedule multistep need each other")
        return self

    def identity(self) -> dict[str, Any]:
        """As JSON-like data; what came later leaves no trace at its default, so that earlier runs keep their identity."""
        data = self.model_dump(mode="json")
        later = ("devices", "strategy") if self.devices == 1 else ()
        return {key: value for key, value in data.items() if key not in later}


class Execution(pydantic.BaseModel):
    """Where and how to run; never part of a run's identity."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = pydantic.Field(1, ge=1)
    """Processor threads of one run. With more, sums may differ in their last bits."""
    gpus: float = pydantic.Field(1.0, gt=0, le=1)
    """Share of a GPU that one run needs, where one is used: 0.25 has four small runs at a time on it."""
    loaders: int = pydantic.Field(0, ge=0)
    """Processes that augment images with masks, beside the one that trains; 0 has it done there."""
    system_metrics: bool = True
    """Sample processor, memory and GPU every ten seconds."""
    save_weights: bool = False
    """Keep the final networks as an artifact."""
    trial_of: str | None = None
    """The MLflow run of a search that this is a trial of; trials are never ranked."""
    save_corrected: bool = False
    """Keep corrected masks as PNG files, named as their images; noise=from_folder reads them."""


@dataclass(frozen=True)
class Component:
    """A registered name with its complete parameters."""

    kind: str
    name: str
    parameters: dict[str, Any]

    def build(self) -> Any:
        """Import and instantiate it."""
        return find(self.kind, self.name).load()(**self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Name and parameters in one mapping, as in YAML."""
        return {"name": self.name, **self.parameters}

    def identity(self) -> dict[str, Any]:
        """As `as_dict`, with files replaced by what they contain.

        What is not given leaves no trace, so that a component can gain an optional parameter without new identities.
        """
        paths = find(self.kind, self.name).schema.paths()
        digests = {name: content_digest(Path(self.parameters[name])) for name in paths if self.parameters[name]}
        return {key: value for key, value in {**self.as_dict(), **digests}.items() if value is not None}

    def label(self, hide: Iterable[str] = ()) -> str:
        """Short text: the name, rates, and the parameters that are not at their default, but those in ``hide``."""
        fields = find(self.kind, self.name).schema.fields
        changed = {
            k: v
            for k, v in self.parameters.items()
            if k not in hide and v is not None and (v != fields[k][1].default or fields[k][1].shown)
        }
        inside = ", ".join(f"{k}={_told(v)}" for k, v in changed.items())
        return f"{self.name}({inside})" if inside else self.name


def _told(value: Any) -> str:
    """A parameter's value in a label; of a component inside it, name and parameters; of a run inside it, the noise."""
    if isinstance(value, Mapping) and "noise" in value:
        return _told(value["noise"])
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}={_told(each)}" for key, each in value.items() if key != "name")
        return f"{value.get('name', '')}({inside})" if inside else str(value.get("name", ""))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class RunSpec:
    """One run, complete and valid."""

    task: Component
    dataset: Component
    noise: Component
    mitigations: tuple[Component, ...]
    budget: Budget
    seed: int
    execution: Execution

    @property
    def identity(self) -> str:
        """Hash of what is to be trained; the same for the same question wherever its files lie."""
        meaning = {
            "format": IDENTITY_FORMAT,
            "task": self.task.identity(),
            "dataset": self.dataset.identity(),
            "noise": self.noise.identity(),
            "mitigations": [each.identity() for each in self.mitigations],
            "budget": self.budget.identity(),
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def cores(self) -> int:
        """How many cores it needs, those of further processes included."""
        return self.execution.threads * self.budget.devices

    @property
    def gpus(self) -> float:
        """How many GPUs it needs where it uses any: a share of one, or several."""
        return self.execution.gpus if self.budget.devices == 1 else self.budget.devices

    @property
    def stack(self) -> str:
        """The stack of mitigations as people write it, e.g. ``mixup+gce(q=0.5)``."""
        return "+".join(each.label() for each in self.mitigations)

    @property
    def budget_hash(self) -> str:
        """Hash of task and budget: runs are only compared where it is equal."""
        meaning = {"task": self.task.identity(), "budget": self.budget.identity()}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """One line for progress and messages."""
        noise = self.noise.label(hide=("path", "seed"))
        cell = " · ".join(each for each in (self.task_label, self.dataset_label, noise) if each)
        return f"{cell} · {self.stack} · seed {self.seed}"

    @property
    def task_label(self) -> str:
        """The task with its parameters, empty where it has none to tell."""
        return self.task.label() if self.task.parameters else ""

    @property
    def dataset_label(self) -> str:
        """Name of the dataset with the parameters that matter to a reader."""
        return self.dataset.label(hide=("root", "path", "train", "test", "class_names", "download", "verify", "shifts"))

    def folder(self) -> Path:
        """Where checkpoint and unsent records of this run are kept, below the working folder."""
        return WORKSPACE / "runs" / self.identity

    def as_dict(self) -> dict[str, Any]:
        """The complete specification as JSON-like data; `resolve` reads it back."""
        return {
            "task": self.task.as_dict(),
            "dataset": self.dataset.as_dict(),
            "noise": self.noise.as_dict(),
            "mitigations": [each.as_dict() for each in self.mitigations],
            "budget": self.budget.model_dump(mode="json"),
            "seed": self.seed,
            "execution": self.execution.model_dump(mode="json"),
        }


Model = TypeVar("Model", bound=pydantic.BaseModel)

FIELDS = ("description", "task", "dataset", "noise", "mitigations", "budget", "seed", "execution")


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
    members = [
        _component("mitigations", each, _place(each), problems) for each in stack_members(raw.get("mitigations"))
    ]
    names = [member.name for member in members if member]
    problems += [
        f"mitigations: `{name}` stands twice in the stack" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    budget = _section(Budget, raw.get("budget") or {}, "budget", problems)
    execution = _section(Execution, raw.get("execution") or {}, "execution", problems)
    seed = raw.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        problems.append(f"seed: must be a whole number from 0 up, but got {seed!r}")
    if budget and (family := budget.network.partition(":")[0]) not in entries("networks"):
        problems.append(
            f"budget.network: unknown network `{budget.network}`; {nearest(family, entries('networks'))} "
            "(`noisybench list networks`)"
        )
    if problems or not (task and dataset and noise and budget and execution):
        raise UserError(*problems)
    return RunSpec(task, dataset, noise, tuple(each for each in members if each), budget, seed, execution)


def stack_members(value: Any) -> list[Any]:
    """Members of a stack written as ``a``, ``a+b``, a mapping, or a list of those. An empty stack is cross-entropy."""
    if value is None or value == [] or value == "":
        return ["cross_entropy"]
    if isinstance(value, str):
        return [part.strip() for part in value.split("+")]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return [member for each in value for member in stack_members(each)]
    return [value]


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
        entry = find(kind, value["name"], place.split(".")[0])
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


def parse_overrides(arguments: Iterable[str]) -> list[tuple[list[str], list[Any]]]:
    """Split ``a.b=x`` arguments into key path and the values to sweep over.

    A comma outside brackets and quotes separates values: ``seed=0,1,2`` is three runs. Values are YAML.

    Raises:
        UserError: an argument without ``=``, or a value that is no YAML.
    """
    parsed = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UserError(f"`{argument}`: expected an override such as noise.rate=0.4")
        try:
            values = [_scalar(part) for part in _split_commas(text)]
        except yaml.YAMLError:
            raise UserError(f"`{argument}`: the value is not valid YAML") from None
        parsed.append((key.split("."), values))
    # Whole components first, so that `noise.rate=0.4 noise=pair_flip` does not lose the rate.
    return sorted(parsed, key=lambda each: len(each[0]))


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:  # YAML takes 1e-3 for text
            return float(value)
        except ValueError:
            return value
    return value


def _split_commas(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for character in text:
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif not quote:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def override(raw: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of a specification with one field set; ``mitigations.NAME.parameter`` finds the member of that name.

    Raises:
        UserError: the stack has no such member.
    """
    changed = copy.deepcopy(dict(raw))
    if path[0] == "mitigations" and len(path) > 1:
        members = [
            each if isinstance(each, dict) else {"name": each} for each in stack_members(changed.get("mitigations"))
        ]
        chosen = [each for each in members if each.get("name") == path[1]]
        if not chosen or len(path) != 3:
            stack = [str(each.get("name")) for each in members]
            raise UserError(
                f"{'.'.join(path)}: expected mitigations.NAME.PARAMETER with a member of the stack; {nearest(path[1], stack)}"
            )
        chosen[0][path[2]] = value
        changed["mitigations"] = members
        return changed
    place = changed
    for key in path[:-1]:
        inner = place.get(key)
        place[key] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        place = place[key]
    place[path[-1]] = value
    return changed


def expand(raw: Mapping[str, Any], overrides: Iterable[str]) -> list[dict[str, Any]]:
    """All specifications that overrides make of one; more than one where a value has commas."""
    parsed = parse_overrides(overrides)
    expanded = []
    for values in itertools.product(*(values for _, values in parsed)):
        each: dict[str, Any] = dict(raw)
        for (path, _), value in zip(parsed, values, strict=True):
            each = override(each, path, value)
        expanded.append(each)
    return expanded


def read_recipe(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """The runs of a recipe with overrides applied.

    Raises:
        UserError: anything is wrong with it.
    """
    return [resolve(each) for each in expand(read_yaml("recipes", name), overrides)]

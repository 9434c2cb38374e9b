"""What a search asks: the parameters of one stack in one cell, their ranges, and by what trials are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.suite import read_suite
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.errors import UserError, nearest

if TYPE_CHECKING:
    import optuna

FIELDS = (
    "description", "base", "suite", "space",
    "trials", "seeds", "rerun_seeds", "sampler", "pruner", "objective", "heartbeat",
)  # fmt: skip
SETTINGS = FIELDS[4:]
SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "random": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
}
PRUNERS = {
    "none": "NopPruner", "median": "MedianPruner", "hyperband": "HyperbandPruner", "halving": "SuccessiveHalvingPruner",
    "wilcoxon": "WilcoxonPruner",
}  # fmt: skip
SCORES = {"noisy_val": "noisy", "clean_val": "clean"}
"""What may judge a trial, and whose labels it reads. The test split is not among them."""
COST = "cost"


@dataclass(frozen=True)
class Range:
    """Values of one parameter: between two numbers, or one of some."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """A value for a trial."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        assert self.low is not None
        assert self.high is not None
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def as_dict(self) -> dict[str, Any]:
        """What is not at its default, as data."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Search:
    """What is searched for.

    Attributes:
        name: of the study, where no other is given.
        base: specification of a run, whose stack has the parameters.
        space: ranges by ``MITIGATION.PARAMETER``; empty where the stack has nothing to search, and its defaults stand alone.
        trials: how many.
        seeds: with which every trial trains; its value is their mean.
        rerun_seeds: fresh ones, with which the best configuration and the defaults are trained in the end.
        sampler: name of what proposes.
        pruner: name of what stops hopeless trials: after epochs, or after seeds where there are several.
        objective: `noisy_val` or `clean_val`, and perhaps `cost`, seconds of training, as a second one.
        heartbeat: seconds between signs of life of a trial; after four without one it counts as dead, and is tried again.
    """

    name: str
    base: dict[str, Any]
    space: dict[str, Range]
    trials: int = 20
    seeds: tuple[int, ...] = (1000,)
    rerun_seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str = "tpe"
    pruner: str = "median"
    objective: tuple[str, ...] = ("noisy_val",)
    heartbeat: int = 15

    def spec(self, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the run of a configuration, without provenance."""
        return self._spec(values, seed, None)

    def trial_spec(self, values: Mapping[str, Any], seed: int, study_run: str) -> RunSpec:
        """Return the run of a trial, recorded below the MLflow run of the study."""
        return self._spec(values, seed, self._provenance(study_run))

    def final_spec(self, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the ranked run of a configuration, whose provenance is this search unless it has the defaults."""
        return self._spec(values, seed, None if dict(values) == self.defaults else self._provenance(None))

    def _provenance(self, study_run: str | None) -> dict[str, Any]:
        validation = SCORES[self.objective[0]]
        return {"search": self.name, "trials": self.trials, "validation": validation, "trial_of": study_run}

    def _spec(self, values: Mapping[str, Any], seed: int, provenance: dict[str, Any] | None) -> RunSpec:
        raw = {**self.base, "seed": seed, "provenance": provenance}
        for name, value in values.items():
            raw = override(raw, ["mitigations", *name.split(".")], value)
        return resolve(raw)

    @property
    def stack(self) -> str:
        """The stack with its defaults, as people write it."""
        return self.spec({}, 0).stack

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of the parameters where nothing is searched for."""
        stack = {each.name: each.parameters for each in self.spec({}, 0).mitigations}
        return {name: stack[name.split(".")[0]][name.split(".")[1]] for name in self.space}

    def meaning(self) -> dict[str, Any]:
        """What must not change while a study goes on."""
        return {
            "space": {name: each.as_dict() for name, each in sorted(self.space.items())},
            "base": self.spec({}, 0).identity,
            "seeds": list(self.seeds),
            "objective": list(self.objective),
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-like data; `from_dict` reads it back."""
        return {
            "name": self.name,
            "base": self.spec({}, 0).as_dict(),
            "space": {name: each.as_dict() for name, each in self.space.items()},
            **{key: list(value) if isinstance(value := getattr(self, key), tuple) else value for key in SETTINGS},
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Search:
        """The search that `as_dict` wrote."""
        settings = {key: raw[key] for key in SETTINGS}
        return _checked(raw["name"], dict(raw["base"]), dict(raw["space"]), settings)


def read_searches(name: str, arguments: Sequence[str]) -> list[Search]:
    """What is searched for: one stack in one cell, or each stack of a suite in each of its cells with equally many trials.

    Args:
        name: of a shipped search, recipe or suite, or the path of a search. Of a recipe or suite, all declared ranges are
            searched.
        arguments: overrides of the base, and of the search's own fields such as ``trials=50`` or
            ``space.elr.beta=[0.5,0.9]``.

    Raises:
        UserError: every problem found.
    """
    if name in builtin_configs("searches") or name.endswith((".yaml", ".yml")):
        raw = load_config("searches", name)
    elif name in builtin_configs("recipes"):
        raw = {"base": {"recipe": name}}
    elif name in builtin_configs("suites"):
        raw = {"suite": name}
    else:
        known = {*builtin_configs("searches"), *builtin_configs("recipes"), *builtin_configs("suites")}
        raise UserError(
            f"unknown search `{name}`; {nearest(name, known)} (a search, recipe or suite, or the path of a .yaml file)"
        )
    unknown = [key for key in raw if key not in FIELDS]
    if unknown:
        raise UserError(*(f"{name}: {key}: a search has no such field; {nearest(key, FIELDS)}" for key in unknown))
    if ("base" in raw) == ("suite" in raw):
        raise UserError(f"{name}: a search needs either `base`, a specification of a run, or `suite`, a suite's name")
    space, settings = dict(raw.get("space") or {}), {key: raw[key] for key in SETTINGS if key in raw}
    rest = []
    for argument in arguments:
        ((path, values),) = parse_overrides([argument])
        if path[0] == "space":
            space[".".join(path[1:])] = values[0]
        elif path[0] in SETTINGS and len(path) == 1:
            settings[path[0]] = values if len(values) > 1 else values[0]
        else:
            rest.append(argument)
    stem = Path(name).stem
    if "suite" in raw:
        return _of_suite(stem, raw["suite"], rest, space, settings)
    base = dict(raw["base"] or {})
    base = {**(load_config("recipes", base.pop("recipe")) if "recipe" in base else {}), **base}
    base.pop("description", None)
    for path, values in parse_overrides(rest):
        if len(values) > 1:
            raise UserError(f"{'.'.join(path)}: a search has one cell and one stack; give one value, or search a suite")
        base = override(base, path, values[0])
    found = _checked(f"{stem} {resolve(base).stack}", base, space, settings)
    if not found.space:
        raise UserError(
            f"space: {found.stack} has no parameter with a declared range; give one, such as space.NAME.PARAMETER=[0,1]"
        )
    return [found]


def _of_suite(
    stem: str, suite: str, arguments: Sequence[str], space: dict[str, Any], settings: dict[str, Any]
) -> list[Search]:
    """One search for each stack in each cell; each has those of the given ranges that its stack has."""
    cells: dict[str, dict[str, RunSpec]] = {}
    for spec in read_suite(suite, arguments):
        cell = " · ".join(each for each in (spec.task_label, spec.dataset_label, spec.noise.label()) if each)
        cells.setdefault(cell, {}).setdefault(spec.stack, spec)
    stacks = {stack: spec for each in cells.values() for stack, spec in each.items()}
    known = {name for spec in stacks.values() for name in _declared(spec)}
    unknown = [name for name in space if name not in known]
    if unknown:
        raise UserError(
            *(f"space.{each}: no stack of {suite} has such a parameter; {nearest(each, known)}" for each in unknown)
        )
    found, problems = [], dict[str, None]()
    for cell, members in cells.items():
        for stack, spec in members.items():
            own = {name: value for name, value in space.items() if name in _declared(spec)}
            raw = {key: value for key, value in spec.as_dict().items() if key != "seed"}
            title = f"{stem} {stack}" if len(cells) == 1 else f"{stem} {cell} {stack}"
            try:
                found.append(_checked(title, raw, own, dict(settings)))
            except UserError as error:
                problems |= dict.fromkeys(error.problems)
    if problems:
        raise UserError(*problems)
    return found


def _checked(name: str, base: dict[str, Any], given: dict[str, Any], settings: dict[str, Any]) -> Search:
    problems = []
    for key, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if key in settings and settings[key] not in known:
            problems.append(f"{key}: unknown {key} `{settings[key]}`; {nearest(str(settings[key]), known)}")
    for key in ("seeds", "rerun_seeds", "objective"):
        if key in settings:
            settings[key] = tuple(settings[key]) if isinstance(settings[key], list) else (settings[key],)
    for key in ("seeds", "rerun_seeds"):
        values = settings.get(key, (0,))
        if not values or not all(isinstance(each, int) and each >= 0 for each in values):
            problems.append(f"{key}: give whole numbers from 0 up, but got {list(values)}")
    for key in ("trials", "heartbeat"):
        if not isinstance(settings.get(key, 1), int) or settings.get(key, 1) < 1:
            problems.append(f"{key}: must be a whole number from 1 up, but got {settings[key]!r}")
    objective = settings.get("objective", ("noisy_val",))
    if not objective or objective[0] not in SCORES or objective[1:] not in ((), (COST,)):
        problems.append(
            f"objective: must be one of {', '.join(SCORES)}, or [noisy_val,cost], but got {list(objective)}; nothing is ever "
            "chosen by the test split"
        )
    if len(objective) > 1 and settings.setdefault("pruner", "none") != "none":
        problems.append(f"pruner: with two objectives no trial can be stopped early; drop pruner={settings['pruner']}")
    if problems:
        raise UserError(*problems)
    found = Search(name, base, _space(resolve(base), given), **settings)
    both = set(found.seeds) & set(found.rerun_seeds)
    if both:
        raise UserError(f"rerun_seeds: {sorted(both)} also choose the configuration; take others")
    return found


def _declared(spec: RunSpec) -> dict[str, tuple[Any, Any]]:
    """Type and declaration of the stack's parameters, by ``MITIGATION.PARAMETER``."""
    return {
        f"{member.name}.{name}": field
        for member in spec.mitigations
        for name, field in get_entry("mitigations", member.name).schema.fields.items()
    }


def _space(spec: RunSpec, given: dict[str, Any]) -> dict[str, Range]:
    """Declared ranges of the stack's parameters, or those that are given.

    Raises:
        UserError: a range is upside down or not allowed, or the stack has no such parameter.
    """
    declared, found, problems = _declared(spec), {}, list[str]()
    for name, value in given.items():
        if name not in declared:
            problems.append(f"space.{name}: the stack {spec.stack} has no such parameter; {nearest(name, declared)}")
            continue
        try:
            found[name] = _range(name, value, _is_whole(declared[name][0]))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return found or {
        name: Range(each.low, each.high, each.log, _is_whole(kind))
        for name, (kind, each) in declared.items()
        if each.low is not None and each.high is not None
    }


def _is_whole(kind: Any) -> bool:
    return kind is int or int in get_args(kind) or (get_origin(kind) is Literal and isinstance(get_args(kind)[0], int))


def _range(name: str, value: Any, whole: bool) -> Range:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, int | float) for each in value):
        value = {"low": value[0], "high": value[1]}
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list) and value["choices"] and len(value) == 1:
        return Range(choices=tuple(value["choices"]))
    numbers = isinstance(value, Mapping) and all(isinstance(value.get(each), int | float) for each in ("low", "high"))
    if not numbers or set(value) - {"low", "high", "log"}:
        raise UserError(
            f"space.{name}: expected [low, high], a mapping of low, high and perhaps log, or of choices, but got {value!r}"
        )
    if value["low"] >= value["high"]:
        raise UserError(f"space.{name}: goes from {value['low']:g} to {value['high']:g}; the lower end must come first")
    if value.get("log") and value["low"] <= 0:
        raise UserError(f"space.{name}: a logarithmic range must begin above 0, but begins at {value['low']:g}")
    return Range(float(value["low"]), float(value["high"]), bool(value.get("log")), whole)

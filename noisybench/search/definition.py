"""Definition of a hyperparameter search: the stack, its search space, and how trials are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from noisybench.config.overrides import override
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError, nearest

if TYPE_CHECKING:
    import optuna

SETTINGS = ("trials", "seeds", "evaluation_seeds", "sampler", "pruner", "objective", "heartbeat_interval")
"""Fields of a search beside its base specification and its space."""

SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "random": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
}
"""Optuna class of each sampler."""

PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "hyperband": "HyperbandPruner",
    "halving": "SuccessiveHalvingPruner",
    "wilcoxon": "WilcoxonPruner",
}
"""Optuna class of each pruner."""

OBJECTIVE_LABELS: dict[str, Literal["noisy", "clean"]] = {"noisy_val": "noisy", "clean_val": "clean"}
"""Validation labels that each objective reads. The test split is deliberately missing."""

COST = "cost"
"""Second objective: seconds of training."""


@dataclass(frozen=True)
class ParameterRange:
    """Search range of one parameter: an interval of numbers or a list of choices.

    Attributes:
        low: lower end of the interval.
        high: upper end of the interval.
        log: True to sample on a logarithmic scale.
        integer: True to sample integers only.
        choices: allowed values instead of an interval.

    Examples:
        >>> ParameterRange(0.5, 0.99).as_dict()
        {'low': 0.5, 'high': 0.99}
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """Sample a value for a trial."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        assert self.low is not None
        assert self.high is not None
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def as_dict(self) -> dict[str, Any]:
        """Return the range as JSON-like data, as a search file writes it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Search:
    """Hyperparameter search over one stack in one setting.

    Attributes:
        name: default name of the study.
        base: specification of a run whose stack has the parameters.
        space: ranges by ``MITIGATION.PARAMETER``; empty if the stack has nothing to search, so that its defaults are ranked.
        trials: number of trials, including pruned ones.
        seeds: seeds of every trial, whose value is the mean over them.
        evaluation_seeds: fresh seeds to retrain the best configuration and the defaults with.
        sampler: key of `SAMPLERS`.
        pruner: key of `PRUNERS`; prunes after epochs with one seed, and after seeds with several.
        objective: `noisy_val` or `clean_val`, optionally followed by `cost`.
        heartbeat_interval: seconds between heartbeats of a trial; it is re-queued after four missed ones.

    Examples:
        >>> search = make_search("elr on digits", {"mitigations": "elr"}, {}, {"trials": 5})
        >>> search.defaults
        {'elr.beta': 0.7, 'elr.reg_weight': 3.0}
        >>> search.final_spec({"elr.beta": 0.9, "elr.reg_weight": 3.0}, seed=0).stack
        'elr(beta=0.9) (tuned, 5 trials)'
    """

    name: str
    base: dict[str, Any]
    space: dict[str, ParameterRange]
    trials: int = 20
    seeds: tuple[int, ...] = (1000,)
    evaluation_seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str = "tpe"
    pruner: str = "median"
    objective: tuple[str, ...] = ("noisy_val",)
    heartbeat_interval: int = 15

    def spec(self, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the run of a configuration, without provenance."""
        return self._spec(values, seed, None)

    def trial_spec(self, values: Mapping[str, Any], seed: int, study_run: str) -> RunSpec:
        """Return the run of a trial, recorded below the MLflow run of the study."""
        return self._spec(values, seed, self._provenance(study_run))

    def final_spec(self, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the ranked run of a configuration, whose provenance is this search unless it has the defaults."""
        # Without provenance, the defaults are an ordinary run, which the store may already have.
        return self._spec(values, seed, None if dict(values) == self.defaults else self._provenance(None))

    def _provenance(self, study_run: str | None) -> dict[str, Any]:
        validation = OBJECTIVE_LABELS[self.objective[0]]
        return {"search": self.name, "trials": self.trials, "validation": validation, "trial_of": study_run}

    def _spec(self, values: Mapping[str, Any], seed: int, provenance: dict[str, Any] | None) -> RunSpec:
        raw = {**self.base, "seed": seed, "provenance": provenance}
        for name, value in values.items():
            raw = override(raw, ["mitigations", *name.split(".")], value)
        return resolve(raw)

    @property
    def stack(self) -> str:
        """Name of the stack with its defaults."""
        return self.spec({}, 0).stack

    @property
    def defaults(self) -> dict[str, Any]:
        """Values of the searched parameters in the base specification."""
        parameters = {member.name: member.parameters for member in self.spec({}, 0).mitigations}
        return {name: parameters[name.split(".")[0]][name.split(".")[1]] for name in self.space}

    def fingerprint(self) -> dict[str, Any]:
        """Return the parts of the definition that must not change between the processes of one study."""
        return {
            "space": {name: parameter_range.as_dict() for name, parameter_range in sorted(self.space.items())},
            # Trials, sampler and pruner are missing on purpose: a study stays comparable when these change.
            "base": self.spec({}, 0).identity,
            "seeds": list(self.seeds),
            "objective": list(self.objective),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-like data, which `from_dict` reads."""
        return {
            "name": self.name,
            "base": self.spec({}, 0).as_dict(),
            "space": {name: parameter_range.as_dict() for name, parameter_range in self.space.items()},
            **{key: list(value) if isinstance(value := getattr(self, key), tuple) else value for key in SETTINGS},
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Search:
        """Return the search that `as_dict` described."""
        settings = {key: raw[key] for key in SETTINGS}
        return make_search(raw["name"], dict(raw["base"]), dict(raw["space"]), settings)


def make_search(name: str, base: dict[str, Any], space: dict[str, Any], settings: dict[str, Any]) -> Search:
    """Check the fields of a search and complete them.

    Args:
        name: name of the search.
        base: specification of a run.
        space: ranges by ``MITIGATION.PARAMETER``; if empty, all ranges that the stack's parameters declare.
        settings: values of `SETTINGS`; lists may be given as single values.

    Raises:
        UserError: every problem of the settings, or of the space.
    """
    settings = dict(settings)
    problems = []
    for key, classes in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if key in settings and settings[key] not in classes:
            problems.append(f"{key}: unknown {key} `{settings[key]}`; {nearest(str(settings[key]), classes)}")
    for key in ("seeds", "evaluation_seeds", "objective"):
        if key in settings:
            settings[key] = tuple(settings[key]) if isinstance(settings[key], list) else (settings[key],)
    for key in ("seeds", "evaluation_seeds"):
        seeds = settings.get(key, (0,))
        if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
            problems.append(f"{key}: must be integers from 0, but got {list(seeds)}")
    for key in ("trials", "heartbeat_interval"):
        if not isinstance(settings.get(key, 1), int) or settings.get(key, 1) < 1:
            problems.append(f"{key}: must be an integer from 1, but got {settings[key]!r}")
    objective = settings.get("objective", ("noisy_val",))
    if not objective or objective[0] not in OBJECTIVE_LABELS or objective[1:] not in ((), (COST,)):
        problems.append(
            f"objective: must be one of {', '.join(OBJECTIVE_LABELS)}, or [noisy_val,cost], but got {list(objective)}; "
            "the test split is never used for selection"
        )
    # Pruning compares intermediate values, which Optuna supports for a single objective only.
    if len(objective) > 1 and settings.setdefault("pruner", "none") != "none":
        problems.append(f"pruner: trials with two objectives cannot be pruned; drop pruner={settings['pruner']}")
    if problems:
        raise UserError(*problems)
    search = Search(name, base, _complete_space(resolve(base), space), **settings)
    # The best trial is partly best by chance; on the same seeds, that luck would count in the ranking.
    shared = set(search.seeds) & set(search.evaluation_seeds)
    if shared:
        raise UserError(f"evaluation_seeds: {sorted(shared)} are also seeds of the trials; use other seeds")
    return search


def declared_parameters(spec: RunSpec) -> dict[str, tuple[Any, Any]]:
    """Return type and declaration of the parameters of a stack by ``MITIGATION.PARAMETER``."""
    return {
        f"{member.name}.{name}": field
        for member in spec.mitigations
        for name, field in get_entry("mitigations", member.name).schema.fields.items()
    }


def _complete_space(spec: RunSpec, space: dict[str, Any]) -> dict[str, ParameterRange]:
    """Return the given ranges, or else all ranges that the parameters of the stack declare.

    Raises:
        UserError: a range is malformed, or the stack has no such parameter.
    """
    declared, ranges, problems = declared_parameters(spec), dict[str, ParameterRange](), list[str]()
    for name, value in space.items():
        if name not in declared:
            problems.append(f"space.{name}: unknown parameter of the stack {spec.stack}; {nearest(name, declared)}")
            continue
        try:
            ranges[name] = _parse_range(name, value, _is_integer(declared[name][0]))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return ranges or {
        name: ParameterRange(declaration.low, declaration.high, declaration.log, _is_integer(annotation))
        for name, (annotation, declaration) in declared.items()
        if declaration.low is not None and declaration.high is not None
    }


def _is_integer(annotation: Any) -> bool:
    # A literal of integers is searched over the integers of its range.
    if get_origin(annotation) is Literal:
        return isinstance(get_args(annotation)[0], int)
    # The second case is an optional integer, whose annotation is a union.
    return annotation is int or int in get_args(annotation)


def _parse_range(name: str, value: Any, integer: bool) -> ParameterRange:
    """Return the range that a user wrote.

    Raises:
        UserError: the range is malformed or empty.
    """
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        value = {"low": value[0], "high": value[1]}
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list) and value["choices"] and len(value) == 1:
        return ParameterRange(choices=tuple(value["choices"]))
    is_interval = isinstance(value, Mapping) and all(isinstance(value.get(end), int | float) for end in ("low", "high"))
    if not is_interval or set(value) - {"low", "high", "log"}:
        raise UserError(
            f"space.{name}: expected [low, high], a mapping with low, high and optionally log, or a mapping with choices, "
            f"but got {value!r}"
        )
    if value["low"] >= value["high"]:
        raise UserError(
            f"space.{name}: the lower end must be below the upper end, but got {value['low']:g} to {value['high']:g}"
        )
    if value.get("log") and value["low"] <= 0:
        raise UserError(f"space.{name}: a logarithmic range must start above 0, but got {value['low']:g}")
    return ParameterRange(float(value["low"]), float(value["high"]), bool(value.get("log")), integer)

"""Definition of a hyperparameter search: the stack, its search space, and how trials are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic

from noisybench.config.overrides import override
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.config.suite_fields import Seeds
from noisybench.config.validation import check_model, refuse, strict_config
from noisybench.errors import UserError, nearest, show
from noisybench.search.ranges import ParameterRange, is_integer, parse_range

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

JOINT_SAMPLERS = ("gp", "cmaes", "qmc")
"""Samplers that propose all parameters at once, and only those that all trials have."""

OBJECTIVE_LABELS: dict[str, Literal["noisy", "clean"]] = {"noisy_val": "noisy", "clean_val": "clean"}
"""Validation labels that each objective reads. The test split is deliberately missing."""

COST = "cost"
"""Second objective: seconds of training."""


class SearchSettings(pydantic.BaseModel):
    """Fields of a search beside its base specification and its space; `Search` documents them."""

    model_config = strict_config()

    trials: int = pydantic.Field(20, ge=1, le=10**6)
    seeds: Seeds = pydantic.Field([1000], min_length=1)
    evaluation_seeds: Seeds = pydantic.Field([0, 1, 2], min_length=1)
    sampler: str = "tpe"
    pruner: str = "median"
    objective: list[str] = ["noisy_val"]
    heartbeat_interval: int = pydantic.Field(15, ge=1, le=3600)


SETTINGS = tuple(SearchSettings.model_fields)
"""Names of the fields of `SearchSettings`."""


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
        tree: source files of all its runs.

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
    tree: SourceTree = field(default_factory=SourceTree, compare=False, repr=False)

    def spec(self, values: Mapping[str, Any], seed: int) -> RunSpec:
        """Return the run of a configuration, without provenance."""
        return self._spec(values, seed, None)

    def trial_spec(self, values: Mapping[str, Any], seed: int, study_run: str) -> RunSpec:
        """Return the run of a trial, recorded below the MLflow run of the study."""
        return self._spec(values, seed, self._provenance(study_run))

    def first_spec(self) -> RunSpec:
        """Return the run of the defaults, as a trial if there is something to search, to validate the search."""
        return self._spec(self.defaults, self.seeds[0], self._provenance("validation") if self.space else None)

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
        return resolve(raw, self.tree)

    @property
    def stack(self) -> str:
        """Name of the stack with its defaults."""
        return self.spec({}, 0).stack

    @property
    def defaults(self) -> dict[str, Any]:
        """Values of the searched parameters in the base specification."""
        parameters = {member.name: member.parameters for member in self.spec({}, 0).mitigations}
        return {name: parameters[name.split(".")[0]][name.split(".")[1]] for name in self.space}

    @property
    def unsampled_defaults(self) -> dict[str, Any]:
        """Defaults that no trial can sample, such as None where a number follows from other parameters."""
        return {name: value for name, value in self.defaults.items() if not self.space[name].has_type_of(value)}

    def fingerprint(self) -> dict[str, Any]:
        """Return the parts of the definition that must not change between the processes of one study."""
        return {
            "space": {name: parameter_range.as_dict() for name, parameter_range in sorted(self.space.items())},
            # Trials, sampler and pruner are missing on purpose: a study stays comparable when these change.
            "base": self.spec({}, 0).settings_hash,
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
        UserError: every problem of the settings, or of the space; no value of a range may be refused by a run.
    """
    fields = {
        key: [value] if key in ("seeds", "evaluation_seeds", "objective") and not isinstance(value, list) else value
        for key, value in settings.items()
    }
    problems = list[str]()
    checked = check_model(SearchSettings, fields, "", problems)
    if checked is None:
        raise UserError(*problems)
    for key, classes in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if getattr(checked, key) not in classes:
            value = getattr(checked, key)
            problems.append(f"{key}: unknown {key} {show(value, quotes=False)}; {nearest(value, classes)}")
    objective, pruner = tuple(checked.objective), checked.pruner
    if not objective or objective[0] not in OBJECTIVE_LABELS or objective[1:] not in ((), (COST,)):
        problems.append(
            f"objective: must be one of {', '.join(OBJECTIVE_LABELS)}, or [noisy_val,cost], but got "
            f"{show(checked.objective)}; the test split is never used for selection"
        )
    # Pruning compares intermediate values, which Optuna supports for a single objective only.
    if len(objective) > 1:
        pruner = pruner if "pruner" in settings else "none"
        if pruner != "none":
            problems.append(f"pruner: trials with two objectives cannot be pruned; drop pruner={pruner}")
    # The best trial is partly best by chance; on the same seeds, that luck would count in the ranking.
    if shared := sorted({*checked.seeds} & {*checked.evaluation_seeds}):
        problems.append(f"evaluation_seeds: {shared} are also seeds of the trials; use other seeds")
    refuse(problems)
    search = Search(
        name, base, _complete_space(resolve(base), space), checked.trials, tuple(checked.seeds),
        tuple(checked.evaluation_seeds), checked.sampler, pruner, objective, checked.heartbeat_interval,
    )  # fmt: skip
    if search.sampler in JOINT_SAMPLERS:
        refuse(
            f"sampler={search.sampler} needs a default in the space for every parameter, but {parameter} has {show(value)}, "
            "which the first trial uses; give the stack a value, or choose sampler=tpe"
            for parameter, value in search.unsampled_defaults.items()
        )
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
        if found := parse_range(name, value, declared[name][0], problems):
            ranges[name] = found
    refuse(problems)
    return ranges or {
        name: ParameterRange(declaration.low, declaration.high, declaration.log, is_integer(annotation))
        for name, (annotation, declaration) in declared.items()
        if declaration.low is not None and declaration.high is not None
    }

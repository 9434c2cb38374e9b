"""Searches: an Optuna study of a stack's parameters in a cell, by noisy validation, with equal trials for every stack.

The test split decides nothing: a trial is judged by the noisy validation split alone, trials train with seeds of their own, and
what is ranked in the end is the best configuration trained anew with fresh seeds, beside the defaults with the same ones.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import urllib.parse
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from noisybench.bench import default_workers
from noisybench.configuration import read_yaml, shipped
from noisybench.errors import UserError, nearest
from noisybench.registry import find
from noisybench.seeds import stable_hash
from noisybench.spec import WORKSPACE, RunSpec, override, parse_overrides, resolve
from noisybench.tracking import Store
from noisybench.workers import Event, Pool, context, preflight

if TYPE_CHECKING:
    import optuna

FIELDS = ("description", "base", "space", "trials", "seeds", "rerun_seeds", "sampler", "pruner", "heartbeat")
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
ATTEMPTS = 20
INTERRUPTED = "interrupted"


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
        base: specification of a run, whose stack has the parameters.
        space: ranges by ``MITIGATION.PARAMETER``.
        trials: how many.
        seeds: with which every trial trains; its value is their mean.
        rerun_seeds: fresh ones, with which the best configuration and the defaults are trained in the end.
        sampler: name of what proposes.
        pruner: name of what stops hopeless trials: after epochs, or after seeds where there are several.
        heartbeat: seconds between signs of life of a trial; after four without one it counts as dead, and is tried again.
    """

    base: dict[str, Any]
    space: dict[str, Range]
    trials: int = 20
    seeds: tuple[int, ...] = (1000,)
    rerun_seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str = "tpe"
    pruner: str = "median"
    heartbeat: int = 15

    def spec(self, values: Mapping[str, Any], seed: int, trial_of: str | None = None) -> RunSpec:
        """The run of a configuration."""
        raw = {**self.base, "seed": seed}
        if trial_of:
            raw["execution"] = {**raw.get("execution", {}), "trial_of": trial_of}
        for name, value in values.items():
            raw = override(raw, ["mitigations", *name.split(".")], value)
        return resolve(raw)

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of the parameters where nothing is searched for."""
        stack = {each.name: each.parameters for each in self.spec({}, 0).mitigations}
        return {name: stack[name.split(".")[0]][name.split(".")[1]] for name in self.space}


def read_search(name: str, arguments: list[str]) -> Search:
    """A search by the name of a shipped one, a YAML file, or a recipe, whose stack is searched with all declared ranges.

    Args:
        name: of the search or recipe.
        arguments: overrides of its base, and of its own fields such as ``trials=50`` or ``space.elr.beta=[0.5,0.9]``.

    Raises:
        UserError: every problem found.
    """
    if name in shipped("searches") or name.endswith((".yaml", ".yml")):
        raw = read_yaml("searches", name)
    elif name in shipped("recipes"):
        raw = {"base": {"recipe": name}}
    else:
        known = {*shipped("searches"), *shipped("recipes")}
        raise UserError(
            f"unknown search `{name}`; {nearest(name, known)} (a search, a recipe, or the path of a .yaml file)"
        )
    unknown = [key for key in raw if key not in FIELDS]
    if unknown:
        raise UserError(*(f"{name}: {key}: a search has no such field; {nearest(key, FIELDS)}" for key in unknown))
    base = dict(raw.get("base") or {})
    base = {**(read_yaml("recipes", base.pop("recipe")) if "recipe" in base else {}), **base}
    base.pop("description", None)
    given = dict(raw.get("space") or {})
    fields = {key: raw[key] for key in FIELDS[3:] if key in raw}
    for path, values in parse_overrides(arguments):
        if path[0] == "space":
            given[".".join(path[1:])] = values[0]
        elif path[0] in FIELDS[3:] and len(path) == 1:
            fields[path[0]] = values if len(values) > 1 else values[0]
        elif len(values) > 1:
            raise UserError(f"{'.'.join(path)}: a search has one cell and one stack; give one value")
        else:
            base = override(base, path, values[0])
    return _checked(base, given, fields)


def _checked(base: dict[str, Any], given: dict[str, Any], fields: dict[str, Any]) -> Search:
    problems = []
    for key, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if key in fields and fields[key] not in known:
            problems.append(f"{key}: unknown {key} `{fields[key]}`; {nearest(str(fields[key]), known)}")
    for key in ("seeds", "rerun_seeds"):
        if key in fields:
            fields[key] = tuple(fields[key]) if isinstance(fields[key], list) else (fields[key],)
            if not fields[key] or not all(isinstance(each, int) and each >= 0 for each in fields[key]):
                problems.append(f"{key}: give whole numbers from 0 up, but got {list(fields[key])}")
    for key in ("trials", "heartbeat"):
        if not isinstance(fields.get(key, 1), int) or fields.get(key, 1) < 1:
            problems.append(f"{key}: must be a whole number from 1 up, but got {fields[key]!r}")
    if problems:
        raise UserError(*problems)
    found = Search(base, _space(resolve(base), given), **fields)
    if set(found.seeds) & set(found.rerun_seeds):
        raise UserError(
            f"rerun_seeds: {sorted(set(found.seeds) & set(found.rerun_seeds))} also choose the configuration; take others"
        )
    return found


def _space(spec: RunSpec, given: dict[str, Any]) -> dict[str, Range]:
    """Declared ranges of the stack's parameters, or those that are given.

    Raises:
        UserError: a range is upside down or not allowed, the stack has no such parameter, or there is nothing to search.
    """
    declared, found, problems = {}, {}, list[str]()
    for member in spec.mitigations:
        for name, (kind, each) in find("mitigations", member.name).schema.fields.items():
            declared[f"{member.name}.{name}"] = kind, each
    for name, value in given.items():
        if name not in declared:
            problems.append(f"space.{name}: the stack {spec.stack} has no such parameter; {nearest(name, declared)}")
            continue
        kind, each = declared[name]
        try:
            found[name] = _range(name, value, _is_whole(kind))
        except UserError as error:
            problems += error.problems
    if not given:
        found = {
            name: Range(each.low, each.high, each.log, _is_whole(kind))
            for name, (kind, each) in declared.items()
            if each.low is not None and each.high is not None
        }
    if not found and not problems:
        problems.append(
            f"space: {spec.stack} has no parameter with a declared range; give one, such as space.NAME.PARAMETER=[0,1]"
        )
    if problems:
        raise UserError(*problems)
    return found


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


# The study


def open_study(search: Search, name: str, url: str | None) -> optuna.Study:
    """The study of that name, made where there is none.

    Args:
        search: what is searched for.
        name: of the study.
        url: of a relational database; by default an SQLite file in the working folder.

    Raises:
        UserError: the storage cannot be reached, or the study has another space or base.
    """
    import optuna

    # Heartbeats are marked experimental, and expected of Optuna's own loop; ours gives them itself.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if url is None:
        WORKSPACE.mkdir(exist_ok=True)
        url = f"sqlite:///{(WORKSPACE / 'searches.db').as_posix()}"
    try:
        storage = _storage(url, search.heartbeat)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=getattr(optuna.pruners, PRUNERS[search.pruner])(),
        )
        # A process that takes up a study must not begin the same random numbers again.
        seed = stable_hash("search", name, len(study.trials), os.getpid() if study.trials else 0) % 2**31
        study.sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=seed)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        parts = urllib.parse.urlsplit(url)
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise UserError(
            f"the storage {place} cannot be used ({reason}); check the address, or that nobody locks it"
        ) from None
    _same_question(search, study)
    return study


def _storage(url: str, heartbeat: int) -> Any:
    """A relational storage; where another process makes its tables just now, a little later."""
    import optuna

    again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3)
    for left in (2, 1, 0):
        try:
            return optuna.storages.RDBStorage(
                url, heartbeat_interval=heartbeat, grace_period=4 * heartbeat, heartbeat_stale_trial_callback=again
            )
        except Exception:
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def _same_question(search: Search, study: optuna.Study) -> None:
    """Note what is searched for, or hold it against what is noted."""
    meaning: dict[str, Any] = {
        "space": {name: each.as_dict() for name, each in sorted(search.space.items())},
        "base": search.spec({}, 0).identity,
        "seeds": list(search.seeds),
    }
    noted = study.user_attrs.get("search")
    if noted is None:
        study.set_user_attr("search", meaning)
        study.enqueue_trial(search.defaults, user_attrs={"defaults": True})
        return
    noted = json.loads(json.dumps(noted))
    if noted != meaning:
        names = sorted({*noted["space"], *meaning["space"]})
        changed = [
            f"{name}: {noted['space'].get(name, 'not searched')} -> {meaning['space'].get(name, 'not searched')}"
            for name in names
            if noted["space"].get(name) != meaning["space"].get(name)
        ]
        changed += [f"{key}: {noted[key]} -> {meaning[key]}" for key in ("base", "seeds") if noted[key] != meaning[key]]
        raise UserError(
            f"the study `{study.study_name}` has asked another question ({'; '.join(changed)}); give this one another name by "
            "--study"
        )


@dataclass
class _Trial:
    """A trial under way."""

    trial: optuna.Trial
    values: dict[str, Any]
    scores: list[float] = field(default_factory=list)
    last: float | None = None
    pruned: bool = False


class Driver:
    """Asks a study for trials, trains them in processes, and tells it what came out."""

    def __init__(self, search: Search, study: optuna.Study, store: Store, parent: str) -> None:
        self._search, self._study, self._parent = search, study, parent
        self._trials: dict[str, _Trial] = {}
        self._next: list[RunSpec] = []
        self._uri, self._beat = store.uri, 0.0

    def run(
        self, workers: int | None, show: Callable[[Event, float | None], None], interrupted: Callable[[], int]
    ) -> None:
        """Go on until the study has its trials.

        Raises:
            UserError: the configuration of the search is refused; nothing has been trained then.
        """
        first = self._search.spec(self._search.defaults, self._search.seeds[0], self._parent)
        ctx = context(first.execution.threads)
        facts = preflight(ctx, [first])
        count, pool = workers or default_workers([first], facts["gpu"]), Pool(ctx, self._uri)
        try:
            while self._trials or self._used() < self._search.trials:
                level = interrupted()
                if level:
                    pool.stop()
                if level > 1:
                    pool.kill()
                while not level and len(pool) < count and (self._next or self._left()):
                    show(pool.start(self._next.pop() if self._next else self._ask()), None)
                if level and not len(pool):
                    break
                if not len(pool):
                    time.sleep(1)  # others are busy with what is left, or have died
                for event in pool.events():
                    self._take(event, pool)
                    show(event, None)
                self._live()
        finally:
            pool.kill()
            self._give_up()

    def _used(self) -> int:
        """Trials that are over; those that were interrupted, or whose process died, are asked for again."""
        return len(over(self._study))

    def _left(self) -> bool:
        """Whether further trials are to be asked for."""
        running = self._study.get_trials(deepcopy=False, states=(_states().RUNNING,))
        return self._used() + len(running) < self._search.trials

    def _ask(self) -> RunSpec:
        """The first run of a new trial; what was tried already, or is under way, is not tried again."""
        for _ in range(ATTEMPTS):
            trial = self._study.ask()
            self._sign(trial)  # whoever dies before the first sign of life would never be missed
            values = {name: each.suggest(trial, name) for name, each in self._search.space.items()}
            states = _states()
            others = self._study.get_trials(deepcopy=False, states=(states.RUNNING, states.COMPLETE, states.PRUNED))
            if not any(each.params == values and each.number != trial.number for each in others):
                return self._begin(_Trial(trial, values), 0)
            self._study.tell(trial, state=states.FAIL)
        raise UserError(
            f"the sampler has proposed what was tried already {ATTEMPTS} times, so the space seems to be used up; ask for fewer "
            "trials, or search a larger space under another name"
        )

    def _begin(self, trial: _Trial, number: int) -> RunSpec:
        spec = self._search.spec(trial.values, self._search.seeds[number], self._parent)
        self._trials[spec.identity] = trial
        return spec

    def _take(self, event: Event, pool: Pool) -> None:
        trial = self._trials.get(event.spec.identity)
        if trial is None or event.kind in ("start", "auxiliary"):
            return
        if event.kind == "epoch" and event.data["noisy_val"] is None:
            raise UserError(
                "dataset.validation_fraction: a search is judged by noisy validation, but there is no such split"
            )
        several = len(self._search.seeds) > 1
        if event.kind == "epoch":
            trial.last = event.data["noisy_val"]
            if not several and trial.last is not None:
                trial.trial.report(trial.last, event.data["epoch"])
                if event.data["epoch"] + 1 < event.data["epochs"] and trial.trial.should_prune():
                    trial.pruned = True
                    pool.stop(event.spec.identity)
            return
        del self._trials[event.spec.identity]
        if event.kind == "failed":
            self._end(trial, "FAIL", event.data["reason"])
        elif event.kind == "stopped" and not trial.pruned:
            self._end(trial, "FAIL", INTERRUPTED)
            self._study.enqueue_trial(trial.values)
        elif trial.pruned and event.kind == "stopped":
            shutil.rmtree(event.spec.folder(), ignore_errors=True)
            self._end(trial, "PRUNED")
        else:
            assert trial.last is not None
            trial.scores.append(trial.last)
            if several:
                trial.trial.report(trial.last, len(trial.scores) - 1)
            if len(trial.scores) == len(self._search.seeds):
                self._end(trial, "COMPLETE")
            elif several and trial.trial.should_prune():
                self._end(trial, "PRUNED")
            else:
                self._next.append(self._begin(trial, len(trial.scores)))

    def _end(self, trial: _Trial, state: str, reason: str = "") -> None:
        if reason:
            trial.trial.set_user_attr("reason", reason)
        value = sum(trial.scores) / len(trial.scores) if state == "COMPLETE" else None
        self._study.tell(trial.trial, value, state=_states()[state])

    def _live(self) -> None:
        """Give signs of life of all trials under way, and have those tried again whose process gives none."""
        import optuna

        if time.monotonic() - self._beat < self._search.heartbeat:
            return
        self._beat = time.monotonic()
        for each in self._under_way():
            self._sign(each.trial)
        optuna.storages.fail_stale_trials(self._study)

    def _sign(self, trial: optuna.Trial) -> None:
        storage: Any = self._study._storage
        storage.record_heartbeat(trial._trial_id)

    def _under_way(self) -> list[_Trial]:
        return list({id(each): each for each in self._trials.values()}.values())

    def _give_up(self) -> None:
        """Whatever is still under way is asked for again by the next process."""
        for trial in self._under_way():
            self._end(trial, "FAIL", INTERRUPTED)
            self._study.enqueue_trial(trial.values)


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState


def over(study: optuna.Study) -> list[Any]:
    """Trials that are over: complete, pruned, or failed for a reason of their own."""
    states = _states()
    return [
        each
        for each in study.get_trials(deepcopy=False)
        if each.state in (states.COMPLETE, states.PRUNED)
        or (each.state == states.FAIL and each.user_attrs.get("reason", INTERRUPTED) != INTERRUPTED)
    ]


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        best: values of the best complete trial.
        score: its mean noisy validation score.
        default_score: that of the defaults; None where their trial was pruned or failed.
        trials: how many ended how, by state.
    """

    best: dict[str, Any]
    score: float
    default_score: float | None
    trials: dict[str, int]


def outcome(study: optuna.Study) -> Found:
    """The best configuration of a study.

    Raises:
        UserError: no trial is complete.
    """
    states = _states()
    complete = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
    counts = {state.name.lower(): 0 for state in (states.COMPLETE, states.PRUNED, states.FAIL)}
    for each in over(study):
        counts[each.state.name.lower()] += 1
    if not complete:
        reasons = sorted({each.user_attrs["reason"] for each in over(study) if "reason" in each.user_attrs})
        raise UserError(
            f"the study `{study.study_name}` has no complete trial ({counts['pruned']} pruned, {counts['fail']} failed"
            f"{': ' + reasons[0] if reasons else ''}); run it with more trials, or another pruner under another name"
        )
    best = max(complete, key=lambda each: each.value or 0.0)
    defaults = next((each.value for each in complete if each.user_attrs.get("defaults")), None)
    return Found(dict(best.params), best.value or 0.0, defaults, counts)


def pictures(study: optuna.Study, folder: Path) -> None:
    """Draw the history of a study, the importance of its parameters and its trials, where there is enough for it."""
    import matplotlib as mpl
    import optuna

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kinds = {"history": "plot_optimization_history", "timeline": "plot_timeline"}
    if len(study.get_trials(deepcopy=False, states=(_states().COMPLETE,))) > 1:
        kinds |= {"importances": "plot_param_importances", "parallel": "plot_parallel_coordinate"}
    for name, function in kinds.items():
        axes: Any = getattr(optuna.visualization.matplotlib, function)(study)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=90)
        plt.close(figure)

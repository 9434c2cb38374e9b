"""Suites: cells x stacks x seeds. Expand, skip what is finished, execute, and say what happened."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisybench.configuration import read_yaml
from noisybench.errors import UserError, nearest
from noisybench.records import RunRecord
from noisybench.spec import RunSpec, override, parse_overrides, resolve
from noisybench.tracking import Store
from noisybench.workers import Engine, Event, Local, preflight, run_all

SUITE_FIELDS = ("description", "base", "cells", "datasets", "noise", "stacks", "seeds", "figures")
AXES = SUITE_FIELDS[2:-1]
CELL_FIELDS = ("task", "dataset", "noise")
FIGURE_FIELDS = ("title", "x", "y")


@dataclass
class Plan:
    """What a command is going to do.

    Attributes:
        specs: all runs, without repetition.
        todo: those that are not finished yet.
    """

    specs: list[RunSpec]
    todo: list[RunSpec]


def part_of(specs: Sequence[RunSpec], part: str | None) -> list[RunSpec]:
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


@dataclass
class Report:
    """How a suite ended: the runs by outcome; failed ones with their reason."""

    finished: list[RunSpec] = field(default_factory=list)
    stopped: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str, str]] = field(default_factory=list)
    not_started: int = 0


def read_suite(name: str, overrides: Iterable[str] = ()) -> list[RunSpec]:
    """The runs of a suite, seeds outermost, so that an interrupted suite has comparable runs of all stacks.

    Args:
        name: a shipped suite or the path of a YAML file.
        overrides: ``seeds=[0,1]`` and other fields of the suite, or fields of its base such as ``budget.epochs=5``.

    Raises:
        UserError: every problem found.
    """
    raw = read_yaml("suites", name)
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
    figures = read_yaml("suites", name).get("figures") or []
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
    base = dict(read_yaml("recipes", raw["recipe"])) if "recipe" in raw else {}
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


def make_plan(specs: Sequence[RunSpec], records: Iterable[RunRecord]) -> Plan:
    """Compare what is asked for with the finished runs of a store."""
    specs = _unique(specs)
    finished = {record.identity for record in records}
    return Plan(specs, [spec for spec in specs if spec.identity not in finished])


class Clock:
    """Estimates what runs will take, from recorded ones and from those that end meanwhile."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        for record in records:
            # A process takes a little longer than what is booked inside it.
            self._add(record.dataset, record.budget, record.stack, record.cost.wall_seconds + 1)

    def learn(self, spec: RunSpec, seconds: float) -> None:
        """Take in a run that has ended."""
        self._add(spec.dataset_label, spec.budget_hash, spec.stack, seconds)

    def _add(self, dataset: str, budget: str, stack: str, seconds: float) -> None:
        for key in ((dataset, budget, stack), (dataset, budget)):
            self._seconds.setdefault(key, []).append(seconds)

    def estimate(self, spec: RunSpec) -> float | None:
        """Seconds of a run: the mean of the same stack's, else of all in that cell's budget, else None."""
        cell = (spec.dataset_label, spec.budget_hash)
        known = self._seconds.get((*cell, spec.stack)) or self._seconds.get(cell)
        return statistics.fmean(known) if known else None

    def total(self, specs: Iterable[RunSpec]) -> float | None:
        """Seconds of all runs one after the other; None while nothing is known of one of them."""
        estimates = [self.estimate(spec) for spec in specs]
        return None if None in estimates else sum(each for each in estimates if each is not None)


def run_plan(
    plan: Plan,
    store: Store,
    clock: Clock,
    workers: int | None,
    show: Callable[[Event, float | None], None],
    interrupted: Callable[[], int],
    engine: Engine | None = None,
) -> Report:
    """Check and execute what is to be done.

    Args:
        plan: from `make_plan`.
        store: where runs are tracked.
        clock: knows what recorded runs took.
        workers: processes at a time; None to share the cores.
        show: told of each event, and of the seconds left as far as they can be estimated.
        interrupted: 0, or 1 to stop after the epochs in flight, or 2 to stop at once.
        engine: what executes the runs; by default processes on this machine.

    Raises:
        UserError: a run is refused; nothing has been trained then.
    """
    report = Report()
    if not plan.todo:
        return report
    local = Local(max(spec.execution.threads for spec in plan.todo))
    facts = preflight(local.context, plan.todo, elsewhere=engine is not None)
    engine = engine or local
    count = min(workers or engine.capacity(plan.todo, facts["gpu"]), len(plan.todo))
    progress = Progress(plan.todo, clock, count)
    for event in run_all(engine, plan.todo, count, store.uri, interrupted):
        progress.take(event)
        if event.kind == "finished":
            report.finished.append(event.spec)
        elif event.kind == "stopped":
            report.stopped.append(event.spec)
        elif event.kind == "failed":
            report.failed.append((event.spec, event.data["reason"], event.data["traceback"]))
            if event.data.get("died"):
                _record_death(store, event)
        show(event, progress.seconds_left())
    report.not_started = len(plan.todo) - len(report.finished) - len(report.stopped) - len(report.failed)
    return report


def _record_death(store: Store, event: Event) -> None:
    """A process that was killed could not record its own end."""
    file = event.spec.folder() / "run_id"
    if file.is_file():
        store.fail(file.read_text(), event.data["reason"], "")


class Progress:
    """How far the runs are, and how long the rest will take."""

    def __init__(self, todo: Sequence[RunSpec], clock: Clock, workers: int) -> None:
        self._waiting = {spec.identity: spec for spec in todo}
        self._started: dict[str, float] = {}
        self._share: dict[str, float] = {}
        self._clock, self._workers = clock, workers

    def take(self, event: Event) -> None:
        """Take in an event."""
        identity = event.spec.identity
        if event.kind == "start":
            self._started[identity], self._share[identity] = time.monotonic(), 0.0
        elif event.kind == "epoch":
            self._share[identity] = (event.data["epoch"] + 1) / event.data["epochs"]
        elif event.kind != "auxiliary":
            if event.kind == "finished":
                self._clock.learn(event.spec, time.monotonic() - self._started[identity])
            self._waiting.pop(identity, None)
            self._share.pop(identity, None)

    def seconds_left(self) -> float | None:
        """Estimate of the seconds until all is done; None while there is nothing to go by."""
        total = 0.0
        fallback = self._pace()
        for identity, spec in self._waiting.items():
            whole = self._clock.estimate(spec) or fallback
            if whole is None:
                return None
            total += whole * (1 - self._share.get(identity, 0.0))
        return total / min(self._workers, max(1, len(self._waiting)))

    def _pace(self) -> float | None:
        """Seconds of a whole run, from those under way."""
        now = time.monotonic()
        known = [(now - self._started[identity]) / share for identity, share in self._share.items() if share > 0]
        return statistics.fmean(known) if known else None

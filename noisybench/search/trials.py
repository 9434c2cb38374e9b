"""Trains the trials of a study, and what it found.

The test split decides nothing: a trial is judged by a validation split alone, trials train with seeds of their own, and what is
ranked in the end is the best configuration trained anew with fresh seeds, beside the defaults with the same ones.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.execution.engine import Event
from noisybench.execution.local import LocalExecutor
from noisybench.execution.preflight import preflight
from noisybench.search.definition import COST, Search
from noisybench.search.study import INTERRUPTED, over, trial_states

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 20
"""How often a sampler is asked for something new."""

DEATHS = 3
"""How often a trial is tried again whose process has died."""


@dataclass
class _Trial:
    """A trial under way."""

    trial: optuna.Trial
    values: dict[str, Any]
    scores: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    last: float | None = None
    seconds: float = 0.0
    pruned: bool = False


class Driver:
    """Asks a study for trials, trains them in processes, and tells it what came out."""

    def __init__(self, search: Search, study: optuna.Study, store: str, parent: str, epochs: int = 0) -> None:
        self._search, self._study, self._uri, self._parent = search, study, store, parent
        self._trials: dict[str, _Trial] = {}
        self._next: list[RunSpec] = []
        self._beat, self._trouble = 0.0, ""
        self.epochs = epochs
        """Epochs that were trained, those of pruned trials as well."""

    def run(
        self, workers: int | None, show: Callable[[Event, float | None], None], interrupted: Callable[[], int]
    ) -> None:
        """Go on until the study has its trials.

        Raises:
            UserError: the configuration of the search is refused, and nothing has been trained; or the store does not answer
                any more.
        """
        first = self._search.trial_spec(self._search.defaults, self._search.seeds[0], self._parent)
        engine = LocalExecutor(first.execution.threads)
        facts = preflight(engine.context, [first])
        count, pool = workers or engine.capacity([first], facts["gpu"]), engine.pool(self._uri)
        try:
            while self._trials or self._used() < self._search.trials:
                level = max(interrupted(), 1 if self._trouble else 0)
                if level:
                    pool.stop()
                if level > 1:
                    pool.kill()
                while not level and len(pool) < count and (spec := self._following()):
                    show(pool.start(spec), None)
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
            with contextlib.suppress(Exception):  # of a storage that is away; others find out by the missing heartbeat
                self._give_up()
        if self._trouble:
            raise UserError(f"the search has stopped: {self._trouble}")

    def _used(self) -> int:
        """Trials that are over; those that were interrupted, or whose process died, are asked for again."""
        return len(over(self._study))

    def _following(self) -> RunSpec | None:
        """The next run to start: another seed of a trial under way, or the first of a new trial, if any is left."""
        if self._next:
            return self._next.pop()
        known = trial_states()
        waiting = self._study.get_trials(deepcopy=False, states=(known.WAITING,))
        running = self._study.get_trials(deepcopy=False, states=(known.RUNNING,))
        if not waiting and self._used() + len(running) >= self._search.trials:
            return None
        return self._ask()

    def _ask(self) -> RunSpec | None:
        """The first run of a new trial; what was tried already, or is under way, is not tried again.

        None where another process has begun the last trial in the same moment.
        """
        for _ in range(ATTEMPTS):
            trial = self._study.ask()
            self._sign(trial)  # whoever dies before the first sign of life would never be missed
            values = {name: each.suggest(trial, name) for name, each in self._search.space.items()}
            known = trial_states()
            others = self._study.get_trials(deepcopy=False, states=(known.RUNNING, known.COMPLETE, known.PRUNED))
            earlier = [each for each in others if each.state == known.RUNNING and each.number < trial.number]
            if self._used() + len(earlier) >= self._search.trials:
                self._fail(trial, INTERRUPTED)
                return None
            if not any(each.params == values and each.number != trial.number for each in others):
                return self._begin(_Trial(trial, values), 0)
            self._fail(trial, INTERRUPTED)
        raise UserError(
            f"the sampler has proposed what was tried already {ATTEMPTS} times, so the space seems to be used up; ask for fewer "
            "trials, or search a larger space under another name"
        )

    def _begin(self, trial: _Trial, number: int) -> RunSpec:
        spec = self._search.trial_spec(trial.values, self._search.seeds[number], self._parent)
        self._trials[spec.identity] = trial
        trial.last, trial.seconds = None, 0.0
        return spec

    def _take(self, event: Event, pool: Any) -> None:
        trial = self._trials.get(event.spec.identity)
        if trial is None or event.kind in ("start", "auxiliary"):
            return
        if event.kind == "epoch":
            self._epoch(trial, event, pool)
            return
        del self._trials[event.spec.identity]
        if event.kind == "failed":
            self._broken(trial, event)
        elif event.kind == "stopped" and not trial.pruned:
            self._again(trial)
        elif trial.pruned and event.kind == "stopped":
            shutil.rmtree(event.spec.folder(), ignore_errors=True)
            self._end(trial, "PRUNED")
        else:
            self._trained(trial)

    def _epoch(self, trial: _Trial, event: Event, pool: Any) -> None:
        score = event.data[self._search.objective[0]]
        if score is None:
            raise UserError(
                f"objective: {self._search.objective[0]} is not known here: there is no validation split "
                "(dataset.validation_fraction), or its clean labels are unknown"
            )
        self.epochs += 1
        trial.last, trial.seconds = score, event.data["train_seconds"]
        if len(self._search.seeds) > 1 or len(self._search.objective) > 1:
            return
        trial.trial.report(score, event.data["epoch"])
        if event.data["epoch"] + 1 < event.data["epochs"] and trial.trial.should_prune():
            trial.pruned = True
            pool.stop(event.spec.identity)

    def _trained(self, trial: _Trial) -> None:
        """One more seed of a trial is done."""
        assert trial.last is not None
        trial.scores.append(trial.last)
        trial.costs.append(trial.seconds)
        several = len(self._search.seeds) > 1 and len(self._search.objective) == 1
        if several:
            trial.trial.report(trial.last, len(trial.scores) - 1)
        if len(trial.scores) == len(self._search.seeds):
            self._end(trial, "COMPLETE")
        elif several and trial.trial.should_prune():
            self._end(trial, "PRUNED")
        else:
            self._next.append(self._begin(trial, len(trial.scores)))

    def _broken(self, trial: _Trial, event: Event) -> None:
        """A trial that cannot be trained is over; one whose process died, or whose store is away, is tried again."""
        reason = event.data["reason"]
        deaths = trial.trial.user_attrs.get("deaths", 0)
        if event.data.get("away"):
            self._trouble = reason
            self._again(trial)
        elif event.data.get("died") and deaths < DEATHS:
            self._again(trial, {"deaths": deaths + 1})
        else:
            self._fail(trial.trial, reason)

    def _end(self, trial: _Trial, state: str) -> None:
        values = None
        if state == "COMPLETE":
            values = [sum(trial.scores) / len(trial.scores)]
            values += [sum(trial.costs) / len(trial.costs)] * (COST in self._search.objective)
        self._study.tell(trial.trial, values, state=trial_states()[state])

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=trial_states().FAIL)

    def _again(self, trial: _Trial, noted: dict[str, Any] | None = None) -> None:
        """End a trial, and have it asked for again."""
        self._fail(trial.trial, INTERRUPTED)
        kept = {key: value for key, value in trial.trial.user_attrs.items() if key != "reason"}
        self._study.enqueue_trial(trial.values, user_attrs={**kept, **(noted or {})})

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
            self._again(trial)
        self._trials = {}

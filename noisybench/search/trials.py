"""Training of a study's trials in parallel processes.

The test split decides nothing. Trials are compared by validation scores alone and train with seeds of their own; what is
ranked at the end is the best configuration, retrained with fresh seeds beside the defaults.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noisybench.config.spec import RunSpec
from noisybench.errors import StoreUnavailable, UserError
from noisybench.execution.durations import DurationEstimator
from noisybench.execution.engine import Event, RunPool
from noisybench.execution.local import LocalExecutor
from noisybench.execution.preflight import preflight
from noisybench.execution.scheduler import Scheduler
from noisybench.execution.time_limit import TimeLimit
from noisybench.search.configurations import enqueue, sample, trial_values
from noisybench.search.definition import COST, Search
from noisybench.search.progress import TrialProgress
from noisybench.search.study import INTERRUPTED, MAX_RETRIES, finished_trials, trial_states
from noisybench.tracking.store import Store
from noisybench.utils.text import counted

if TYPE_CHECKING:
    import optuna

MAX_DUPLICATE_PROPOSALS = 20
"""Number of configurations tried before that a sampler may propose in a row."""


@dataclass
class _Trial:
    """Trial in progress.

    Attributes:
        trial: Optuna's trial.
        values: parameter values of the configuration.
        scores: validation score of each finished seed.
        costs: training seconds of each finished seed.
        last_score: validation score after the latest epoch of the current seed.
        seconds: training seconds of the current seed.
        epochs: number of trained epochs of the current seed.
        pruned: True once the pruner has stopped the trial.
    """

    trial: optuna.Trial
    values: dict[str, Any]
    scores: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    last_score: float | None = None
    seconds: float = 0.0
    epochs: int = 0
    pruned: bool = False


class TrialRunner:
    """Train the trials that a study proposes in a pool of processes, and report their scores to the study.

    Args:
        search: definition of the search.
        study: opened study.
        store: tracking store of the runs.
        study_run: MLflow run of the study, whose children the trials become.
        epochs: number of epochs trained for the study so far.
    """

    def __init__(self, search: Search, study: optuna.Study, store: Store, study_run: str, epochs: int = 0) -> None:
        self._search, self._study, self._store, self._study_run = search, study, store, study_run
        self._trials: dict[str, _Trial] = {}
        self._pending: list[RunSpec] = []
        self._data: dict[str, str] = {}
        self._last_heartbeat, self._stop_reason = 0.0, ""
        self._silent = set[int]()
        self.epochs = epochs
        """Number of epochs trained for the study, including those of pruned trials."""

    def run(
        self,
        workers: int | None,
        on_event: Callable[[Event, float | None], None],
        stop_level: Callable[[], int],
        limit: TimeLimit | None = None,
    ) -> None:
        """Train until the study has its number of trials, or the time is over.

        Args:
            workers: number of parallel runs; None to use the available cores.
            on_event: function that receives each event, and the estimated seconds until all trials are done, if known.
            stop_level: function that returns 0 to continue, 1 to stop after the current epochs, 2 to stop immediately.
            limit: time limit of the command.

        Raises:
            UserError: the configuration is invalid, in which case nothing has been trained, or the tracking store has become
                unavailable, or the time limit is too short for any trial to come further.
        """
        first = self._search.trial_spec(self._search.defaults, self._search.seeds[0], self._study_run)
        self._data = first.data
        executor = LocalExecutor()
        device = preflight(executor.context, [first])
        capacity = workers or executor.capacity([first], device.is_gpu)
        pool = executor.pool(self._store.connection.uri)
        # Trials are no records: the first ones show how long an epoch takes.
        scheduler = Scheduler(limit, DurationEstimator([], device))
        progress = TrialProgress(self._search.trials, len(finished_trials(self._study)))
        try:
            while self._trials or len(finished_trials(self._study)) < self._search.trials:
                # An unavailable store or changed code acts like a first request to stop: active runs finish their epochs.
                level = max(stop_level(), scheduler.stop_level(), 1 if self._stop_reason else 0)
                if level:
                    pool.stop()
                if level > 1:
                    pool.kill()
                # Before a trial is asked for, whose configuration would be lost; all trials take about as long.
                has_time = scheduler.fits(first)
                while not level and has_time and len(pool) < capacity and (spec := self._next_spec()):
                    event = pool.start(spec, scheduler.deadline(spec))
                    scheduler.update(event)
                    on_event(event, progress.seconds_left())
                if (level or not has_time) and not len(pool):
                    break
                if not len(pool):
                    # The remaining trials belong to other processes, which finish them or miss their heartbeats.
                    time.sleep(1)
                for event in pool.events():
                    scheduler.update(event)
                    outcome = self._handle(event, pool)
                    is_end = event.kind not in ("epoch", "auxiliary")
                    # Also trials of other processes count, which only the study knows.
                    done = len(finished_trials(self._study)) if is_end else progress.done
                    event = progress.update(event, outcome, done, len(self._search.seeds))
                    on_event(event, progress.seconds_left())
                self._heartbeat_all()
        finally:
            pool.kill()
            # If the storage is unavailable, other processes notice the missing heartbeats instead.
            with contextlib.suppress(Exception):
                self._requeue_all()
        if self._stop_reason:
            raise UserError(f"the search has stopped: {self._stop_reason}")
        if not stop_level() and len(finished_trials(self._study)) < self._search.trials:
            scheduler.check_progress()

    def _next_spec(self) -> RunSpec | None:
        """Return the next seed of a trial in progress, or the first run of a new trial; None if no trial is left."""
        if self._pending:
            return self._pending.pop()
        states = trial_states()
        waiting = self._study.get_trials(deepcopy=False, states=(states.WAITING,))
        running = self._study.get_trials(deepcopy=False, states=(states.RUNNING,))
        # Re-queued trials are waiting, and take precedence over new ones.
        if not waiting and len(finished_trials(self._study)) + len(running) >= self._search.trials:
            return None
        return self._ask()

    def _ask(self) -> RunSpec | None:
        """Return the first run of a trial with a new configuration.

        Returns:
            None if another process started the last trial at the same time.

        Raises:
            UserError: the sampler keeps proposing configurations that were tried before.
        """
        states = trial_states()
        for _ in range(MAX_DUPLICATE_PROPOSALS):
            trial = self._study.ask()
            # A process that died before the first heartbeat would never be noticed.
            self._heartbeat(trial)
            values = sample(trial, self._search.space)
            # Without failed trials: a re-queued configuration would be a duplicate of its own first attempt.
            known = self._study.get_trials(deepcopy=False, states=(states.RUNNING, states.COMPLETE, states.PRUNED))
            # Two processes may ask for the last trial at once; the one with the lower number keeps it.
            earlier = [other for other in known if other.state == states.RUNNING and other.number < trial.number]
            if len(finished_trials(self._study)) + len(earlier) >= self._search.trials:
                self._fail(trial, INTERRUPTED)
                return None
            if not any(trial_values(other) == values and other.number != trial.number for other in known):
                return self._start_seed(_Trial(trial, values), 0)
            # With this reason, the duplicate does not count as one of the trials.
            self._fail(trial, INTERRUPTED)
        raise UserError(
            f"the sampler has proposed {MAX_DUPLICATE_PROPOSALS} configurations in a row that were tried before, so the space "
            "seems to be exhausted; reduce `trials`, or search a larger space with a new --study"
        )

    def _start_seed(self, trial: _Trial, number: int) -> RunSpec:
        """Return the run of a trial with one of its seeds."""
        spec = self._search.trial_spec(trial.values, self._search.seeds[number], self._study_run)
        # Trials are compared with each other, so that all of them must have been trained on the same data.
        if spec.data != self._data:
            raise UserError(
                "the files of the data have changed since the search started, so further trials could not be compared with "
                "those before; start a search of the changed data with a new --study"
            )
        self._trials[spec.identity] = trial
        trial.last_score, trial.seconds = None, 0.0
        return spec

    def _handle(self, event: Event, pool: RunPool) -> str:
        """Update the trial of an event, and return the outcome for the trial, see `TrialProgress.update`."""
        trial = self._trials.get(event.spec.identity)
        if trial is None or event.kind in ("start", "auxiliary"):
            return event.kind
        if event.kind == "epoch":
            self._handle_epoch(trial, event, pool)
            return event.kind
        # Before the trial is handled, which may start its next seed and add an entry again.
        del self._trials[event.spec.identity]
        self._describe_run(trial, event)
        if event.kind == "failed":
            self._handle_failure(trial, event)
            return "failed"
        if event.kind == "stopped" and not trial.pruned:
            self._requeue(trial)
            return "stopped"
        if event.kind == "stopped":
            # A pruned run is never resumed, so its checkpoint would only take space.
            shutil.rmtree(event.spec.run_dir(), ignore_errors=True)
            self._finish(trial, "PRUNED")
            return "pruned"
        return self._handle_seed(trial)

    def _describe_run(self, trial: _Trial, event: Event) -> None:
        """Give the MLflow run of a trial Optuna's number and the reason of pruning, and the trial the id of its run."""
        reason = ""
        if trial.pruned:
            reason = (
                f"{self._search.pruner} pruner: score {trial.last_score:.4f} after {counted(trial.epochs, 'epoch')}"
            )
        # Only for readers: an unavailable store is noticed by the runs themselves.
        with contextlib.suppress(StoreUnavailable):
            run_id = self._store.describe_trial(self._study_run, event.spec.identity, trial.trial.number, reason)
            if run_id is not None:
                trial.trial.set_user_attr(f"mlflow_run_seed_{event.spec.seed}", run_id)

    def _handle_epoch(self, trial: _Trial, event: Event, pool: RunPool) -> None:
        """Record the score of an epoch, and stop the run if the pruner says so."""
        score = event.data[self._search.objective[0]]
        if score is None:
            raise UserError(
                f"objective: {self._search.objective[0]} is unavailable: the dataset has no validation split "
                "(dataset.validation_fraction), or its clean labels are unknown"
            )
        self.epochs += 1
        trial.last_score, trial.seconds, trial.epochs = score, event.data["train_seconds"], event.data["epoch"] + 1
        # Optuna compares values reported at equal steps: with several seeds a step is a seed, not an epoch.
        if len(self._search.seeds) > 1 or len(self._search.objective) > 1:
            return
        trial.trial.report(score, event.data["epoch"])
        # After the last epoch there is nothing to save, and the complete trial informs the sampler better.
        if event.data["epoch"] + 1 < event.data["epochs"] and trial.trial.should_prune():
            trial.pruned = True
            pool.stop(event.spec.identity)

    def _handle_seed(self, trial: _Trial) -> str:
        """Record the score of a finished seed, then finish or prune the trial, or schedule its next seed; return which."""
        assert trial.last_score is not None
        trial.scores.append(trial.last_score)
        trial.costs.append(trial.seconds)
        prunes_seeds = len(self._search.seeds) > 1 and len(self._search.objective) == 1
        if prunes_seeds:
            trial.trial.report(trial.last_score, len(trial.scores) - 1)
        if len(trial.scores) == len(self._search.seeds):
            self._finish(trial, "COMPLETE")
            return "finished"
        if prunes_seeds and trial.trial.should_prune():
            self._finish(trial, "PRUNED")
            return "pruned"
        # The trial stays in progress while its next seed waits for a free process, so its heartbeats continue.
        self._pending.append(self._start_seed(trial, len(trial.scores)))
        return "seed"

    def _handle_failure(self, trial: _Trial, event: Event) -> None:
        """Re-queue a trial that did not fail by itself, such as one whose process died; fail it for any other reason."""
        reason = event.data["reason"]
        retries = trial.trial.user_attrs.get("retries", 0)
        if event.data.get("store_unavailable") or event.data.get("code_changed"):
            self._stop_reason = reason
            self._requeue(trial)
        # Limited, because a configuration that needs too much memory would be killed each time.
        elif event.data.get("killed") and retries < MAX_RETRIES:
            self._requeue(trial, {"retries": retries + 1})
        else:
            self._fail(trial.trial, reason)

    def _finish(self, trial: _Trial, state: str) -> None:
        """Report a complete or pruned trial to the study."""
        values = None
        if state == "COMPLETE":
            values = [sum(trial.scores) / len(trial.scores)]
            if COST in self._search.objective:
                values.append(sum(trial.costs) / len(trial.costs))
        self._study.tell(trial.trial, values, state=trial_states()[state])

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        """Report a failed trial to the study."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=trial_states().FAIL)

    def _requeue(self, trial: _Trial, attributes: dict[str, Any] | None = None) -> None:
        """Fail a trial as interrupted and enqueue its configuration again."""
        self._fail(trial.trial, INTERRUPTED)
        # Retries and the mark of the defaults belong to the configuration, the reason to the failed attempt.
        kept = {key: value for key, value in trial.trial.user_attrs.items() if key != "reason"}
        enqueue(self._study, trial.values, {**kept, **(attributes or {})})

    def _requeue_all(self) -> None:
        """Enqueue the trials in progress again, for the next process."""
        for trial in self._in_progress():
            self._requeue(trial)
        self._trials = {}

    def _heartbeat_all(self) -> None:
        """Send the heartbeats of all trials in progress, and re-queue trials of processes that have missed theirs."""
        import optuna

        # Monotonic: an adjusted system clock must not stop the heartbeats.
        if time.monotonic() - self._last_heartbeat < self._search.heartbeat_interval:
            return
        self._last_heartbeat = time.monotonic()
        for trial in self._in_progress():
            self._heartbeat(trial.trial)
        # Optuna never gives up a trial without any heartbeat, whose process ended right after it asked for the trial: one on its
        # behalf starts the grace period. Values follow the first heartbeat.
        running = self._study.get_trials(deepcopy=False, states=(trial_states().RUNNING,))
        for silent in running:
            if not silent.params and silent.number not in self._silent:
                self._silent.add(silent.number)
                self._heartbeat(silent)
        optuna.storages.fail_stale_trials(self._study)

    def _heartbeat(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> None:
        """Send the heartbeat of one trial."""
        # Private, but Optuna sends heartbeats only within its own loop.
        storage: Any = self._study._storage
        storage.record_heartbeat(trial._trial_id)

    def _in_progress(self) -> list[_Trial]:
        """Return the trials in progress, each once although several of its seeds may have run."""
        return list({id(trial): trial for trial in self._trials.values()}.values())

"""Run searches, then retrain the best configurations with fresh seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError, nearest, show
from noisybench.execution.engine import Event
from noisybench.execution.time_limit import TimeLimit
from noisybench.search.definition import Search
from noisybench.search.figures import plot_study
from noisybench.search.study import (
    StudyResult,
    changed_code,
    finished_trials,
    load_searches,
    open_study,
    study_result,
)
from noisybench.search.trials import TrialRunner
from noisybench.tracking.store import Store

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class SearchResult:
    """Search whose trials are finished.

    Attributes:
        search: definition of the search.
        study: best configurations and number of trials.
        epochs: number of epochs trained for the search by all commands, including those of pruned trials.
        changed_code: parts of the code that have changed since the trials, which were all finished before.
    """

    search: Search
    study: StudyResult
    epochs: int
    changed_code: list[str]


@dataclass(frozen=True)
class UnfinishedSearch:
    """Search that was interrupted.

    Attributes:
        search: definition of the search.
        finished: number of finished trials.
    """

    search: Search
    finished: int


def run_search(
    search: Search,
    storage: str | None,
    store: Store,
    workers: int | None,
    on_event: Callable[[Event, float | None], None],
    stop_level: Callable[[], int],
    limit: TimeLimit | None = None,
) -> SearchResult | UnfinishedSearch:
    """Train the remaining trials of a study and track its result.

    Args:
        search: definition of the search, whose name is that of the study.
        storage: URL of the database of studies; by default a file in the working directory.
        store: tracking store of the runs.
        workers: number of parallel runs; None to use the available cores.
        on_event: function that receives each event, and the estimated seconds until all trials are done, if known.
        stop_level: function that returns 0 to continue, 1 to stop after the current epochs, 2 to stop immediately.
        limit: time limit of the command.

    Returns:
        The result, or an unfinished search if it was interrupted or its time is over.

    Raises:
        UserError: the storage or the tracking store is unavailable, the study was created with a different definition, or no
            trial is complete.
    """
    with open_study(search, search.name, storage) as study:
        study_run = _study_run(search, study, store)
        runner = TrialRunner(search, study, store, study_run, study.user_attrs.get("epochs", 0))
        try:
            runner.run(workers, on_event, stop_level, limit)
        finally:
            # Also after an error or Ctrl-C, so that the cost of the search includes what was trained until then.
            study.set_user_attr("epochs", runner.epochs)
        # A request to stop that arrives after the last trial does not discard the result.
        if (stop_level() or limit is not None) and len(finished_trials(study)) < search.trials:
            return UnfinishedSearch(search, len(finished_trials(study)))
        result = study_result(study)
        metrics: dict[str, float] = {"epochs": runner.epochs}
        metrics |= {f"{name}/best": value for name, value in zip(search.objective, result.scores[0], strict=True)}
        metrics |= {f"trials/{state}": count for state, count in result.trials.items()}
        with tempfile.TemporaryDirectory() as folder:
            plot_study(study, Path(folder))
            store.finish_study(study_run, metrics, Path(folder))
        changed = changed_code(search, study)
    return SearchResult(search, result, runner.epochs, changed)


def _study_run(search: Search, study: optuna.Study, store: Store) -> str:
    """Return the MLflow run of a study, created if this store does not have it."""
    stored: str | None = study.user_attrs.get("mlflow_run")
    # The study may have been started with another tracking store, or its run may have been deleted.
    if stored is not None and store.runs.run_exists(stored):
        return stored
    parameters: dict[str, Any] = {
        "stack": search.stack,
        "objective": ", ".join(search.objective),
        "sampler": search.sampler,
        "pruner": search.pruner,
        **study.user_attrs["search"]["space"],
    }
    run_id = store.start_study(study.study_name, parameters)
    study.set_user_attr("mlflow_run", run_id)
    return run_id


def selected_runs(name: str, storage: str | None = None) -> list[RunSpec]:
    """Return the runs of the configurations that finished studies have selected, which may be the defaults.

    Args:
        name: name of a study, or of a search, whose studies have names that begin with it; or the path of its file.
        storage: URL of the database of studies; by default a file in the working directory.

    Raises:
        UserError: there is no such study, or one of them has trials left.
    """
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    searches = load_searches(None, storage)
    chosen = [search for search in searches if f"{search.name} ".startswith(f"{name} ")]
    if not chosen:
        known = nearest(name, [search.name for search in searches])
        raise UserError(f"no study has a name that begins with {show(name, quotes=False)}; {known}")
    specs = list[RunSpec]()
    for search in chosen:
        with open_study(search, search.name, storage) as study:
            if (finished := len(finished_trials(study))) < search.trials:
                raise UserError(
                    f"{finished} of {search.trials} trials of the study `{search.name}` are finished; finish it with "
                    "`noisybench search resume`"
                )
            best = study_result(study).best
        specs += [search.final_spec(values, seed) for values in best for seed in search.evaluation_seeds]
    return specs


def final_runs(results: Sequence[SearchResult], without_space: Sequence[Search] = ()) -> list[RunSpec]:
    """Return the runs to rank: defaults and best configurations with fresh seeds, seed by seed.

    Args:
        results: finished searches.
        without_space: searches of stacks that have nothing to search, whose defaults are ranked as well.
    """
    configurations = [(result.search, result.search.defaults) for result in results]
    configurations += [(search, {}) for search in without_space]
    configurations += [(result.search, values) for result in results for values in result.study.best]
    # Seed by seed, so that an interrupted command leaves complete blocks, which the paired tests need; a dictionary
    # keeps each seed once, in order.
    seeds = dict.fromkeys(seed for search, _ in configurations for seed in search.evaluation_seeds)
    return [
        search.final_spec(values, seed)
        for seed in seeds
        for search, values in configurations
        if seed in search.evaluation_seeds
    ]

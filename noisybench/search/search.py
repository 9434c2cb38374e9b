"""One search after the other: study, trials, pictures, and what is to be trained anew in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisybench.config.spec import RunSpec
from noisybench.execution.engine import Event
from noisybench.search.definition import Search
from noisybench.search.study import Found, opened, outcome, over, pictures
from noisybench.search.trials import Driver
from noisybench.tracking.store import Store

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Searched:
    """A search that has its trials.

    Attributes:
        search: what was asked.
        found: what came out.
        epochs: how many were trained for it by this command.
    """

    search: Search
    found: Found
    epochs: int


def conduct(
    search: Search,
    storage: str | None,
    store: Store,
    workers: int | None,
    show: Callable[[Event, float | None], None],
    interrupted: Callable[[], int],
) -> Searched | None:
    """Train the trials that a study still lacks, and track what it found.

    Args:
        search: what is asked; its name is that of the study.
        storage: URL of the studies' database; by default a file in the working folder.
        store: where runs are tracked.
        workers: processes at a time; None to share the cores.
        show: told of each event.
        interrupted: 0, or 1 to stop after the epochs in flight, or 2 to stop at once.

    Returns:
        None where it was interrupted.

    Raises:
        UserError: the storage or the store cannot be used, the study has asked something else, or no trial is complete.
    """
    with opened(search, search.name, storage) as study:
        parent = _parent(search, study, store)
        driver = Driver(search, study, store.connection.uri, parent, study.user_attrs.get("epochs", 0))
        try:
            driver.run(workers, show, interrupted)
        finally:
            study.set_user_attr("epochs", driver.epochs)
        if interrupted() and len(over(study)) < search.trials:
            return None
        found = outcome(study)
        with tempfile.TemporaryDirectory() as folder:
            pictures(study, Path(folder))
            told = {f"{name}/best": value for name, value in zip(search.objective, found.scores[0], strict=True)}
            told |= {f"trials/{state}": count for state, count in found.trials.items()} | {"epochs": driver.epochs}
            store.finish_study(parent, told, Path(folder))
    return Searched(search, found, driver.epochs)


def _parent(search: Search, study: optuna.Study, store: Store) -> str:
    """The MLflow run of a study, made where there is none in this store."""
    noted: str | None = study.user_attrs.get("mlflow_run")
    if noted is not None and store.runs.run_exists(noted):
        return noted
    description: dict[str, Any] = {
        "stack": search.stack,
        "objective": ", ".join(search.objective),
        "sampler": search.sampler,
        "pruner": search.pruner,
        **study.user_attrs["search"]["space"],
    }
    made = store.start_study(study.study_name, description)
    study.set_user_attr("mlflow_run", made)
    return made


def final_runs(searched: Sequence[Searched], untuned: Sequence[Search] = ()) -> list[RunSpec]:
    """What is ranked: defaults and best configurations with fresh seeds, seeds outermost.

    Args:
        searched: searches that are done.
        untuned: stacks without anything to search, whose defaults are ranked beside them.
    """
    configurations = [(each.search, each.search.defaults) for each in searched] + [(each, {}) for each in untuned]
    configurations += [(each.search, values) for each in searched for values in each.found.best]
    seeds = dict.fromkeys(seed for search, _ in configurations for seed in search.rerun_seeds)
    return [
        search.final_spec(values, seed)
        for seed in seeds
        for search, values in configurations
        if seed in search.rerun_seeds
    ]

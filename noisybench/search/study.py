"""Optuna studies: storage, definition, finished trials and results."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from noisybench.config.spec import STUDIES
from noisybench.errors import UserError, nearest
from noisybench.search.configurations import UNSAMPLED, enqueue, trial_values
from noisybench.search.definition import PRUNERS, SAMPLERS, Search
from noisybench.search.storage import create_study_database, quiet_optuna
from noisybench.tracking.probe import hide_password
from noisybench.utils.seeds import stable_hash

if TYPE_CHECKING:
    import optuna

DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize")
"""Optuna's directions of the validation score and of the cost."""

METRIC_NAMES = {
    "noisy_val": "noisy validation score",
    "clean_val": "clean validation score",
    "cost": "training time (s)",
}
"""Names of the objectives in Optuna's plots and dashboard."""

INTERRUPTED = "interrupted"
"""Reason of a failed trial that is re-queued."""

MAX_RETRIES = 3
"""Number of times that a trial is re-queued after its process has died."""

CONNECTION_ATTEMPTS = 3
"""Number of attempts to open a storage whose tables another process may be creating."""


@contextlib.contextmanager
def storage_errors(url: str, opening: bool = False) -> Iterator[None]:
    """Turn the errors of an unavailable storage into a message.

    Args:
        url: address of the storage.
        opening: True while the storage is opened, when its address, driver or tables may be wrong as well.

    Raises:
        UserError: the storage cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    kinds: tuple[type[Exception], ...] = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
    if opening:
        kinds = (*kinds, RuntimeError, ImportError, ValueError)
    try:
        yield
    except kinds as error:
        # Optuna wraps the error of the database driver, which has the actual reason.
        text = str(error.__cause__ or error).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        if "no longer compatible" in text or "revision" in text or "upgrade" in text.lower():
            reason = (
                f"its tables belong to another version of Optuna: {reason}; see `optuna storage upgrade --help`, or use a "
                "separate database for studies"
            )
        raise UserError(
            f"the storage {hide_password(url)} cannot be used ({reason}); check its address, that it is running, and that "
            "no other process locks it. Nothing is lost: rerun the same command to resume"
        ) from None


def storage_url(url: str | None) -> str:
    """Return the address of the storage: the given one, or a file in the working directory."""
    if url is not None:
        return url
    return f"sqlite:///{STUDIES.as_posix()}"


@contextlib.contextmanager
def open_study(search: Search, name: str, url: str | None) -> Iterator[optuna.Study]:
    """Open the study of a search, creating it if needed, and close its connections at the end.

    Args:
        search: definition of the search.
        name: name of the study.
        url: address of a relational database; by default an SQLite file in the working directory.

    Raises:
        UserError: the storage cannot be used, or the study was created with a different definition or has trials of other
            code.
    """
    import optuna

    url = storage_url(url)
    with _open_storage(url, search.heartbeat_interval) as storage:
        with storage_errors(url, opening=True):
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=DIRECTIONS[: len(search.objective)],
                load_if_exists=True,
                pruner=getattr(optuna.pruners, PRUNERS[search.pruner])(),
            )
            # A process that resumes or joins a study must not repeat the random numbers of the earlier ones.
            seed = stable_hash("search", name, len(study.trials), os.getpid() if study.trials else 0) % 2**31
            names = [METRIC_NAMES[objective] for objective in search.objective]
            if study.metric_names != names:
                study.set_metric_names(names)
            study.sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=seed)
        with storage_errors(url):
            _check_same_definition(search, study)
            yield study


def load_searches(name: str | None, url: str | None) -> list[Search]:
    """Load the definitions of studies from a storage, to resume them.

    Args:
        name: name of a study; None for all studies.
        url: address of the storage; None for the file in the working directory.

    Raises:
        UserError: the storage has no such study, or none at all.
    """
    url = storage_url(url)
    with _open_storage(url, heartbeat_interval=60) as storage, storage_errors(url, opening=True):
        attributes = {
            study.study_name: storage.get_study_user_attrs(study._study_id) for study in storage.get_all_studies()
        }
    definitions = {study: values["definition"] for study, values in attributes.items() if "definition" in values}
    if name is not None and name not in definitions:
        raise UserError(f"no search is named `{name}` in {hide_password(url)}; {nearest(name, definitions)}")
    if not definitions:
        raise UserError(f"{hide_password(url)} contains no search; start one, e.g. `noisybench search digits-elr`")
    return [
        Search.from_dict({**definitions[study], "name": study}) for study in ([name] if name else sorted(definitions))
    ]


@contextlib.contextmanager
def _open_storage(url: str, heartbeat_interval: int) -> Iterator[optuna.storages.RDBStorage]:
    """Open a relational storage and close its connections at the end.

    Raises:
        UserError: the storage cannot be reached.
    """
    quiet_optuna()
    with storage_errors(url, opening=True):
        if url.startswith("sqlite:///"):
            create_study_database(Path(url.removeprefix("sqlite:///")).absolute())
        storage = _connect(url, heartbeat_interval)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _connect(url: str, heartbeat_interval: int) -> optuna.storages.RDBStorage:
    import optuna

    # Connections in the pool are stale after a restart of the server, so each is tested before its use.
    options = {} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(CONNECTION_ATTEMPTS):
        try:
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=heartbeat_interval,
                grace_period=4 * heartbeat_interval,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
        except Exception:
            if attempt + 1 == CONNECTION_ATTEMPTS:
                raise
            time.sleep(1)
    raise AssertionError


def _check_same_definition(search: Search, study: optuna.Study) -> None:
    """Store the definition of a new study, or compare it with the stored one.

    Raises:
        UserError: the study was created with a different definition.
    """
    fingerprint = search.fingerprint()
    stored = study.user_attrs.get("search")
    if stored is None:
        # `search` marks the definition as complete and is written after it: if the process dies in between, the
        # next one writes both again.
        study.set_user_attr("definition", search.as_dict())
        study.set_user_attr("code", search.spec({}, 0).code)
        study.set_user_attr("search", fingerprint)
        # The defaults are the first trial, so that every configuration is compared with them.
        enqueue(study, search.defaults, {"defaults": True, UNSAMPLED: search.unsampled_defaults})
        return
    stored = json.loads(json.dumps(stored))
    if stored == fingerprint:
        _check_same_code(search, study)
        return
    ranges, stored_ranges = fingerprint["space"], stored["space"]
    changes = [
        f"{name}: {stored_ranges.get(name, 'not searched')} -> {ranges.get(name, 'not searched')}"
        for name in sorted({*stored_ranges, *ranges})
        if stored_ranges.get(name) != ranges.get(name)
    ]
    changes += [
        f"{key}: {stored.get(key)} -> {fingerprint[key]}"
        for key in ("base", "seeds", "objective")
        if stored.get(key) != fingerprint[key]
    ]
    raise UserError(
        f"the study `{study.study_name}` was created with a different definition ({'; '.join(changes)}); choose another "
        "name with --study"
    )


def changed_code(search: Search, study: optuna.Study) -> list[str]:
    """Return the parts of the code, such as ``mitigations.elr``, that have changed since the trials were trained."""
    stored, code = study.user_attrs["code"], search.spec({}, 0).code
    return sorted(part for part in {**stored, **code} if stored.get(part) != code.get(part))


def _check_same_code(search: Search, study: optuna.Study) -> None:
    """Refuse to add trials to those of other code, since their scores cannot be compared.

    Raises:
        UserError: the code has changed, and trials are missing.
    """
    changed, states = changed_code(search, study), trial_states()
    trials = study.get_trials(deepcopy=False, states=(states.RUNNING, states.COMPLETE, states.PRUNED, states.FAIL))
    if not trials:
        study.set_user_attr("code", search.spec({}, 0).code)
    elif changed and len(finished_trials(study)) < search.trials:
        raise UserError(
            f"the code of the study `{study.study_name}` changed ({', '.join(changed)}) since its first {len(trials)} trials, "
            "whose scores cannot be compared with those of the present code; start a new study with --study NAME"
        )


def trial_states() -> Any:
    """Return Optuna's trial states, without importing Optuna at start-up."""
    import optuna

    return optuna.trial.TrialState


def finished_trials(study: optuna.Study) -> list[Any]:
    """Return the trials that are complete, pruned, or failed for a reason of their own; not those to be re-queued."""
    states = trial_states()
    return [
        trial
        # Trials are only read, and copies of all of them at each call would take longer with every trial.
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (states.COMPLETE, states.PRUNED)
        # A trial that Optuna failed for missing heartbeats has no reason of ours, and counts as interrupted.
        or (trial.state == states.FAIL and trial.user_attrs.get("reason", INTERRUPTED) != INTERRUPTED)
    ]


@dataclass(frozen=True)
class StudyResult:
    """Result of a study.

    Attributes:
        best: parameter values of the best complete trial; with cost as a second objective, of all trials on the Pareto front,
            the most accurate first.
        scores: mean validation score of each best trial, followed by its mean cost in seconds if that is an objective.
        default_scores: scores of the defaults; None if their trial was pruned or failed.
        trials: number of finished trials by state.
    """

    best: list[dict[str, Any]]
    scores: list[tuple[float, ...]]
    default_scores: tuple[float, ...] | None
    trials: dict[str, int]


def study_result(study: optuna.Study) -> StudyResult:
    """Return the best configurations of a study.

    Raises:
        UserError: no trial is complete.
    """
    states, finished = trial_states(), finished_trials(study)
    complete = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
    counts = {state.name.lower(): 0 for state in (states.COMPLETE, states.PRUNED, states.FAIL)}
    for trial in finished:
        counts[trial.state.name.lower()] += 1
    if not complete:
        reasons = sorted({trial.user_attrs["reason"] for trial in finished if "reason" in trial.user_attrs})
        raise UserError(
            f"the study `{study.study_name}` has no complete trial ({counts['pruned']} pruned, {counts['fail']} failed"
            f"{': ' + reasons[0] if reasons else ''}); increase `trials`, or use another pruner with a new --study"
        )
    if len(study.directions) > 1:
        best = sorted(study.best_trials, key=lambda trial: -trial.values[0])
    else:
        best = [max(complete, key=lambda trial: trial.value or 0.0)]
    defaults = next((tuple(trial.values) for trial in complete if trial.user_attrs.get("defaults")), None)
    return StudyResult(
        [trial_values(trial) for trial in best], [tuple(trial.values) for trial in best], defaults, counts
    )

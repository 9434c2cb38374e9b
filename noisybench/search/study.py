"""Optuna studies: opened, counted, and what they came to."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from noisybench.config.spec import WORKSPACE
from noisybench.errors import UserError, nearest
from noisybench.search.definition import PRUNERS, SAMPLERS, Search
from noisybench.tracking.connection import hide_password
from noisybench.utils.seeds import stable_hash

if TYPE_CHECKING:
    import optuna

DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize")
"""Of a validation score and of cost."""

INTERRUPTED = "interrupted"
"""Reason of a failed trial that is to be tried again."""


@contextlib.contextmanager
def reaching(url: str, opening: bool = False) -> Iterator[None]:
    """Turn what a storage says when it cannot be used, now or any more, into an answer.

    Args:
        url: of the storage.
        opening: it is opened just now, where also its address, its driver or its tables may be wrong.

    Raises:
        UserError: it cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    kinds: tuple[type[Exception], ...] = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
    if opening:
        kinds = (*kinds, RuntimeError, ImportError, ValueError)
    try:
        yield
    except kinds as error:
        text = str(error.__cause__ or error).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        if "no longer compatible" in text or "revision" in text or "upgrade" in text.lower():
            reason = (
                f"its tables are not those of this version of Optuna: {reason}; see `optuna storage upgrade --help`, or give "
                "studies a database of their own"
            )
        raise UserError(
            f"the storage {hide_password(url)} cannot be used ({reason}); check the address, that it runs, and that nobody locks "
            "it. Nothing is lost: the same command goes on"
        ) from None


def address(url: str | None) -> str:
    """The database of studies: the given one, or a file in the working folder."""
    if url is not None:
        return url
    WORKSPACE.mkdir(exist_ok=True)
    return f"sqlite:///{(WORKSPACE / 'searches.db').as_posix()}"


@contextlib.contextmanager
def opened(search: Search, name: str, url: str | None) -> Iterator[optuna.Study]:
    """The study of that name, made where there is none; its connections are closed in the end.

    Args:
        search: what is searched for.
        name: of the study.
        url: of a relational database; by default an SQLite file in the working folder.

    Raises:
        UserError: the storage cannot be used, now or any more, or the study has asked something else.
    """
    import optuna

    with _storage(address(url), search.heartbeat) as storage:
        with reaching(address(url), opening=True):
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=DIRECTIONS[: len(search.objective)],
                load_if_exists=True,
                pruner=getattr(optuna.pruners, PRUNERS[search.pruner])(),
            )
            # A process that takes up a study must not begin the same random numbers again.
            seed = stable_hash("search", name, len(study.trials), os.getpid() if study.trials else 0) % 2**31
            study.sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=seed)
        with reaching(address(url)):
            _same_question(search, study)
            yield study


def asked(name: str | None, url: str | None) -> list[Search]:
    """The searches that a database holds, to go on with them: of one study, or of all.

    Raises:
        UserError: there is no such study, or none at all.
    """
    with _storage(address(url), 60) as storage, reaching(address(url), opening=True):
        attributes = {
            each.study_name: storage.get_study_user_attrs(each._study_id) for each in storage.get_all_studies()
        }
    noted = {key: each for key, each in attributes.items() if "definition" in each}
    if name is not None and name not in noted:
        raise UserError(f"no search is named `{name}` in {hide_password(address(url))}; {nearest(name, noted)}")
    if not noted:
        raise UserError(
            f"{hide_password(address(url))} holds no search; begin one, such as `noisybench search digits-elr`"
        )
    return [Search.from_dict({**noted[key]["definition"], "name": key}) for key in ([name] if name else sorted(noted))]


@contextlib.contextmanager
def _storage(url: str, heartbeat: int) -> Iterator[optuna.storages.RDBStorage]:
    """A relational storage; where another process makes its tables just now, a little later.

    Raises:
        UserError: it cannot be reached.
    """
    with reaching(url, opening=True):
        storage = _connected(url, heartbeat)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _connected(url: str, heartbeat: int) -> optuna.storages.RDBStorage:
    import optuna

    # Heartbeats are marked experimental, and expected of Optuna's own loop; ours gives them itself.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3)
    # A server that was started anew has closed the connections that we still hold.
    options = {} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for left in (2, 1, 0):
        try:
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=4 * heartbeat,
                heartbeat_stale_trial_callback=again,
            )
        except Exception:
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def _same_question(search: Search, study: optuna.Study) -> None:
    """Note what is searched for, or hold it against what is noted."""
    meaning = search.meaning()
    noted = study.user_attrs.get("search")
    if noted is None:
        study.set_user_attr("definition", search.as_dict())
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
        changed += [
            f"{key}: {noted.get(key)} -> {meaning[key]}"
            for key in ("base", "seeds", "objective")
            if noted.get(key) != meaning[key]
        ]
        raise UserError(
            f"the study `{study.study_name}` has asked another question ({'; '.join(changed)}); give this one another name by "
            "--study"
        )


def trial_states() -> Any:
    """Optuna's trial states; importing it takes a while."""
    import optuna

    return optuna.trial.TrialState


def over(study: optuna.Study) -> list[Any]:
    """Trials that are over: complete, pruned, or failed for a reason of their own."""
    known = trial_states()
    return [
        each
        for each in study.get_trials(deepcopy=False)
        if each.state in (known.COMPLETE, known.PRUNED)
        or (each.state == known.FAIL and each.user_attrs.get("reason", INTERRUPTED) != INTERRUPTED)
    ]


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        best: values of the best complete trials: one, or with cost as a second objective all that no other one beats in
            both, the most accurate first.
        scores: their mean validation scores, and costs where asked for.
        default_scores: those of the defaults; None where their trial was pruned or failed.
        trials: how many ended how, by state.
    """

    best: list[dict[str, Any]]
    scores: list[tuple[float, ...]]
    default_scores: tuple[float, ...] | None
    trials: dict[str, int]


def outcome(study: optuna.Study) -> Found:
    """The best configurations of a study.

    Raises:
        UserError: no trial is complete.
    """
    known = trial_states()
    complete = study.get_trials(deepcopy=False, states=(known.COMPLETE,))
    counts = {state.name.lower(): 0 for state in (known.COMPLETE, known.PRUNED, known.FAIL)}
    for each in over(study):
        counts[each.state.name.lower()] += 1
    if not complete:
        reasons = sorted({each.user_attrs["reason"] for each in over(study) if "reason" in each.user_attrs})
        raise UserError(
            f"the study `{study.study_name}` has no complete trial ({counts['pruned']} pruned, {counts['fail']} failed"
            f"{': ' + reasons[0] if reasons else ''}); run it with more trials, or another pruner under another name"
        )
    several = len(study.directions) > 1
    best = study.best_trials if several else [max(complete, key=lambda each: each.value or 0.0)]
    best = sorted(best, key=lambda each: -each.values[0])
    defaults = next((tuple(each.values) for each in complete if each.user_attrs.get("defaults")), None)
    return Found([dict(each.params) for each in best], [tuple(each.values) for each in best], defaults, counts)


def pictures(study: optuna.Study, folder: Path) -> None:
    """Draw the history of a study, the importance of its parameters and its trials, where there is enough for it."""
    import matplotlib as mpl
    import optuna

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    single = len(study.directions) == 1
    several = len(study.get_trials(deepcopy=False, states=(trial_states().COMPLETE,))) > 1
    kinds: dict[str, tuple[str, dict[str, Any]]] = {"timeline": ("plot_timeline", {})}
    score: dict[str, Any] = {} if single else {"target": lambda trial: trial.values[0], "target_name": "validation"}
    kinds["history"] = "plot_optimization_history", score
    if several:
        # Of a given target Optuna tells what it takes to make it low.
        wanted = {} if single else {**score, "target": lambda trial: -trial.values[0]}
        kinds |= {"importances": ("plot_param_importances", wanted), "parallel": ("plot_parallel_coordinate", score)}
    if not single:
        kinds["pareto"] = "plot_pareto_front", {"target_names": ["validation", "seconds"]}
    for name, (function, arguments) in kinds.items():
        with warnings.catch_warnings():
            # Few trials tell no parameter from another, which the picture shows.
            warnings.filterwarnings("ignore", message="Target and region quantiles")
            warnings.filterwarnings("ignore", message=".*computes the importances of params to achieve low")
            axes: Any = getattr(optuna.visualization.matplotlib, function)(study, **arguments)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=90)
        plt.close(figure)

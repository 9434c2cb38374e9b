"""Train runs and suites from Python: in scripts, notebooks and tests."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from noisybench.api.run_result import RunResult, RunResults
from noisybench.api.specifications import override_texts, read_specs
from noisybench.config import suite as suites
from noisybench.errors import StoreUnavailable, TrainingError, UserError, show
from noisybench.execution.display import ProgressDisplay
from noisybench.execution.session import Session, open_session
from noisybench.execution.time_limit import TimeLimit, read_time_limit
from noisybench.utils.console import make_console
from noisybench.utils.interrupts import keyboard_interrupts
from noisybench.utils.numbers import as_integer
from noisybench.utils.places import path_text

if TYPE_CHECKING:
    from noisybench.api.leaderboard import Leaderboard
    from noisybench.config.spec import RunSpec
    from noisybench.execution.suite_runner import SuiteResult


def run(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *overrides: str,
    task: Any = None,
    dataset: Any = None,
    noise: Any = None,
    mitigations: Any = None,
    seed: Any = None,
    budget: Any = None,
    execution: Any = None,
    jobs: int | None = None,
    again: bool = False,
    progress: bool = True,
    **other: Any,
) -> RunResult | RunResults:
    """Train one or several runs, or return the results of those that are finished.

    Runs are tracked in the same store as those of the command line: ``mlflow.db`` in the working folder, or
    `MLFLOW_TRACKING_URI`. They are trained in processes of their own, so that results are bit-identical to those of the
    command line. A script needs no ``if __name__ == "__main__"``. After Ctrl-C, the same call resumes from the last epoch.

    Args:
        recipe: name of a recipe (`noisybench list recipes`), path of a YAML file, or its content as a mapping; by default
            the defaults of all fields.
        overrides: changes as on the command line, such as ``"noise.rate=0.4"``.
        task: task, see `noise`.
        dataset: dataset, see `noise`.
        noise: noise model: its name, a mapping with ``name`` and parameters, or a mapping of some parameters that changes
            those of the recipe; or one of `nb.noise`. `task` and `dataset` likewise.
        mitigations: stack such as ``"mixup+elr"`` or ``"gce(q=0.5)"``.
        seed: seed of the run.
        budget: mapping of fields that differ from those of the recipe, such as ``{"epochs": 5}``.
        execution: mapping of fields that differ from those of the recipe, such as ``{"device": "cpu"}``.
        jobs: number of parallel runs; by default as many as there are cores.
        again: train finished runs again.
        progress: show progress and notes on standard error, or in the notebook.
        other: nothing; an unknown field is an error that names the nearest one.

    Returns:
        The result of the run. If a field is a list, or an override has several values, the results of the runs with each
        of them, as `RunResults`: ``seed=[0, 1, 2]`` are three runs.

    Raises:
        UserError: a field is invalid, or the data or the store cannot be used; nothing is trained.
        TrainingError: a run failed. Runs that have finished are in the store.
        KeyboardInterrupt: Ctrl-C was pressed; a second one stops without waiting for the end of the epoch.

    Example:
        >>> import noisybench as nb
        >>> nb.run("digits", mitigations="elrr")
        Traceback (most recent call last):
        noisybench.errors.UserError: mitigations: unknown mitigation `elrr`; did you mean `elr`? ...
    """
    given = {
        "task": task, "dataset": dataset, "noise": noise, "mitigations": mitigations, "seed": seed, "budget": budget,
        "execution": execution,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None} | other
    specs, is_several = read_specs({} if recipe is None else recipe, overrides, fields)
    session, _ = train_specs(specs, jobs, again, progress)
    if session.plan.pending:
        from noisybench.api.leaderboard import rank_trained

        rank_trained(session, "default")
    uri = session.store.connection.uri
    results = RunResults(tuple(RunResult(record, uri) for record in session.finished()))
    return results if is_several else results[0]


def bench(
    suite: str | os.PathLike[str],
    *overrides: str,
    jobs: int | None = None,
    ray: str | None = None,
    shard: str | None = None,
    time_limit: str | float | None = None,
    again: bool = False,
    progress: bool = True,
    **fields: Any,
) -> Leaderboard:
    """Train the pending runs of a suite (settings x stacks x seeds), and rank its stacks.

    See `run` for where runs are tracked and how they are trained.

    Args:
        suite: name of a suite (`noisybench list suites`) or path of a YAML file.
        overrides: changes as on the command line, such as ``"seeds=[0,1]"``.
        jobs: number of parallel runs; by default as many as there are cores.
        ray: address of a Ray cluster to train on, or ``auto`` for the running one.
        shard: part of the runs to train, such as ``"3/16"``, for machines that share a store.
        time_limit: time after which no epoch starts that would end later, such as ``"90s"``, ``"9m"``, or a number of
            seconds. If runs are left, a warning says how many, and the same call resumes.
        again: train finished runs again.
        progress: show progress and notes on standard error, or in the notebook.
        fields: fields of the suite or of its base, such as ``seeds=[0, 1]``, ``stacks=["elr", "gce(q=0.5)"]`` or
            ``budget={"epochs": 5}``.

    Returns:
        Leaderboard of the finished runs of the suite's settings; `Leaderboard.results` has them as a table.

    Raises:
        UserError: the suite or a field is invalid, or the data or the store cannot be used; nothing is trained.
        TrainingError: a run failed, after all others have ended. `nb.leaderboard(suite)` ranks those.
        KeyboardInterrupt: Ctrl-C was pressed; a second one stops without waiting for the end of the epoch.

    Example:
        >>> import noisybench as nb
        >>> nb.bench("quickstart", seeds=[0, 0])
        Traceback (most recent call last):
        noisybench.errors.UserError: seeds: 0 is given several times; give it once
    """
    from noisybench.api.leaderboard import rank_trained

    name = path_text(suite, "suite")
    specs = suites.read_suite(name, [*overrides, *override_texts(fields)])
    metric, limit = suites.read_metric(name), _time_limit(time_limit)
    session, result = train_specs(suites.shard(specs, shard), jobs, again, progress, limit, ray)
    if result.out_of_time and result.remaining is not None:
        warnings.warn(f"out of time: {result.remaining.describe()}. Call nb.bench again to resume.", stacklevel=2)
    return rank_trained(session, metric)


def _time_limit(value: str | float | None) -> TimeLimit | None:
    """Return a time limit from now on; None if there is none, also inside a Slurm job, which may have other work."""
    if value is None:
        return None
    text = value if isinstance(value, str) else f"{value:g}s"
    return read_time_limit(text, name="time_limit")


def train_specs(
    specs: Sequence[RunSpec],
    jobs: int | None,
    again: bool,
    progress: bool,
    limit: TimeLimit | None = None,
    ray: str | None = None,
) -> tuple[Session, SuiteResult]:
    """Train the pending runs of some specifications, with progress on standard error or in the notebook.

    Raises:
        UserError: a run is invalid, and nothing is trained.
        TrainingError: a run failed, after all others have ended.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if jobs is not None and (as_integer(jobs) or 0) < 1:
        raise UserError(f"jobs: expected a number of parallel runs of at least 1, but got {show(jobs)}")
    if multiprocessing.current_process().daemon:
        raise UserError(
            "runs cannot be trained inside a daemonic process, such as a worker of multiprocessing.Pool: Python lets it start "
            "no processes; call noisybench in the main process and set `jobs`"
        )
    session = open_session(specs, again, ray=ray)
    console = make_console(stderr=True)

    def say(text: str, style: str = "") -> None:
        if progress:
            console.print(Text(text, style=style), soft_wrap=True)

    for note in dict.fromkeys(note for spec in session.plan.specs for note in spec.notes):
        say(f"Note: {note}.", "yellow")
    for each in session.retrained:
        say(f"{each.reason}. It is trained again.")
    with (
        keyboard_interrupts(say) as level,
        ProgressDisplay(console, len(session.plan.pending), is_quiet=not progress) as display,
    ):
        result = session.train(jobs, display.update, level, limit, lambda note: say(f"note: {note}"))
    _raise_failures(result)
    return session, result


def _raise_failures(result: SuiteResult) -> None:
    """Raise the errors of failed runs.

    Raises:
        StoreUnavailable: the store could not be reached.
        TrainingError: all others.
    """
    if not result.failed:
        return
    reasons = [f"{spec.title}: {reason}" for spec, reason, _ in result.failed]
    error = StoreUnavailable(*reasons) if result.store_unavailable else TrainingError("\n".join(reasons))
    for _, _, traceback in result.failed[:1]:
        if traceback:
            error.add_note(f"The traceback of the run is saved with it (traceback.txt):\n{traceback}")
    raise error

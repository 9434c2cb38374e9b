"""Train runs and suites from Python: in scripts, notebooks and tests."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from noisybench.api.run_result import RunResult, RunResults
from noisybench.api.specifications import read_specs
from noisybench.errors import StoreUnavailable, TrainingError, UserError, show
from noisybench.execution.display import ProgressDisplay
from noisybench.execution.session import Session, open_session
from noisybench.utils.console import make_console
from noisybench.utils.interrupts import keyboard_interrupts

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec
    from noisybench.execution.suite_runner import SuiteResult
    from noisybench.execution.time_limit import TimeLimit


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
            those of the recipe. `task` and `dataset` likewise.
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
        >>> nb.run("digits", noise="pair_flop")
        Traceback (most recent call last):
        noisybench.errors.UserError: noise: unknown noise model `pair_flop`; did you mean `pair_flip`?
    """
    given = {
        "task": task, "dataset": dataset, "noise": noise, "mitigations": mitigations, "seed": seed, "budget": budget,
        "execution": execution,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None} | other
    specs, is_several = read_specs({} if recipe is None else recipe, overrides, fields)
    session, _ = train_specs(specs, jobs, again, progress)
    uri = session.store.connection.uri
    results = RunResults(tuple(RunResult(record, uri) for record in session.finished()))
    return results if is_several else results[0]


def train_specs(
    specs: Sequence[RunSpec], jobs: int | None, again: bool, progress: bool, limit: TimeLimit | None = None
) -> tuple[Session, SuiteResult]:
    """Train the pending runs of some specifications, with progress on standard error or in the notebook.

    Raises:
        UserError: a run is invalid, and nothing is trained.
        TrainingError: a run failed, after all others have ended.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise UserError(f"jobs: expected a number of parallel runs of at least 1, but got {show(jobs)}")
    if multiprocessing.current_process().daemon:
        raise UserError(
            "runs cannot be trained inside a daemonic process, such as a worker of multiprocessing.Pool: Python lets it start "
            "no processes; call noisybench in the main process and set `jobs`"
        )
    session = open_session(specs, again)
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

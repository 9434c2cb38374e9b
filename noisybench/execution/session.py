"""The runs of one command or call, from their specifications to their records: store, plan and training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from noisybench.config.data_files import download_missing
from noisybench.config.spec import WORKSPACE, RunSpec
from noisybench.execution.engine import Event, Executor
from noisybench.execution.preflight import ignore_note
from noisybench.execution.suite_runner import RunPlan, SuiteResult, make_plan, run_plan
from noisybench.execution.time_limit import TimeLimit
from noisybench.records.equivalence import Equivalence
from noisybench.records.schema import RunRecord
from noisybench.tracking.equivalences import recorded_equivalences
from noisybench.tracking.reader import ExcludedRun
from noisybench.tracking.store import Store
from noisybench.utils.files import require_writable
from noisybench.utils.processes import start_server, usable_cores


@dataclass
class Session:
    """Runs that are executed together, and the store that tracks them.

    Attributes:
        store: store that tracks the runs.
        plan: all runs, and those of them to train.
        records: all finished runs of the store, the latest first; `train` reads them again.
        equivalences: recorded equivalences of code.
        retrained: runs that are trained again because their record cannot be used.
        specs: the runs as they were asked for, with repetitions.
        ray: address of the Ray cluster that trains the runs; None for this machine.
    """

    store: Store
    plan: RunPlan
    records: list[RunRecord]
    equivalences: list[Equivalence]
    retrained: Sequence[ExcludedRun] = ()
    specs: Sequence[RunSpec] = ()
    ray: str | None = None

    def train(
        self,
        jobs: int | None,
        on_event: Callable[[Event, float | None], None],
        stop_level: Callable[[], int],
        limit: TimeLimit | None = None,
        on_note: Callable[[str], None] = ignore_note,
    ) -> SuiteResult:
        """Validate and execute the pending runs; see `run_plan` for the arguments and errors."""
        if limit is not None:
            limit.set_reserve()
        with executor_of(self.ray, self.store) as executor:
            result = run_plan(self.plan, self.store, self.records, jobs, on_event, stop_level, executor, limit, on_note)
        if limit is not None:
            limit.activity = "ranking its runs"
        # Without new runs, the records are still complete: a rerun of a finished suite reads the store once.
        if self.plan.pending:
            self.records = self.store.runs.records()
        return result

    def finished(self) -> list[RunRecord]:
        """Return the record of each finished run in the order of `specs`, or that of a run of equivalent code."""
        finished = {record.identity: record for record in reversed(self.records)}
        records = (finished.get(spec.identity) or self.plan.equivalent.get(spec.identity) for spec in self.specs)
        return [record for record in records if record is not None]

    def comparable(self) -> list[RunRecord]:
        """Return the finished runs of the same settings as the plan's runs, of whatever code."""
        settings = {spec.settings_hash for spec in self.plan.specs}
        return [record for record in self.records if record.settings in settings]


def open_session(
    specs: Sequence[RunSpec], again: bool = False, dry_run: bool = False, ray: str | None = None
) -> Session:
    """Open the store of the working folder, download missing data, and plan which runs to train.

    Args:
        specs: runs.
        again: train finished runs again.
        dry_run: only read; the store is not created, and nothing is downloaded.
        ray: address of the Ray cluster that trains the runs; None for this machine.

    Raises:
        UserError: the store or the working folder cannot be used, or data cannot be downloaded.
    """
    store, specs = Store(), list(specs)
    # The check creates the store, which a dry run must not do.
    if not dry_run:
        if again or not store.connection.may_have_finished(spec.identity for spec in specs):
            # Its imports take longer than everything before the first run, and there is more than one core.
            start_server()
        store.connection.check()
        require_writable(WORKSPACE)
        specs = download_missing(specs)
    stored, equivalences = store.runs.read(), recorded_equivalences(store)
    # The cores of a cluster's machines are not known here.
    plan = make_plan(specs, stored.records, equivalences, again, cores=usable_cores() if ray is None else None)
    pending = {spec.identity for spec in plan.pending}
    retrained = [each for each in stored.excluded if each.run.tags["identity"] in pending]
    return Session(store, plan, stored.records, equivalences, retrained, specs, ray)


@contextlib.contextmanager
def executor_of(ray: str | None, store: Store) -> Iterator[Executor | None]:
    """Yield the executor of a Ray cluster, or None for this machine."""
    if ray is None:
        yield None
        return
    from noisybench.execution.ray import connect

    with connect(ray, store.connection.embedded) as executor:
        yield executor

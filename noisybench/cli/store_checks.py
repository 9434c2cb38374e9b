"""Checks and repairs of the store and of the working folder for `noisybench doctor`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from noisybench.config.spec import STUDIES, WORKSPACE
from noisybench.errors import UserError
from noisybench.utils.files import DAMAGED, PARTIAL, first_line, set_aside
from noisybench.utils.sqlite import set_aside_database, unfinished_folders

if TYPE_CHECKING:
    from noisybench.tracking.store import Store

SET_ASIDE = WORKSPACE / "set-aside"
"""Folder that `doctor --repair` moves leftovers to."""

MAX_LISTED = 5
"""Number of files or runs that one check lists."""


class Check(NamedTuple):
    """Result of one check.

    Attributes:
        name: checked item.
        details: version, size or problem.
        passed: False if runs will not work, or results are not shown.
    """

    name: str
    details: str
    passed: bool


class Finding(NamedTuple):
    """Result of one check with a way to mend it.

    Attributes:
        check: the result.
        repair: mends the problem and returns one line about it; None if nothing can be mended.
    """

    check: Check
    repair: Callable[[], str] | None = None


def check_store() -> Iterator[Finding]:
    """Yield the state of the store, of its runs, and of the working folder."""
    from noisybench.tracking.store import Store

    try:
        store = Store()
    except UserError as error:
        yield Finding(Check("store", str(error), False))
        return
    yield from _check_database(store)
    yield from _check_run_folders()
    yield _check_studies()
    yield _check_leftovers(store)


def _check_database(store: Store) -> Iterator[Finding]:
    from noisybench.tracking.database import schema_version
    from noisybench.tracking.repair import database_problem, recorded_runs

    connection = store.connection
    if connection.embedded and not connection.database.is_file():
        num_records = sum(1 for _ in recorded_runs(connection))
        if num_records:
            details = f"{connection.database} does not exist, but the records of {num_records} runs are beside it"
            yield Finding(Check("store", details, False), lambda: _remake(store))
            return
        # `check` would create the store, but this command only reports.
        is_writable = os.access(connection.database.parent, os.W_OK)
        yield Finding(Check("store", f"{connection.address} (created by the first run)", is_writable))
        return
    if connection.embedded and (problem := database_problem(connection.database)) is not None:
        is_foreign = "is no MLflow database" in problem or "locked" in problem or "permissions" in problem
        yield Finding(Check("store", problem, False), None if is_foreign else lambda: _remake(store))
        return
    try:
        connection.check()
        stored, failed = store.runs.read(), store.runs.list_runs("FAILED")
    except UserError as error:
        is_deleted = "experiments restore" in str(error)
        yield Finding(Check("store", str(error), False), (lambda: _restore_experiment(store)) if is_deleted else None)
        return
    schema = f", schema {schema_version(connection.database)}" if connection.embedded else ""
    counts = f"{len(stored.records)} finished and {len(failed)} failed runs"
    yield Finding(Check("store", f"{connection.address}: {counts}{schema}", True))
    for each in stored.excluded:
        yield Finding(Check("excluded run", each.reason, False))


def _remake(store: Store) -> str:
    from noisybench.tracking.repair import remake_database

    target, restored = remake_database(store)
    old = f"; the old file is {target}" if target else ""
    return f"the store was made again with {restored} finished runs from their records{old}"


def _restore_experiment(store: Store) -> str:
    from noisybench.tracking.repair import restore_experiment

    restore_experiment(store.connection)
    return "the deleted experiment was restored with its runs"


def _check_run_folders() -> Iterator[Finding]:
    """Check the checkpoints of interrupted runs and auxiliary runs, and records that are not in the store yet."""
    runs, auxiliary = WORKSPACE / "runs", WORKSPACE / "auxiliary"
    checkpoints = [*runs.glob("*/checkpoint.ckpt"), *auxiliary.glob("*.ckpt"), *auxiliary.glob("*.pt")]
    problems = {path: problem for path in sorted(checkpoints) if (problem := _tensor_problem(path)) is not None}
    for path, problem in problems.items():
        repair = _renaming(path)
        yield Finding(Check("checkpoint", f"{path} is damaged ({problem}); its work is done again", False), repair)
    if len(checkpoints) > len(problems):
        count = len(checkpoints) - len(problems)
        yield Finding(Check("checkpoints", f"{count} of interrupted and auxiliary runs can be read", True))
    pending = sorted(runs.glob("*/pending/record.json"))
    if pending:
        details = f"{len(pending)} trained runs are not in the store yet: run their command again to upload them"
        yield Finding(Check("pending records", details, True))


def _tensor_problem(path: Path) -> str | None:
    import torch

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        return None if isinstance(content, dict) else "it holds no mapping"
    except Exception as error:  # `torch.load` raises many types of exceptions for a damaged file
        return first_line(error)


def _renaming(path: Path) -> Callable[[], str]:
    return lambda: f"{path} was set aside as {set_aside(path)}"


def _check_studies() -> Finding:
    from noisybench.search.storage import study_problem

    path = STUDIES
    if not path.is_file():
        return Finding(Check("studies", "none", True))
    problem = study_problem(path)
    if problem is None:
        return Finding(Check("studies", str(path), True))
    return Finding(
        Check("studies", f"{path} {problem}; a search creates it again, and its trials are in the store", False),
        lambda: f"{path} was set aside as {set_aside_database(path)}",
    )


def _check_leftovers(store: Store) -> Finding:
    """Find files that killed processes have left, and those that were set aside."""
    folder = store.connection.database.parent if store.connection.embedded else Path()
    unfinished = [*unfinished_folders(store.connection.database)] if store.connection.embedded else []
    unfinished += [path for path in WORKSPACE.rglob(f"{PARTIAL}*") if SET_ASIDE not in path.parents]
    kept = [
        path
        for path in {*folder.glob(f"*{DAMAGED}*"), *WORKSPACE.rglob(f"*{DAMAGED}*")}
        if SET_ASIDE not in path.parents
    ]
    if not unfinished and not kept:
        return Finding(Check("leftovers", "none", True))
    names = [str(path) for path in sorted(unfinished + kept)]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    details = f"{len(unfinished)} unfinished and {len(kept)} damaged files: {', '.join(names[:MAX_LISTED])}{more}"
    return Finding(Check("leftovers", details, True), lambda: _move_leftovers(unfinished + kept))


def _move_leftovers(paths: list[Path]) -> str:
    SET_ASIDE.mkdir(parents=True, exist_ok=True)
    for path in paths:
        target = SET_ASIDE / path.name
        set_aside(target)  # an earlier leftover of the same name
        path.rename(target)
    return f"{len(paths)} leftovers were moved to {SET_ASIDE}; nothing reads them, and they can be deleted"

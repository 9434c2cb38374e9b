"""Comparison of code: which runs of old code to train again under new code, and whether they came to the same result."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from noisybench.config.resolve import resolve
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.records.codes import Code, as_code, code_differences, code_digest, describe_differences
from noisybench.records.equivalence import EQUIVALENCE_FORMAT, CodeClasses, ComparedRun, Equivalence, compare_runs
from noisybench.records.schema import RunRecord


def equivalent_runs(
    specs: Iterable[RunSpec], records: Iterable[RunRecord], equivalences: Iterable[Equivalence]
) -> dict[str, RunRecord]:
    """Return finished runs of equivalent code, by the identities of the runs in whose place they stand.

    Args:
        specs: runs that are not finished under their own code.
        records: finished runs.
        equivalences: recorded equivalences of code.
    """
    classes = CodeClasses(equivalences)
    by_settings: dict[str, list[RunRecord]] = {}
    for record in records:
        by_settings.setdefault(record.settings, []).append(record)
    found = {}
    for spec in specs:
        for record in by_settings.get(spec.settings_hash, []):
            joined = classes.joined((record.label_set, record.budget, record.stack), as_code(record.code))
            if as_code(spec.code) in joined:
                found[spec.identity] = record
                break
    return found


@dataclass
class CodePair:
    """A finished run of the old code, and its counterpart under the new code.

    Attributes:
        old: finished run of the old code.
        identity: identity of the run under the new code.
        spec: specification of that run under the installed code; None if it is finished under other new code.
    """

    old: RunRecord
    identity: str
    spec: RunSpec | None


def find_code(prefix: str, codes: Iterable[Code]) -> tuple[str, str]:
    """Return the component and the digest that a prefix names; the component of a whole code is ``run``.

    Args:
        prefix: first digits of the digest of a whole code, or of one component.
        codes: recorded codes.

    Raises:
        UserError: no digest begins with the prefix, or several do.

    Example:
        >>> find_code("1a", [(("engine", "1a2b"), ("task", "3c4d"))])
        ('engine', '1a2b')
    """
    digests = {
        (component, digest)
        for code in codes
        for component, digest in (*code, ("run", code_digest(code)))
        if digest and digest.startswith(prefix)
    }
    if not digests:
        raise UserError(f"no finished run has code that begins with `{prefix}`; `noisybench runs list` shows the codes")
    # Components that have the same source have the same digest, and select the same runs.
    if len({digest for _, digest in digests}) > 1:
        names = [f"{digest} ({component})" for component, digest in sorted(digests)]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UserError(f"`{prefix}` is ambiguous: it begins {shown}; give more digits")
    return min(digests)


def has_code(code: Code, digest: str) -> bool:
    """Return True if a digest is that of a code, or of one of its components."""
    return digest == code_digest(code) or digest in dict(code).values()


@dataclass
class ComparisonPlan:
    """Runs to compare.

    Attributes:
        pairs: runs of the old code with their counterparts under the new code.
        left_out: runs of the old code that cannot be compared, with the reason; no equivalence will cover their stacks.
    """

    pairs: list[CodePair] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def plan_comparison(records: Sequence[RunRecord], old: str, new: str | None = None, sample: int = 1) -> ComparisonPlan:
    """Select the runs to compare: some seeds of each stack and setting, and all runs that are finished under both codes.

    Args:
        records: finished runs.
        old: first digits of the old code, or of one of its components.
        new: first digits of the new code, or of one of its components; by default the installed code.
        sample: number of seeds of each stack and setting that are trained again if needed.

    Raises:
        UserError: no run has the old code, or none of them can be compared.
    """
    _, old_digest = find_code(old, (as_code(record.code) for record in records))
    finished = {record.identity: record for record in records}
    plan, seeds, tree = ComparisonPlan(), dict[tuple[str, str, str, Code], int](), SourceTree()
    for record in sorted(finished.values(), key=lambda record: (record.title, record.seed, record.identity)):
        if not has_code(as_code(record.code), old_digest):
            continue
        try:
            pair = _find_counterpart(record, new, finished, tree)
        except UserError as error:
            plan.left_out += [f"{record.title}: {problem}" for problem in error.problems]
            continue
        if pair is None:
            continue
        group = (record.label_set, record.budget, record.stack, as_code(record.code))
        seeds[group] = seeds.get(group, 0) + 1
        # Runs that are finished under both codes cost nothing to compare, so none of them is left out.
        if seeds[group] <= sample or pair.identity in finished:
            plan.pairs.append(pair)
    if not plan.pairs:
        raise UserError(*plan.left_out or [f"`{old}` is the new code itself; there is nothing to compare"])
    return plan


def _find_counterpart(
    record: RunRecord, new: str | None, finished: dict[str, RunRecord], tree: SourceTree
) -> CodePair | None:
    """Return a run with its counterpart under the new code; None if its own code is the new one."""
    spec = resolve(record.spec, tree)
    if spec.settings_hash != record.settings:
        raise UserError("its data or settings are no longer the same, so its code alone cannot be compared")
    installed = as_code(spec.code)
    if new is None or any(digest.startswith(new) for digest in (code_digest(installed), *spec.code.values())):
        return None if installed == as_code(record.code) else CodePair(record, spec.identity, spec)
    _, digest = find_code(new, [as_code(other.code) for other in finished.values()])
    if has_code(as_code(record.code), digest):
        return None
    for other in finished.values():
        if other.settings == record.settings and has_code(as_code(other.code), digest):
            return CodePair(record, other.identity, None)
    raise UserError(
        f"no run of these settings is finished under `{new}`, which is not the installed code "
        f"({code_digest(installed)}); install that code, or omit it"
    )


def compare_pairs(
    pairs: Sequence[CodePair], records: Sequence[RunRecord], sample: int, tolerance: float
) -> Equivalence:
    """Compare runs of the old code with their counterparts.

    Args:
        pairs: result of `plan_comparison`.
        records: finished runs, with those that were trained for the comparison.
        sample: as for `plan_comparison`.
        tolerance: allowed difference of scores of runs on a GPU, as a fraction.

    Raises:
        UserError: a run differs, or is not finished under the new code; all of them are named.
    """
    finished = {record.identity: record for record in records}
    compared: list[ComparedRun] = []
    problems: list[str] = []
    for pair in pairs:
        record = finished.get(pair.identity)
        if record is None:
            problems.append(f"{pair.old.title}: not finished under the new code")
            continue
        run = compare_runs(pair.old, record)
        if problem := run.problem(tolerance):
            changes = describe_differences(code_differences(as_code(run.old_code), as_code(run.new_code)))
            problems.append(f"{run.title}: {problem}; changed: {changes}")
        compared.append(run)
    if problems:
        raise UserError(*problems, "nothing was recorded: the codes are not equivalent")
    return Equivalence(
        format=EQUIVALENCE_FORMAT,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        sample=sample,
        tolerance=tolerance,
        runs=tuple(compared),
    )

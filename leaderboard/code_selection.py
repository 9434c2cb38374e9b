"""Selection of the code of a table: runs of different code are never averaged, compared or drawn as one.

Runs of one setting share a table if everything except their mitigations has the same code, and share a row if their mitigations
have the same code as well. A recorded equivalence joins two codes for the stacks and settings that it has compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from noisybench.leaderboard.measurements import Measurement
from noisybench.records.codes import Code, code_differences, describe_differences, shared_code
from noisybench.records.equivalence import CodeClasses, Equivalence, Place

Differences = tuple[tuple[str, str, str], ...]


@dataclass
class OtherCode:
    """Runs of a setting that are in no row because of their code.

    Attributes:
        differences: components that differ from the code of the table, with both digests; empty if the code was not recorded.
        stacks: their stacks.
        runs: number of runs.
        versions: versions of noisybench that trained them.
    """

    differences: Differences
    stacks: list[str] = field(default_factory=list)
    runs: int = 0
    versions: set[str] = field(default_factory=set)

    def describe(self, versions: Iterable[str]) -> str:
        """Return one line about the runs.

        Args:
            versions: versions of noisybench of the runs in the table.
        """
        count = f"{self.runs} run{'s' if self.runs != 1 else ''}"
        stacks = self.stacks[0] if len(self.stacks) == 1 else f"{len(self.stacks)} stacks"
        reason = describe_differences(self.differences) if self.differences else "code not recorded"
        digests = [old for _, old, _ in self.differences if old != "none"]
        hint = f"; `noisybench runs equivalent {digests[0]}` compares them" if digests else ""
        return (
            f"same settings, other code: {count} of {stacks}, version {', '.join(sorted(self.versions))} ({reason}); "
            f"this table has version {', '.join(sorted(set(versions)))}{hint}"
        )


@dataclass(frozen=True)
class CodeSelection:
    """The runs of one setting that its table shows.

    Attributes:
        code: code of everything except the mitigations; empty if it was not recorded.
        rows: code and runs by stack, one run per seed.
        joined: codes that an equivalence joins in the rows, one line each.
        others: runs of the same settings that are in no row because of their code, one line each.
        warnings: equivalences that a run contradicts, and rows whose code is not the installed one, one line each.
    """

    code: Code
    rows: dict[str, tuple[Code, list[Measurement]]]
    joined: tuple[str, ...]
    others: tuple[str, ...]
    warnings: tuple[str, ...]


def select_code(measurements: Sequence[Measurement], equivalences: Iterable[Equivalence] = ()) -> CodeSelection:
    """Select the runs of one setting that can share a table.

    The table shows the code of the installed sources; if no run has it, the code of the latest run. Runs of the user's own store
    count as later than those of submissions.

    Args:
        measurements: finished runs of one setting, at least one.
        equivalences: recorded equivalences of code.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> measurements = [each for each in builtin_measurements() if each.entry == "quickstart"][:3]
        >>> select_code(measurements).rows["bootstrapping"][1] == measurements
        True
    """
    records = [measurement.record for measurement in measurements if measurement.record is not None]
    contradictions = [(equivalence, equivalence.contradiction(records)) for equivalence in equivalences]
    classes = CodeClasses(equivalence for equivalence, problem in contradictions if not problem)
    ordered = sorted(measurements, key=lambda measurement: (not measurement.entry, measurement.finished))
    groups: dict[str, dict[frozenset[Code], list[Measurement]]] = {}
    for measurement in ordered:
        codes = classes.joined(_place(measurement), measurement.code)
        groups.setdefault(measurement.stack, {}).setdefault(codes, []).append(measurement)
    shared = _table_code(ordered, groups.values())
    rows: dict[str, tuple[Code, list[Measurement]]] = {}
    others: dict[tuple[Differences, bool], OtherCode] = {}
    for stack, by_codes in sorted(groups.items()):
        chosen = _row_codes(by_codes, shared)
        if chosen is not None:
            runs = by_codes[chosen]
            # Later runs replace earlier ones of the same seed.
            by_seed = {run.seed: run for run in runs}
            rows[stack] = (_code_of(chosen, runs, shared), [by_seed[seed] for seed in sorted(by_seed)])
        for codes, runs in by_codes.items():
            if codes != chosen:
                _add_other(others, stack, runs, shared, rows[stack][0] if stack in rows else None)
    versions = [run.version for _, runs in rows.values() for run in runs]
    descriptions = tuple(other.describe(versions) for other in others.values())
    ignored = [
        f"the equivalence {equivalence.describe()} is ignored: {problem}"
        for equivalence, problem in contradictions
        if problem
    ]
    return CodeSelection(
        shared, rows, tuple(_joins(rows, classes)), descriptions, (*ignored, *_outdated(rows, classes))
    )


def _place(measurement: Measurement) -> Place:
    return measurement.setting.label_set, measurement.setting.budget, measurement.stack


def _table_code(ordered: Sequence[Measurement], groups: Iterable[dict[frozenset[Code], list[Measurement]]]) -> Code:
    """Return the code that the table shows, without mitigations."""
    available = {shared_code(code) for by_codes in groups for codes in by_codes for code in codes}
    for measurement in reversed(ordered):
        if measurement.today and shared_code(measurement.today) in available:
            return shared_code(measurement.today)
    return shared_code(ordered[-1].code)


def _row_codes(by_codes: dict[frozenset[Code], list[Measurement]], shared: Code) -> frozenset[Code] | None:
    """Return the codes of a stack's row: today's, else those of the latest run; None if no run fits the table."""
    fitting = [codes for codes in by_codes if any(shared_code(code) == shared for code in codes)]
    if not fitting:
        return None

    def recency(codes: frozenset[Code]) -> tuple[bool, bool, int]:
        latest = by_codes[codes][-1]
        return latest.today in codes, not latest.entry, latest.finished

    return max(fitting, key=recency)


def _code_of(codes: frozenset[Code], runs: Sequence[Measurement], shared: Code) -> Code:
    """Return the code under which a row is shown, of all codes that it joins."""
    fitting = sorted(code for code in codes if shared_code(code) == shared)
    for code in (runs[-1].today, runs[-1].code):
        if code in fitting:
            return code
    return fitting[-1]


def _add_other(
    others: dict[tuple[Differences, bool], OtherCode],
    stack: str,
    runs: Sequence[Measurement],
    shared: Code,
    row_code: Code | None,
) -> None:
    """Add the runs of one code of a stack to the runs that are in no row."""
    code = runs[-1].code
    # A stack without a row has no mitigations to compare with.
    differences = code_differences(shared_code(code), shared) if row_code is None else code_differences(code, row_code)
    key = (differences if code else (), bool(code))
    other = others.setdefault(key, OtherCode(key[0]))
    other.stacks.append(stack)
    other.runs += len({run.seed for run in runs})
    other.versions |= {run.version for run in runs}


def _joins(rows: dict[str, tuple[Code, list[Measurement]]], classes: CodeClasses) -> list[str]:
    """Return one line for each equivalence that joins runs of a row, or joins them with the code of the table."""
    found: dict[int, str] = {}
    for code, runs in rows.values():
        if len({code, *(run.code for run in runs)}) > 1:
            place = _place(runs[0])
            for equivalence in classes.between(place, classes.joined(place, code)):
                found[id(equivalence)] = equivalence.describe(place[:2])
    return [f"joined by equivalence {description}" for description in found.values()]


def _outdated(rows: dict[str, tuple[Code, list[Measurement]]], classes: CodeClasses) -> list[str]:
    """Return one line for each difference between the code of rows and that of the installed sources."""
    stacks: dict[Differences, list[str]] = {}
    for stack, (code, runs) in rows.items():
        today = runs[-1].today
        if code and today and today not in classes.joined(_place(runs[0]), code):
            stacks.setdefault(code_differences(code, today), []).append(stack)
    return [
        f"trained by other code than the installed one: {names[0] if len(names) == 1 else f'{len(names)} stacks'} "
        f"({describe_differences(differences)})"
        for differences, names in stacks.items()
    ]

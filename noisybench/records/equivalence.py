"""Recorded equivalence of code: runs that were trained again under new code and came to the same result."""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic

from noisybench.records.codes import Code, as_code, code_differences, describe_differences
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES, select

EQUIVALENCE_FORMAT: Literal[1] = 1
"""Number of the layout of `Equivalence`."""

CodeDigests = Annotated[dict[str, str], pydantic.Field(min_length=1)]

TIMES = ("seconds", "time", "warnings")
"""Fields of an epoch that differ between two runs of the same code, or only describe it in words."""


class ComparedRun(pydantic.BaseModel):
    """One run under the old code and the same settings under the new code.

    Attributes:
        title: one-line description.
        label_set: SHA-256 of the label set.
        budget: hash of task and budget.
        stack: stack of mitigations with their parameters.
        seed: seed of both runs.
        old_identity: identity of the run under the old code.
        new_identity: identity of the run under the new code.
        old_code: code of the run under the old code.
        new_code: code of the run under the new code.
        old_weights: SHA-256 of the final weights under the old code.
        new_weights: SHA-256 of the final weights under the new code.
        difference: largest difference of a score, as a fraction; 0 for bit-identical runs.
        old_environment: versions and device of the run under the old code.
        new_environment: versions and device of the run under the new code.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    title: str
    label_set: str
    budget: str
    stack: str
    seed: int
    old_identity: str
    new_identity: str
    old_code: CodeDigests
    new_code: CodeDigests
    old_weights: str
    new_weights: str
    difference: float = pydantic.Field(ge=0, le=1)
    old_environment: dict[str, str]
    new_environment: dict[str, str]

    def problem(self, tolerance: float) -> str:
        """Return why the two runs do not agree; empty if they do.

        Args:
            tolerance: allowed difference of scores of runs on a GPU, as a fraction.
        """
        if self.old_code == self.new_code:
            return "both runs have the same code"
        points = f"{100 * self.difference:.2f} points"
        if uses_gpu(self.old_environment) or uses_gpu(self.new_environment):
            return f"scores differ by {points}, more than {100 * tolerance:g}" if self.difference > tolerance else ""
        if self.old_weights != self.new_weights:
            return f"the weights differ ({self.old_weights[:8]}, now {self.new_weights[:8]})"
        return f"the weights are the same, but measured numbers differ by up to {points}" if self.difference else ""


class Equivalence(pydantic.BaseModel):
    """Codes under which a declared sample of runs came to the same result.

    It joins the codes of each compared run, for the stack and setting of this run only: a stack without a compared run in a
    setting is never joined there.

    Attributes:
        format: `EQUIVALENCE_FORMAT`.
        date: time of the comparison in UTC (ISO 8601).
        sample: number of seeds that were compared of each stack and setting.
        tolerance: allowed difference of scores of runs on a GPU, as a fraction; runs on a CPU are bit-identical.
        runs: compared runs.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    format: Literal[1]
    date: str
    sample: int = pydantic.Field(ge=1)
    tolerance: float = pydantic.Field(ge=0, le=1)
    runs: tuple[ComparedRun, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _check_runs(self) -> Equivalence:
        for run in self.runs:
            problem = run.problem(self.tolerance)
            if problem:
                raise ValueError(f"{run.title}: {problem}")
        return self

    def contradiction(self, records: Iterable[RunRecord]) -> str:
        """Return which of some records contradicts the equivalence by its weights or code; empty if none does."""
        stated = {run.old_identity: (run.old_weights, run.old_code) for run in self.runs}
        stated |= {run.new_identity: (run.new_weights, run.new_code) for run in self.runs}
        for record in records:
            if record.identity not in stated:
                continue
            weights, code = stated[record.identity]
            # A run that was repeated on a GPU has other weights each time.
            if code != record.code or (weights != record.weights_sha256 and not uses_gpu(record.environment)):
                return f"{record.title} has other weights or other code than it states"
        return ""

    def describe(self, setting: tuple[str, str] | None = None) -> str:
        """Return the components that differ, the number of compared runs and how close they are, in one line.

        Args:
            setting: label set and budget, to count their runs only.
        """
        runs = [run for run in self.runs if setting in (None, (run.label_set, run.budget))]
        differences = dict.fromkeys(
            difference for run in runs for difference in code_differences(as_code(run.old_code), as_code(run.new_code))
        )
        is_identical = all(run.old_weights == run.new_weights for run in runs)
        quality = "bit-identical" if is_identical else f"scores within {100 * self.tolerance:g} points"
        count = f"{len(runs)} run{'s' if len(runs) != 1 else ''} compared"
        return f"{describe_differences(tuple(differences), '=')} ({count}, {quality})"


def uses_gpu(environment: Mapping[str, str]) -> bool:
    """Return True if a run was trained on a GPU, where repeated runs are not bit-identical.

    Example:
        >>> uses_gpu({"device": "x86_64 CPU"}), uses_gpu({"device": "NVIDIA H100"})
        (False, True)
    """
    return not environment.get("device", "CPU").lower().endswith("cpu")


def compare_runs(old: RunRecord, new: RunRecord) -> ComparedRun:
    """Compare a run with the same settings under other code."""
    on_gpu = uses_gpu(old.environment) or uses_gpu(new.environment)
    return ComparedRun(
        title=new.title,
        label_set=old.label_set,
        budget=old.budget,
        stack=old.stack,
        seed=old.seed,
        old_identity=old.identity,
        new_identity=new.identity,
        old_code=old.code,
        new_code=new.code,
        old_weights=old.weights_sha256,
        new_weights=new.weights_sha256,
        difference=score_difference(old, new) if on_gpu else largest_difference(old, new),
        old_environment=old.environment,
        new_environment=new.environment,
    )


def score_difference(old: RunRecord, new: RunRecord) -> float:
    """Return the largest difference of the scores by all selection rules, as a fraction; 1 if one has no score."""
    differences = [0.0]
    for rule in SELECTION_RULES:
        before, after = select(old, rule), select(new, rule)
        if before is not None:
            differences.append(1.0 if after is None else abs(after - before))
    return min(1.0, max(differences))


def largest_difference(old: RunRecord, new: RunRecord) -> float:
    """Return the largest difference of any measured number, at most 1; 0 if the new run measures all of them alike.

    Equal weights alone are not enough: a change of the evaluation gives other numbers for the same weights. Numbers that only
    the new run has do not count, so that code may grow.
    """
    measured = ("rows", "detection", "calibration_error", "correction_accuracy", "probes")
    before, after = old.as_dict(), new.as_dict()
    return min(1.0, max((_distance(before[name], after[name]) for name in measured), default=0.0))


def _distance(old: Any, new: Any) -> float:
    """Return the largest difference between two JSON-like values; 1 where a value is missing or of another kind."""
    if old is None or old == new:
        return 0.0
    if isinstance(old, dict) and isinstance(new, dict):
        return max((_distance(value, new.get(key)) for key, value in old.items() if key not in TIMES), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max((_distance(*pair) for pair in zip(old, new, strict=True)), default=0.0)
    if isinstance(old, int | float) and isinstance(new, int | float):
        if math.isnan(old) and math.isnan(new):
            return 0.0
        difference = abs(float(old) - float(new))
        return difference if math.isfinite(difference) else 1.0
    return 1.0


_LIST = pydantic.TypeAdapter(tuple[Equivalence, ...])


def equivalences_from_json(text: str) -> tuple[Equivalence, ...]:
    """Return the equivalences of a JSON list.

    Raises:
        ValueError: the text is no such list, or an equivalence contradicts itself.

    Example:
        >>> equivalences_from_json("[]")
        ()
    """
    try:
        return _LIST.validate_json(text)
    except pydantic.ValidationError as error:
        detail = error.errors()[0]
        location = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{location}: {detail['msg'].removeprefix('Value error, ')}") from None


def equivalences_to_json(equivalences: Iterable[Equivalence]) -> str:
    """Return equivalences as a JSON list, which `equivalences_from_json` reads.

    Example:
        >>> equivalences_to_json([])
        '[]'
    """
    return _LIST.dump_json(tuple(equivalences), indent=1).decode()


@functools.cache
def builtin_equivalences() -> tuple[Equivalence, ...]:
    """Return the equivalences that ship with noisybench, which join the codes of its releases.

    Example:
        >>> all(equivalence.runs for equivalence in builtin_equivalences())
        True
    """
    file = importlib.resources.files("noisybench.records") / "equivalences.json"
    return equivalences_from_json(file.read_text(encoding="utf-8"))


Place = tuple[str, str, str]
"""Label set, budget and stack."""


class CodeClasses:
    """Codes that are joined by equivalences, for each stack of each setting.

    Args:
        equivalences: recorded equivalences.

    Example:
        >>> CodeClasses([]).joined(("label set", "budget", "gce"), (("engine", "1a"),))
        frozenset({(('engine', '1a'),)})
    """

    def __init__(self, equivalences: Iterable[Equivalence] = ()) -> None:
        self._edges: dict[Place, dict[Code, dict[Code, Equivalence]]] = {}
        for equivalence in equivalences:
            for run in equivalence.runs:
                edges = self._edges.setdefault((run.label_set, run.budget, run.stack), {})
                old, new = as_code(run.old_code), as_code(run.new_code)
                edges.setdefault(old, {})[new] = equivalence
                edges.setdefault(new, {})[old] = equivalence

    def joined(self, place: Place, code: Code) -> frozenset[Code]:
        """Return the codes that are joined with a code, itself included, directly or through others."""
        edges, found, pending = self._edges.get(place, {}), {code}, [code]
        while pending:
            reached = edges.get(pending.pop(), {}).keys() - found
            found |= reached
            pending.extend(reached)
        return frozenset(found)

    def between(self, place: Place, codes: frozenset[Code]) -> list[Equivalence]:
        """Return the equivalences that join codes of one class, without repetitions."""
        edges = self._edges.get(place, {})
        found = {id(each): each for code in sorted(codes) for each in edges.get(code, {}).values()}
        return list(found.values())

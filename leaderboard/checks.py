"""Checks of a submitted record against its specification, the data and its predictions."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from noisybench.config.budget import Budget
from noisybench.config.source_code import DIGEST_LENGTH
from noisybench.config.spec import Component, RunSpec, run_identity
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.privileged import available_privileged_info
from noisybench.errors import show
from noisybench.leaderboard.claims import PHASE
from noisybench.leaderboard.comparison import agree
from noisybench.leaderboard.evidence_kinds import EvidenceKind
from noisybench.leaderboard.nested_components import manifest_without_places, without_places
from noisybench.leaderboard.strict_files import same_json
from noisybench.records.schema import RunRecord
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import PhaseRunner, find_problems
from noisybench.training.schedule import learning_rate_at
from noisybench.training.stack import Stack


def check_specification(record: RunRecord, spec: RunSpec) -> list[str]:
    """Return what in a record does not follow from its specification and its code.

    Args:
        record: record as claimed.
        spec: specification resolved from the record, with the data of the verifier.
    """
    requirements = _requirements(json.dumps([component.as_dict() for component in spec.mitigations], default=str))
    searched = spec.provenance.privileged if spec.provenance else ()
    privileged = {*requirements.privileged, *spec.preset_privileged, *searched}
    problems = [
        f"{name} is claimed to be {show(claimed, limit=200)}, but its specification gives {show(computed, limit=200)}"
        for name, claimed, computed in (
            ("identity", record.identity, run_identity(spec.settings_hash, record.code)),
            ("settings", record.settings, spec.settings_hash),
            ("stack", record.stack, spec.stack),
            ("budget", record.budget, spec.budget_hash),
            ("seed", record.seed, spec.seed),
            ("dataset", record.dataset, spec.dataset_label),
            ("noise", record.noise, spec.noise.display_name(hide=("path",))),
            ("task", record.task, spec.task_label),
            ("title", record.title, spec.title),
            ("privileged", record.privileged, sorted(privileged)),
            ("parts of the code", sorted(record.code), sorted(spec.code)),
        )
        if claimed != computed
    ]
    if record.settings != spec.settings_hash and spec.data:
        problems.append(
            f"the settings cover the bytes of the files here for {', '.join(sorted(spec.data))}; give the same data"
        )
    if not all(re.fullmatch(f"[0-9a-f]{{{DIGEST_LENGTH}}}", digest) for digest in record.code.values()):
        problems.append("code must have the digests of source code")
    # Defaults filled in and nothing else, so that no text hides in a specification.
    complete = without_places(spec.as_dict())
    problems += [
        f"spec.{field} is not complete as noisybench writes it"
        for field in sorted({*record.spec, *complete})
        if not same_json(record.spec.get(field), complete.get(field)) or field not in record.spec
    ]
    return [*problems, *_check_schedule(record, requirements, spec.budget)]


def _check_schedule(record: RunRecord, requirements: Requirements, budget: Budget) -> Iterator[str]:
    """Check the phase and the learning rate of each row."""
    if problems := find_problems(requirements.phases, budget, has_validation=True):
        yield from problems
        return
    phases = PhaseRunner(requirements.phases, budget)
    for number, row in enumerate(record.rows):
        span = phases.span(row.epoch)
        rate = requirements.lr_multiplier * learning_rate_at(span.budget, row.epoch + 1 - span.schedule_start)
        if row.stage == "train" and not agree(row.learning_rate, rate):
            yield f"row {number}: learning_rate is claimed to be {row.learning_rate}, but the budget gives {rate:g}"
        phase = phases.number(row.epoch) if len(phases.spans) > 1 else None
        if (claimed := row.diagnostics.get(PHASE)) != phase:
            yield f"row {number}: {PHASE} is claimed to be {claimed}, but the stack gives {phase}"


@functools.cache
def _requirements(mitigations: str) -> Requirements:
    # Cached by its JSON, because the runs of a submission share few stacks.
    stack = [Component("mitigations", values.pop("name"), values).build() for values in json.loads(mitigations)]
    return Stack(stack).requirements


def check_record(record: RunRecord, dataset: Dataset, labels: LabelSet, kind: EvidenceKind, evidence: Any) -> list[str]:
    """Return what in a record does not follow from the data and its predictions.

    Args:
        record: record as claimed.
        dataset: dataset of the specification, with the images of the noise model.
        labels: label set of the specification.
        kind: kind of its predictions.
        evidence: predictions of the run.
    """
    problems = []
    unavailable = sorted(set(record.privileged) - set(available_privileged_info(labels, dataset)))
    if unavailable:
        problems.append(
            f"its stack uses privileged information that the setting does not have: {', '.join(unavailable)}"
        )
    if record.label_set != labels.hash or record.manifest.get("sha256") != labels.hash:
        # Further checks would compare with other labels.
        return [
            *problems,
            f"another label set: the record claims {show(record.label_set[:12])}, but the data here gives "
            f"{labels.hash[:12]!r}",
        ]
    manifest = {k: v for k, v in labels.manifest.items() if k not in ("transition_counts", "transition_matrix")}
    # The round trip through JSON turns tuples into lists, as in the record that was read.
    # The verifier's copies of the files lie elsewhere.
    if manifest_without_places(record.manifest) != json.loads(json.dumps(manifest_without_places(manifest))):
        problems.append("its manifest is not that of the label set")
    # Scores of arrays with other shapes or other examples would fail or mean nothing, so shapes come first.
    shape_problems = kind.check_shapes(record, dataset, labels, evidence)
    return [*problems, *(shape_problems or kind.check_scores(record, dataset, labels, evidence))]

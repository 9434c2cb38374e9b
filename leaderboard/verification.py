"""Verifying submissions: every number that predictions decide is computed from them, and runs are trained again.

What is computed anew of each run: identity, stack, budget and knowledge from the specification; the label set and the test
targets from the dataset and the noise model; test, noisy validation and clean validation accuracy of every epoch; and of the
end test loss, calibration error, detection, memorised and recovered labels, and corrections. Costs, training losses and what
detectors said at earlier epochs do not follow from predictions: these are claims, and only training again tells.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.overrides import override, parse_overrides
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.label_set import LabelSet
from noisybench.data.privileged import available_privileged_info
from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.errors import UserError
from noisybench.evaluation import metrics
from noisybench.leaderboard.submission import Evidence, Status, Submission
from noisybench.records.schema import RunRecord
from noisybench.records.selection import select
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store
from noisybench.training.stack import Stack

TOLERANCE = 2.0
"""Percentage points by which `last` may differ when a run is trained again on another machine."""
CLOSE = 1e-4
"""By which sums in another order, or of another version, may differ."""


@dataclass
class Verdict:
    """What a verification came to.

    Attributes:
        runs: how many were looked at.
        problems: why it is refused; none, and the numbers follow from the predictions.
        rerun: for each run that was trained again, how its outcome compares.
    """

    runs: int = 0
    problems: list[str] = field(default_factory=list)
    rerun: list[str] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """What the submission may be called now."""
        if self.problems:
            return "claimed"
        return "re-run" if self.rerun else "re-scored"


def gather(store: Store, runs: Iterable[TrackedRun]) -> Iterator[tuple[RunRecord, Evidence]]:
    """Finished runs of a store with the evidence for a submission.

    Raises:
        UserError: of a run there is none: it is of a task that cannot be submitted yet, or was made by an earlier version.
    """
    import pandas

    for run in runs:
        record = store.runs.record(run)
        if record.metric != "accuracy":
            raise UserError(
                f"{record.title}: submissions have runs that are scored by accuracy; {record.metric} cannot be scored again yet"
            )
        tables = {}
        for name in ("predictions", "samples", "validation"):
            with store.runs.open_file(run, f"{name}.parquet") as file:
                if file is not None:
                    tables[name] = pandas.read_parquet(file)
        if len(tables) < 2 + bool(record.manifest["dataset"]["sizes"]["validation"]):
            raise UserError(
                f"{record.title}: its predictions were not kept, or not those on the validation split, as by earlier versions; "
                "train it again in a new store"
            )
        test, samples, held_out = tables["predictions"], tables["samples"], tables.get("validation")
        rows = len(record.rows)
        yield (
            record,
            Evidence(
                test_index=test["index"].to_numpy(np.int64),
                test_target=test["target"].to_numpy(np.int64),
                test_by_epoch=np.ascontiguousarray(np.stack(test["by_epoch"].tolist()).astype(np.int16).T),
                test_probabilities=np.stack(test["probabilities"].tolist()).astype(np.float32),
                validation_index=np.empty(0, np.int64) if held_out is None else held_out["index"].to_numpy(np.int64),
                validation_by_epoch=np.empty((rows, 0), np.int16)
                if held_out is None
                else np.ascontiguousarray(np.stack(held_out["by_epoch"].tolist()).astype(np.int16).T),
                train_index=samples["index"].to_numpy(np.int64),
                train_observed=samples["observed"].to_numpy(np.int64),
                belief=samples["label_quality"].to_numpy(np.float32),
                prediction=samples["prediction"].to_numpy(np.int16),
                correction=samples["corrected_labels"].to_numpy(np.int16),
            ),
        )


def verify(
    submission: Submission, overrides: Iterable[str] = (), rerun: int = 0, tolerance: float = TOLERANCE
) -> Iterator[Verdict]:
    """Verify a submission.

    Args:
        submission: whole and of the right form.
        overrides: where the data lie on this machine, such as ``dataset.root=data/cifar10``.
        rerun: how many runs to train again, evenly spaced.
        tolerance: as in `TOLERANCE`.

    Yields:
        The verdict so far, after each run that was looked at or trained again; the last one counts.

    Raises:
        UserError: the data are not at hand, or a file is damaged.
    """
    verdict, cells = Verdict(), _Cells()
    changes = parse_overrides(overrides)
    specs: list[tuple[RunSpec, RunRecord]] = []
    for record in submission.records():
        spec = _specification(record, changes)
        dataset, labels = cells.of(spec)
        evidence = submission.evidence(record.identity)
        verdict.problems += [f"{record.title}: {each}" for each in problems(record, spec, dataset, labels, evidence)]
        verdict.runs += 1
        specs.append((spec, record))
        yield verdict
    if verdict.problems:
        return
    for place in np.unique(np.linspace(0, len(specs) - 1, min(rerun, len(specs))).round().astype(int)):
        spec, record = specs[place]
        told, problem = _train_again(spec, record, tolerance)
        verdict.rerun.append(told)
        verdict.problems += [problem] if problem else []
        yield verdict


class _Cells:
    """Datasets and label sets, made once for all runs that share them."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._labels: dict[str, LabelSet] = {}

    def of(self, spec: RunSpec) -> tuple[Dataset, LabelSet]:
        data = json.dumps(spec.dataset.as_dict(), sort_keys=True, default=str)
        noise = data + json.dumps(spec.noise.as_dict(), sort_keys=True, default=str)
        if data not in self._datasets:
            self._datasets[data] = spec.dataset.build().load()
        if noise not in self._labels:
            self._labels[noise] = spec.noise.build().apply(self._datasets[data])
        return self._labels[noise].apply_to(self._datasets[data]), self._labels[noise]


def _specification(record: RunRecord, changes: list[tuple[list[str], list[Any]]]) -> RunSpec:
    raw: Mapping[str, Any] = {**record.spec, "execution": {}}
    for path, values in changes:
        raw = override(raw, path, values[0])
    try:
        return resolve(raw)
    except UserError as error:
        raise UserError(*(f"{record.title}: {each}" for each in error.problems)) from None


def problems(record: RunRecord, spec: RunSpec, dataset: Dataset, labels: LabelSet, evidence: Evidence) -> list[str]:
    """What in a record does not follow from its specification, the data and the evidence.

    Args:
        record: claimed.
        spec: resolved from the record.
        dataset: of the specification, with the noise model's images.
        labels: what the specification's noise model makes of it.
        evidence: of the run.
    """
    found = [
        f"{name} is claimed to be {claimed!r}, but its specification says {computed!r}"
        for name, claimed, computed in (
            ("identity", record.identity, spec.identity),
            ("stack", record.stack, spec.stack),
            ("budget", record.budget, spec.budget_hash),
            ("seed", record.seed, spec.seed),
            ("dataset", record.dataset, spec.dataset_label),
            ("noise", record.noise, spec.noise.display_name(hide=("path",))),
            ("task", record.task, spec.task_label),
            ("title", record.title, spec.title),
            (
                "privileged",
                record.privileged,
                _privileged(spec),
            ),
        )
        if claimed != computed
    ]
    offered = sorted(set(record.privileged) - set(available_privileged_info(labels, dataset)))
    if offered:
        found.append(f"its stack uses knowledge that the cell does not offer: {', '.join(offered)}")
    if record.label_set != labels.hash or record.manifest.get("sha256") != labels.hash:
        return [
            *found,
            f"a foreign label set: {record.label_set[:12]}… is claimed, but from the data here comes {labels.hash[:12]}…",
        ]
    manifest = {k: v for k, v in labels.manifest.items() if k not in ("transition_counts", "transition_matrix")}
    if record.manifest != json.loads(json.dumps(manifest)):
        found.append("its manifest is not that of the label set")
    shape = _misshapen(record, dataset, labels, evidence)
    return [*found, *(shape or _numbers(record, dataset, labels, evidence))]


def _privileged(spec: RunSpec) -> list[str]:
    """Return the privileged information that the stack of a specification reads, or that selected its parameters."""
    declared = _knowledge(json.dumps([each.as_dict() for each in spec.mitigations], default=str))
    return sorted({*declared, *(spec.provenance.privileged if spec.provenance else ())})


@functools.cache
def _knowledge(mitigations: str) -> list[str]:
    parts = [{"mitigations": [each]} for each in json.loads(mitigations)]
    return list(Stack([resolve(each).mitigations[0].build() for each in parts]).requirements.privileged)


def _misshapen(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: Evidence) -> list[str]:
    """Where the evidence is not about the splits of this dataset, or about other targets."""
    rows, test, held_out, train_split = len(record.rows), dataset.test, dataset.validation, dataset.train
    found = [
        f"{name} is not that of the {split} split"
        for name, split, given, expected in (
            ("test_index", "test", evidence.test_index, test.index),
            ("test_target", "test", evidence.test_target, test.targets),
            ("validation_index", "validation", evidence.validation_index, held_out.index),
            ("train_index", "training", evidence.train_index, train_split.index),
            ("train_observed", "training", evidence.train_observed, labels.train),
        )
        if not np.array_equal(given, expected)
    ]
    found += [
        f"{name} has the shape {given}, but must have {expected}"
        for name, given, expected in (
            ("test_by_epoch", evidence.test_by_epoch.shape, (rows, len(test))),
            ("test_probabilities", evidence.test_probabilities.shape, (len(test), dataset.num_classes)),
            ("validation_by_epoch", evidence.validation_by_epoch.shape, (rows, len(held_out))),
            ("belief", evidence.belief.shape, (len(train_split),)),
            ("prediction", evidence.prediction.shape, (len(train_split),)),
            ("correction", evidence.correction.shape, (len(train_split),)),
        )
        if given != expected
    ]
    if not rows:
        found.append("there are no rows")
    if not (np.isfinite(evidence.belief).all() and np.isfinite(evidence.test_probabilities).all()):
        found.append("belief and test_probabilities must be finite")
    return found


def _numbers(record: RunRecord, dataset: Dataset, labels: LabelSet, evidence: Evidence) -> list[str]:
    """Every number that the predictions decide, where it is not what the record claims."""
    found: list[str] = []

    def expect(name: str, claimed: float | None, computed: float | None) -> None:
        if claimed is None or computed is None:
            same = claimed is computed
        else:
            same = math.isclose(claimed, computed, abs_tol=CLOSE, rel_tol=CLOSE)
        if not same:
            found.append(f"{name} is claimed to be {claimed}, but the predictions give {computed}")

    right, observed = dataset.validation.targets, labels.validation
    for place, row in enumerate(record.rows):
        where = f"row {place} ({row.stage}, epoch {row.epoch}): "
        expect(
            f"{where}test_score", row.test_score, metrics.share(evidence.test_by_epoch[place] == dataset.test.targets)
        )
        held_out = evidence.validation_by_epoch[place]
        expect(f"{where}noisy_val_score", row.noisy_val_score, metrics.share(held_out == observed))
        expect(f"{where}clean_val_score", row.clean_val_score, metrics.share((held_out == right)[right >= 0]))
    end, states = record.rows[-1], labels.label_status(dataset.train.targets)
    observed, clean = labels.train, dataset.train.targets
    probabilities, targets = evidence.test_probabilities, dataset.test.targets
    if not np.array_equal(probabilities.argmax(1), evidence.test_by_epoch[-1]):
        found.append("test_probabilities do not give the predictions of the last row")
    expect("test_loss", end.test_loss, metrics.cross_entropy(probabilities, targets))
    expect("calibration_error", record.calibration_error, metrics.calibration_error(probabilities, targets))
    wrong = np.isin(states, (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION))
    expect("memorized_fraction", end.memorized_fraction, metrics.share((evidence.prediction == observed)[wrong]))
    expect(
        "recovered_fraction",
        end.recovered_fraction,
        metrics.share((evidence.prediction == clean)[states == IN_DISTRIBUTION]),
    )
    changed = (evidence.correction != observed) & (clean >= 0)
    expect("correction_accuracy", record.correction_accuracy, metrics.share((evidence.correction == clean)[changed]))
    detected = metrics.detect(evidence.belief, states)
    for name, value in vars(detected).items():
        claimed = getattr(record.detection, name)
        if name != "roc":
            expect(f"detection.{name}", claimed, value)
        elif (claimed is None) != (value is None) or (claimed and not np.allclose(claimed, value, atol=CLOSE)):
            found.append("detection.roc is not what the beliefs give")
    expect("train_score", end.train_score, float((evidence.prediction == observed).mean()))
    return found


def _train_again(spec: RunSpec, record: RunRecord, tolerance: float) -> tuple[str, str | None]:
    """How a run comes out here, and what is wrong with the claim, if anything is."""
    from noisybench.runs.environment import describe_environment
    from noisybench.runs.preparation import prepare_run
    from noisybench.runs.runner import train

    with tempfile.TemporaryDirectory() as folder:
        recorder = train(
            prepare_run(spec),
            Path(folder),
            lambda rows: None,
            lambda kind, data: None,
            lambda: False,
            Path(folder) / "auxiliary",
        )
        made = recorder.record(describe_environment(spec))
    if made.weights_sha256 == record.weights_sha256:
        return f"{record.title}: the same to the bit", None
    claimed, found = select(record, "last"), select(made, "last")
    assert claimed is not None
    assert found is not None
    difference = 100 * (found - claimed)
    told = f"{record.title}: last {100 * found:.2f} here, {100 * claimed:.2f} claimed"
    return told, None if abs(difference) <= tolerance else f"{told}: more than {tolerance:g} points apart"

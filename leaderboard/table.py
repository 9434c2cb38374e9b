"""Leaderboard tables: all stacks of one setting, a pure function of measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from noisybench.leaderboard.code_selection import select_code
from noisybench.leaderboard.measurements import Measurement, join_warnings
from noisybench.leaderboard.pair_model import Test
from noisybench.leaderboard.published import PublishedResult, find_published
from noisybench.leaderboard.seed_warnings import differing_seeds, seeds_without_score
from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.leaderboard.statistics import (
    Ranking,
    Summary,
    UnstableStack,
    rank,
    summarize,
    unstable_stacks,
)
from noisybench.records.codes import Code
from noisybench.records.equivalence import Equivalence
from noisybench.records.selection import RULE_NEEDS, SELECTION_RULES

MAX_WARNINGS = 3
"""Most warnings of a stack that its row shows."""
MAX_WARNING_LENGTH = 200
"""Most characters of a warning that a row shows."""


@dataclass(frozen=True)
class StackRow:
    """One stack in one setting. Scores and fractions are in [0, 1]; None where no run has a value.

    Attributes:
        stack: stack of mitigations with their parameters.
        privileged: privileged information that it uses.
        measurements: its runs in order of seeds, all of the same code or of codes that an equivalence joins.
        code: code of its runs; empty if it was not recorded.
        scores: summary of the scores by selection rule.
        oracle_gap: oracle minus last, which is what selection on the test split would add.
        noise_auroc: AUROC of the label quality against incorrect labels.
        ood_auroc: AUROC of the label quality for OOD images against correctly labeled ones.
        mean_shift_accuracy: final accuracy on test sets under distribution shift, mean over the sets.
        balanced_accuracy: balanced accuracy of the final network on the clean test targets.
        worst_class_recall: lowest recall of a class by the final network on the clean test targets.
        memorized_fraction: fraction of mislabeled examples that the final network predicts as their incorrect label.
        memorized_chance: expected value of this fraction for a network that has memorized no example.
        calibration_error: expected calibration error of the test predictions.
        wall_seconds: wall-clock seconds of one run.
        published: results of the literature in the same setting.
        warnings: warnings that its runs reported, with the number of runs.
    """

    stack: str
    privileged: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    code: Code
    scores: dict[str, Summary | None]
    oracle_gap: Summary | None
    noise_auroc: Summary | None
    ood_auroc: Summary | None
    mean_shift_accuracy: Summary | None
    balanced_accuracy: Summary | None
    worst_class_recall: Summary | None
    memorized_fraction: Summary | None
    memorized_chance: Summary | None
    calibration_error: Summary | None
    wall_seconds: Summary | None
    published: tuple[PublishedResult, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """All stacks of one setting (dataset, label set and budget) and one code, best first.

    Attributes:
        description: what is held equal.
        rows: one row per stack.
        ranking: ranks that the seeds support, by the selection rule `rule`.
        rule: selection rule by which the rows are sorted and ranked.
        test: paired test of the ranking.
        warnings: differences between runs that a reader should know: versions, devices, missing seeds.
        code: code of everything except the mitigations; empty if it was not recorded.
        joined: codes that a recorded equivalence joins in the rows.
        other_code: runs of the same settings that have other code and are in no row.
        selected: stacks that tables show, all of them if it is empty; ranks are always those among all stacks.
    """

    description: SettingDescription
    rows: tuple[StackRow, ...]
    ranking: Ranking
    rule: str
    test: Test
    warnings: tuple[str, ...]
    code: Code = ()
    joined: tuple[str, ...] = ()
    other_code: tuple[str, ...] = ()
    selected: frozenset[str] = frozenset()

    @property
    def shown_rows(self) -> list[StackRow]:
        """Rows that tables show."""
        return [row for row in self.rows if not self.selected or row.stack in self.selected]

    @property
    def title(self) -> str:
        """Dataset, noise and task in one line."""
        return self.description.title

    @property
    def notes(self) -> tuple[str, ...]:
        """How the code of the runs decided which of them are in the table, one line each."""
        return (*self.joined, *self.other_code)

    @property
    def unstable(self) -> list[UnstableStack]:
        """Stacks that vary far more over seeds than the others by the selection rule."""
        return unstable_stacks(seed_scores(self.rows, self.rule), _resolution(self.description))

    def mean_scores(self) -> dict[str, float]:
        """Return the mean score of each stack by the selection rule."""
        means = {row.stack: row.scores[self.rule] for row in self.rows}
        return {stack: summary.mean for stack, summary in means.items() if summary is not None}

    def ranked_by(self, rule: str) -> Setting:
        """Return the same rows, in the same order, with the ranking by a selection rule."""
        if rule == self.rule:
            return self
        return replace(self, rule=rule, ranking=rank_rows(self.description, self.rows, rule, self.test))


def build_settings(
    measurements: Iterable[Measurement],
    rule: str = "last",
    test: Test = "moderated_t",
    equivalences: Sequence[Equivalence] = (),
) -> list[Setting]:
    """Group runs into settings; runs with other label sets, budgets or code never share a table.

    Args:
        measurements: finished runs; of several with the same setting, stack, code and seed the latest one counts, and the
            user's own before one of a submission.
        rule: selection rule that sorts and ranks.
        test: paired test, see `statistics.rank`.
        equivalences: recorded equivalences of code.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> settings = build_settings(builtin_measurements())
        >>> next(setting.title for setting in settings if "pair_flip(rate=0.4)" in setting.title)
        'digits · pair_flip(rate=0.4)'
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        description = measurement.setting
        groups.setdefault((description.label_set, description.budget), []).append(measurement)
    settings = [_build_setting(group, rule, test, equivalences) for group in groups.values()]
    return sorted(settings, key=lambda setting: setting.description.sort_key)


def _build_setting(
    measurements: list[Measurement], rule: str, test: Test, equivalences: Sequence[Equivalence]
) -> Setting:
    selection = select_code(measurements, equivalences)
    rows = [_build_row(stack, code, runs) for stack, (code, runs) in selection.rows.items()]

    def sort_key(row: StackRow) -> tuple[bool, float, str]:
        summary = row.scores[rule]
        # The name breaks ties, so that the order does not depend on the order in which runs finished.
        return (summary is None, -summary.mean if summary else 0.0, row.stack)

    rows.sort(key=sort_key)
    description = measurements[0].setting
    ranking = rank_rows(description, rows, rule, test)
    warnings = (*selection.warnings, *_warnings(rows, ranking, rule), *_unstable(description, rows, rule))
    return Setting(
        description,
        tuple(rows),
        ranking,
        rule,
        test,
        warnings,
        code=selection.code,
        joined=selection.joined,
        other_code=selection.others,
    )


def seed_scores(rows: Sequence[StackRow], rule: str) -> dict[str, dict[int, float]]:
    """Return the score of each run by stack and seed."""
    return {
        row.stack: {
            measurement.seed: score
            for measurement in row.measurements
            if (score := measurement.score(rule)) is not None
        }
        for row in rows
    }


def rank_rows(description: SettingDescription, rows: Sequence[StackRow], rule: str, test: Test) -> Ranking:
    """Return the ranks that the seeds of a setting support by a selection rule."""
    return rank(seed_scores(rows, rule), test, _resolution(description))


def _resolution(description: SettingDescription) -> float:
    # One test example more or less is the smallest difference between two accuracies; other metrics have no such step.
    return 1 / description.test_size if description.metric == "accuracy" else 1e-4


def _unstable(description: SettingDescription, rows: Sequence[StackRow], rule: str) -> list[str]:
    """Return a warning for each stack that varies far more over seeds than the others."""
    return [
        f"{each.stack} is unstable: sd {100 * each.deviation:.1f} against a median of {100 * each.median:.1f} points"
        for each in unstable_stacks(seed_scores(rows, rule), _resolution(description))
    ]


def _build_row(stack: str, code: Code, measurements: list[Measurement]) -> StackRow:
    def summary(name: str, is_fraction: bool = True) -> Summary | None:
        # Seeds without a value are left out: a zero in their place would shift the mean.
        values = [getattr(measurement, name) for measurement in measurements]
        return summarize([value for value in values if value is not None], is_fraction)

    # Differences within runs: the interval of the gap then excludes what seeds have in common.
    gaps = [
        measurement.oracle - measurement.last
        for measurement in measurements
        if measurement.oracle is not None and measurement.last is not None
    ]
    first = measurements[0]
    return StackRow(
        stack=stack,
        privileged=first.privileged,
        measurements=tuple(measurements),
        code=code,
        scores={rule: summary(rule) for rule in SELECTION_RULES},
        oracle_gap=summarize(gaps),
        noise_auroc=summary("noise_auroc"),
        ood_auroc=summary("ood_auroc"),
        mean_shift_accuracy=summary("mean_shift_accuracy"),
        balanced_accuracy=summary("balanced_last"),
        worst_class_recall=summary("worst_class_recall"),
        memorized_fraction=summary("memorized_fraction"),
        memorized_chance=summary("memorized_chance"),
        calibration_error=summary("calibration_error"),
        wall_seconds=summary("wall_seconds", is_fraction=False),
        published=tuple(find_published(first.setting.literature, first.method)),
        warnings=_row_warnings(measurements),
    )


def _row_warnings(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Return the warnings that the runs of a row reported, the most frequent first."""
    counts = Counter(join_warnings(warning for measurement in measurements for warning in measurement.warnings))
    lines = [f"{warning[:MAX_WARNING_LENGTH]} ({_runs(count)})" for warning, count in counts.most_common(MAX_WARNINGS)]
    num_more = len(counts) - len(lines)
    return (*lines, *([f"and {num_more} more warnings, which are in record.json"] if num_more else []))


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def torch_major(version: str) -> str:
    """Return the major version of PyTorch.

    Example:
        >>> torch_major("2.14.1+cu130")
        '2'
    """
    return version.partition(".")[0]


def _warnings(rows: Sequence[StackRow], ranking: Ranking, rule: str) -> tuple[str, ...]:
    warnings = []
    majors: dict[str, list[str]] = {}
    for row in rows:
        for major in sorted({torch_major(measurement.torch) for measurement in row.measurements}):
            majors.setdefault(major, []).append(row.stack)
    if len(majors) > 1:
        parts = [f"{major} ({', '.join(stacks)})" for major, stacks in sorted(majors.items())]
        warnings.append(
            f"runs of different major versions of PyTorch are compared, whose results may differ: {'; '.join(parts)}"
        )
    for attribute, name in (("device", "device"), ("torch", "PyTorch version"), ("version", "noisybench version")):
        values = sorted({getattr(measurement, attribute) for row in rows for measurement in row.measurements})
        if len(values) > 1:
            warnings.append(f"runs differ in {name}: {', '.join(values)}")
    # A single stack is never ranked, which is no fault of its runs.
    without_score = [row.stack for row in rows if row.scores[rule] is None]
    if 0 < len(without_score) < len(rows):
        warnings.append(f"not ranked, no score by {rule} ({RULE_NEEDS[rule]}): {', '.join(without_score)}")
    untested_stacks = [stack for stack in ranking.untested if stack not in without_score]
    if untested_stacks and len(rows) > 1:
        warnings.append(f"not ranked, fewer than two seeds in common: {', '.join(untested_stacks)}")
    untested = sorted({name for row in rows for measurement in row.measurements for name in _untested(measurement)})
    if untested:
        warnings.append(f"classes without a test example, left out of the balanced accuracy: {', '.join(untested)}")
    for row in rows:
        # A warning begins with the mitigation that reported it, which may be the whole stack.
        prefix = f"{row.stack}: "
        warnings += [warning if warning.startswith(prefix) else prefix + warning for warning in row.warnings]
    present = {row.stack: {measurement.seed for measurement in row.measurements} for row in rows}
    warnings += [*seeds_without_score(present, seed_scores(rows, rule), rule), *differing_seeds(present)]
    return tuple(warnings)


def _untested(measurement: Measurement) -> list[str]:
    """Return the names of the classes without a test example; none if recalls are not known."""
    record = measurement.record
    if record is None or not record.test_recall:
        return []
    names = record.manifest["dataset"]["classes"]
    return [str(name) for name, recall in zip(names, record.test_recall, strict=True) if recall is None]


DETECTOR_METRICS = (
    "noise_auroc", "id_noise_auroc", "ood_auroc", "average_precision", "precision", "recall", "balanced_accuracy",
    "ood_balanced_accuracy", "flagged_fraction", "missed_at_true_rate",
)  # fmt: skip
"""Metrics of `evaluation.detectors.score_detector` that tables show."""


def detector_values(row: StackRow) -> dict[str, dict[str, float | None]]:
    """Return the metrics of a stack's detectors: means over the later half of their epochs and over seeds.

    Returns:
        Values of `DETECTOR_METRICS` by detector; None where nothing was measured. Empty without complete records.
    """
    collected: dict[str, dict[str, list[float]]] = {}
    for measurement in row.measurements:
        epochs = [epoch.detectors for epoch in measurement.record.rows if epoch.detectors] if measurement.record else []
        # Epochs without detectors are not in this list, so the half is that of the epochs with an output.
        for epoch in epochs[len(epochs) // 2 :]:
            for detector, metrics in epoch.items():
                for name in DETECTOR_METRICS:
                    value = metrics.get(name)
                    if value is not None:
                        collected.setdefault(detector, {}).setdefault(name, []).append(float(value))
    return {
        detector: {name: float(np.mean(values[name])) if name in values else None for name in DETECTOR_METRICS}
        for detector, values in collected.items()
    }

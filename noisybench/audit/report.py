"""Report of an audit: summary lines, an HTML page, a CSV table for relabeling and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.audit.data_quality import DataQuality, class_quality, imbalance
from noisybench.audit.findings import TOP_FRACTIONS, AuditResult, precision_at
from noisybench.audit.inputs import AuditInput
from noisybench.audit.page import largest_confusions, to_html
from noisybench.audit.reliability import Reliability
from noisybench.audit.scores import to_csv, to_parquet
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.utils.files import wrap_write_errors, write_atomically

MAX_LISTED_CLASSES = 10
"""Largest number of classes whose accuracies the summary lists completely."""

MAX_LISTED_QUALITY = 3
"""Number of classes with the largest fractions of suspects whose label quality the summary lists."""

MAX_CONFUSIONS = 5
"""Largest number of confused pairs of classes in the summary."""


COMPLETE_RESPONSE = 0.8
"""Counted part of planted labels on ambiguous examples from which on the summary does not mention it."""


@dataclass(frozen=True)
class AuditReport:
    """Input and result of an audit.

    Attributes:
        audit_input: audited images and labels.
        result: estimates and ranking.
        quality: copies and outliers.
        networks: one line about the networks that were trained.
        similar: similar settings of the leaderboard, as a heading and the lines below it.
    """

    audit_input: AuditInput
    result: AuditResult
    quality: DataQuality
    networks: str
    similar: list[tuple[str, list[str]]]

    def save(self, folder: Path) -> None:
        """Write `report.html`, `scores.csv`, `scores.parquet` and `findings.json` into a folder.

        Raises:
            UserError: the folder cannot be written.
        """
        # All texts are complete before the first write, so that an error in one of them leaves no partial report.
        texts = {
            "scores.csv": to_csv(self.audit_input, self.result, self.quality),
            "findings.json": to_json(self),
            "report.html": to_html(self.audit_input, self.result, summary(self), self.similar),
        }
        contents = {name: text.encode() for name, text in texts.items()}
        contents["scores.parquet"] = to_parquet(self.audit_input, self.result, self.quality)
        with wrap_write_errors(folder):
            for name, content in contents.items():
                write_atomically(folder / name, content)


def summary(report: AuditReport) -> list[str]:
    """Return the main results as lines of text."""
    data, result, names = report.audit_input, report.result, report.audit_input.class_names
    lines = [
        f"{data.title}: {len(data.observed)} examples of {len(names)} classes, {report.networks}",
        *describe_accuracy(result.reliability, names),
        _describe_estimate(data, result),
    ]
    if result.reliability.caution:
        lines.append(f"caution: {result.reliability.caution}")
    if result.num_verified:
        lines.append(
            f"verified by people: {result.num_verified} labels, which are no suspects and count as correct in the rate"
        )
    confusions = largest_confusions(names, result.transition_matrix, MAX_CONFUSIONS)
    lines += [f"  {share:.1%} of {true} labeled {observed}" for true, observed, share in confusions if share > 0]
    lines += [
        f"agreement of {a} and {b}: rank correlation {correlation:.2f}, {overlap:.0%} of the most suspicious labels in common"
        for (a, b), (correlation, overlap) in result.agreement.items()
    ]
    return [*lines, *describe_quality(report), *compare_with_clean_labels(report)]


def describe_accuracy(reliability: Reliability, class_names: Sequence[str]) -> list[str]:
    """Return the accuracy of the out-of-sample predictions as lines of text."""
    low, high = reliability.accuracy_interval
    by_class = [row for row in np.argsort(reliability.class_accuracy).tolist() if reliability.class_accuracy[row] >= 0]
    extremes = by_class if len(by_class) <= MAX_LISTED_CLASSES else [*by_class[:3], *by_class[-3:]]
    listed = ", ".join(f"{class_names[row]} {reliability.class_accuracy[row]:.0%}" for row in extremes)
    return [
        f"out-of-fold accuracy: {reliability.accuracy:.1%} of the observed labels ({low:.1%} to {high:.1%}); "
        f"chance: {reliability.chance:.1%}{_ceiling(reliability)}",
        f"  by class{'' if extremes is by_class else ' (lowest and highest three)'}: {listed}",
    ]


def describe_quality(report: AuditReport) -> list[str]:
    """Return the classes of the lowest label quality, the imbalance, and the numbers of copies and outliers as lines of text."""
    data, quality = report.audit_input, report.quality
    labeled = [row for row in class_quality(data, report.result) if row["labels"]]
    ratio = imbalance(data.observed, len(data.class_names))
    sizes = [row["labels"] for row in labeled]
    balance = "some classes have no labels" if ratio is None else f"imbalance {ratio:.1f}"
    lines = [f"labels by class: {min(sizes)} to {max(sizes)}; {balance}"]
    lines += [
        f"  {row['name']}: {row['labels']} labels, {row['suspected']:.1%} suspected, "
        f"mean label quality {row['label_quality']:.2f}"
        for row in sorted(labeled, key=lambda row: (-row["suspected"], row["label_quality"]))[:MAX_LISTED_QUALITY]
    ]
    exact, near = int(quality.is_exact_copy.sum()), int(quality.is_near_duplicate.sum())
    searched = "near duplicates not searched" if quality.near_origin is None else f"near duplicates: {near}"
    across, other = int(quality.across_splits.sum()), int(quality.other_label.sum())
    found = f"; examples with one in another split: {across}, with another label: {other}" if exact + near else ""
    lines.append(f"exact copies: {exact}, {searched}{found}")
    if quality.is_outlier is not None:
        lines.append(f"outliers: {int(quality.is_outlier.sum())}, by distance to neighbors in {data.feature_origin}")
    if quality.num_compared < len(data.observed):
        lines.append(f"each example was compared with {quality.num_compared} others, not with all {len(data.observed)}")
    return lines


def _ceiling(reliability: Reliability) -> str:
    """Return the accuracy that perfect predictions would reach, if there is an estimate."""
    return "" if reliability.problem else f"; perfect predictions would reach about {reliability.ceiling:.0%}"


def _describe_estimate(data: AuditInput, result: AuditResult) -> str:
    reliability = result.reliability
    if result.noise_rate is None:
        if data.predictions is not None:
            advice = "Give out-of-sample predictions of a better model"
        elif data.features is not None:
            advice = "Use features of another backbone"
        else:
            advice = "Use features of a pre-trained backbone (--backbone), more epochs"
        return f"no estimate of the noise rate: {reliability.problem}. {advice} or more data"
    low, high = reliability.rate_interval
    interval = f"sampling interval {low:.0%} to {high:.0%}"
    text = f"estimated noise rate: {result.noise_rate:.0%} ({interval}; {result.num_suspects} examples)"
    counted = reliability.ambiguous_response
    if counted < COMPLETE_RESPONSE:
        text += f"; it counts {max(counted, 0):.0%} of labels that were changed where the predictions hesitate"
    return text


def compare_with_clean_labels(report: AuditReport) -> list[str]:
    """Return the true noise rate and the precision of each detector as lines of text; none without clean labels."""
    clean, observed = report.audit_input.clean, report.audit_input.observed
    if clean is None:
        return []
    known = clean != UNKNOWN_TARGET
    # Out-of-distribution images count as incorrect: no observed class equals their target of -1.
    incorrect = (observed != clean)[known]
    lines = [f"compared with the clean labels: the noise rate is {incorrect.mean():.1%}; precision of the detectors:"]
    for name, scores in report.result.error_score.items():
        precisions = ", ".join(
            f"{precision_at(scores[known], incorrect, fraction):.1%} in the first {fraction:.0%}"
            for fraction in TOP_FRACTIONS
        )
        lines.append(f"  {name}: {precisions}")
    return lines


def to_json(report: AuditReport) -> str:
    """Return the results as JSON text."""
    data, result = report.audit_input, report.result
    content = {
        "examples": len(data.observed),
        "classes": list(data.class_names),
        "noise_rate": result.noise_rate,
        "reliability": reliability_json(result.reliability),
        "transition_matrix": None if result.transition_matrix is None else result.transition_matrix.tolist(),
        "suspects": data.index[result.suspects].tolist(),
        "class_quality": class_quality(data, result),
        "imbalance": imbalance(data.observed, len(data.class_names)),
        "duplicates": _duplicates(data, report.quality),
        "outliers": _outliers(data, report.quality),
        "agreement": [[*pair, *values] for pair, values in result.agreement.items()],
    }
    return json.dumps(content, indent=1)


def _duplicates(data: AuditInput, quality: DataQuality) -> dict[str, Any]:
    """Return numbers and groups of copies and near duplicates for JSON, with rows of the source."""
    return {
        "exact_copies": int(quality.is_exact_copy.sum()),
        "near_duplicates": None if quality.near_origin is None else int(quality.is_near_duplicate.sum()),
        "searched_in": quality.near_origin,
        "num_compared": quality.num_compared,
        "across_splits": data.index[quality.across_splits].tolist(),
        "with_other_label": data.index[quality.other_label].tolist(),
        "groups": [data.index[group].tolist() for group in quality.groups],
    }


def _outliers(data: AuditInput, quality: DataQuality) -> list[int] | None:
    """Return rows of the source that are outliers, the farthest first; None without features."""
    if quality.is_outlier is None or quality.neighbor_distance is None:
        return None
    order = np.argsort(-quality.neighbor_distance, kind="stable")
    return [int(row) for row in data.index[order[quality.is_outlier[order]]]]


def reliability_json(reliability: Reliability) -> dict[str, Any]:
    """Return the reliability for JSON, which has no NaN."""
    content = asdict(reliability)
    by_class = [None if math.isnan(value) else value for value in reliability.class_accuracy.tolist()]
    return content | {"class_accuracy": by_class}

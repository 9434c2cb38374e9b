"""Report of an audit of masks: summary lines, tables of images and classes, pictures and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import precision_at
from noisybench.audit.masks.confident import MaskScores, score_masks
from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.audit.masks.networks import FoldNetworks
from noisybench.audit.masks.page import to_html
from noisybench.audit.masks.pictures import write_pictures
from noisybench.audit.report import reliability_json
from noisybench.data.targets import IGNORED
from noisybench.utils.cells import plain_cell
from noisybench.utils.files import wrap_write_errors, write_atomically
from noisybench.utils.seeds import Stream
from noisybench.utils.text import counted

TOP_FRACTIONS = (0.01, 0.05, 0.1)
"""Fractions of the images for which the precision of the most suspicious ones is reported."""

MAX_COMPARED_PIXELS = 1_000_000
"""Number of pixels on which the average precision is measured."""

MAX_LISTED_CLASSES = 5
"""Largest number of classes in the summary."""

IMAGE_COLUMNS = (
    "rank", "index", "file", "split", "score", "suspect_share", "most_doubtful_class", "labeled_pixels", "is_verified",
)  # fmt: skip
CLASS_COLUMNS = ("class", "labeled_pixels", "accuracy", "mean_quality", "suspect_share", "suggested_instead")


@dataclass(frozen=True)
class MaskAuditReport:
    """Input and result of an audit of masks.

    Attributes:
        data: audited images and masks.
        scores: scores of images and pixels.
        networks: one line about the networks that were trained.
    """

    data: MaskAuditInput
    scores: MaskScores
    networks: str

    def save(self, folder: Path, num_pictures: int) -> int:
        """Write `report.html`, `scores.csv`, `classes.csv`, `findings.json` and pictures of suspicious images into a folder.

        Returns:
            Number of images with pictures.

        Raises:
            UserError: the folder cannot be written.
        """
        texts = {
            "scores.csv": to_csv(IMAGE_COLUMNS, image_rows(self)),
            "classes.csv": to_csv(CLASS_COLUMNS, class_rows(self)),
            "findings.json": to_json(self),
            "report.html": page(self),
        }
        with wrap_write_errors(folder):
            for name, text in texts.items():
                write_atomically(folder / name, text.encode())
            return write_pictures(self.data, self.scores, num_pictures, folder / "suspects")


def page(report: MaskAuditReport) -> str:
    """Return the page on which people review the masks."""
    return to_html(report, summary(report), CLASS_COLUMNS, class_rows(report))


def image_rows(report: MaskAuditReport) -> list[list[Any]]:
    """Return a row of `IMAGE_COLUMNS` for every image, the most suspicious first."""
    data, scores = report.data, report.scores
    share, names = scores.suspect_share, data.class_names
    rows = []
    for rank, row in enumerate(scores.ranking.tolist(), 1):
        # The class with the most suspects; of an image without suspects, none.
        in_doubt = np.bincount(data.masks[row][scores.suspect[row]], minlength=len(names))
        rows.append(
            [
                rank,
                int(data.index[row]),
                data.files[row] if data.files else "",
                data.splits[row],
                float(scores.image_score[row]),
                float(share[row]),
                names[int(in_doubt.argmax())] if in_doubt.any() else "",
                int(scores.labeled[row].sum()),
                bool(scores.verified[row]),
            ]
        )
    return rows


def class_rows(report: MaskAuditReport) -> list[list[Any]]:
    """Return a row of `CLASS_COLUMNS` for every class; empty cells for a class without pixels."""
    masks, scores, names = report.data.masks, report.scores, report.data.class_names
    rows: list[list[Any]] = []
    for number, name in enumerate(names):
        in_class = masks == number
        count, suspects = int(in_class.sum()), scores.suspect & in_class
        if not count:
            rows.append([name, 0, "", "", "", ""])
            continue
        suggested = np.bincount(scores.suggested[suspects], minlength=len(names))
        rows.append(
            [
                name,
                count,
                float((scores.suggested[in_class] == number).mean()),
                float(scores.quality[in_class].mean(dtype=np.float64)),
                float(suspects.sum() / count),
                names[int(suggested.argmax())] if suggested.any() else "",
            ]
        )
    return rows


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as CSV text that a spreadsheet opens without computing formulas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else plain_cell(str(value))


def summary(report: MaskAuditReport) -> list[str]:
    """Return the main results as lines of text."""
    data, scores, reliability = report.data, report.scores, report.scores.reliability
    (low, high), (least, most) = reliability.accuracy_interval, reliability.rate_interval
    lines = [
        f"{data.title}: {len(data.masks)} masks of {len(data.class_names)} classes, {report.networks}",
        f"out-of-fold accuracy: {reliability.accuracy:.1%} of the labeled pixels ({low:.1%} to {high:.1%}); "
        f"chance: {reliability.chance:.1%}",
    ]
    if reliability.noise_rate is None:
        lines.append(f"no estimate of the noise rate of pixels: {reliability.problem}. Use more epochs or more data")
    else:
        lines.append(
            f"estimated noise rate of pixels: {reliability.noise_rate:.1%} (sampling interval {least:.1%} to {most:.1%})"
        )
    suspects, with_suspects = int(scores.suspect.sum()), int(scores.suspect.any((1, 2)).sum())
    lines.append(
        f"pixels under suspicion: {suspects / scores.labeled.sum():.1%} of the labeled ones, in {with_suspects} of "
        f"{len(data.masks)} images"
    )
    if scores.verified.any():
        lines.append(f"verified by people: {int(scores.verified.sum())} masks, which have no suspects")
    doubtful = sorted((row for row in class_rows(report) if row[4]), key=lambda row: -row[4])[:MAX_LISTED_CLASSES]
    lines += [f"  {share:.1%} of {name}, most often {instead} instead" for name, _, _, _, share, instead in doubtful]
    return lines + compare_with_clean_masks(report)


def compare_with_clean_masks(report: MaskAuditReport) -> list[str]:
    """Return the true noise rate and the precision of the scores as lines of text; none without clean masks."""
    known, incorrect = _incorrect_pixels(report)
    if known is None:
        return []
    # Images without a known pixel cannot be compared.
    rows = known.any((1, 2))
    of_image = (incorrect.sum((1, 2)) / np.maximum(known.sum((1, 2)), 1))[rows]
    suspicion = -report.scores.image_score[rows]
    lines = [
        f"compared with the clean masks: {incorrect.sum() / known.sum():.1%} of the pixels are mislabeled, and "
        f"{(of_image > 0).mean():.1%} of the images have a mislabeled pixel"
    ]
    for fraction in TOP_FRACTIONS:
        first = np.argsort(-suspicion, kind="stable")[: max(1, round(fraction * len(suspicion)))]
        lines.append(
            f"  first {fraction:.0%} of the images: {precision_at(suspicion, of_image > 0, fraction):.1%} have a mislabeled "
            f"pixel; {of_image[first].mean():.1%} of their pixels are mislabeled"
        )
    precision = pixel_average_precision(report)
    if precision is not None:
        lines.append(f"  pixels by label quality: average precision {precision:.1%}")
    return lines


def pixel_average_precision(report: MaskAuditReport) -> float | None:
    """Return the average precision of the label quality of pixels; None without clean masks or mislabeled pixels."""
    from sklearn.metrics import average_precision_score

    known, incorrect = _incorrect_pixels(report)
    if known is None:
        return None
    positions = np.flatnonzero(known)
    positions = positions[Stream("audit", "compared pixels", len(positions)).permutation(len(positions))]
    positions = positions[:MAX_COMPARED_PIXELS]
    truth = incorrect.reshape(-1)[positions]
    return float(average_precision_score(truth, -report.scores.quality.reshape(-1)[positions])) if truth.any() else None


def _incorrect_pixels(report: MaskAuditReport) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_]]:
    """Return which pixels have a known clean class, and which of these are mislabeled; None without clean masks."""
    clean, masks = report.data.clean, report.data.masks
    if clean is None:
        return None, np.zeros(0, dtype=bool)
    known = report.scores.labeled & (clean != IGNORED)
    return known, known & (clean != masks)


def to_json(report: MaskAuditReport) -> str:
    """Return the results as JSON text."""
    data, scores = report.data, report.scores
    content = {
        "images": len(data.masks),
        "classes": list(data.class_names),
        "noise_rate": scores.reliability.noise_rate,
        "reliability": reliability_json(scores.reliability),
        "confident_joint": scores.joint.tolist(),
        "suspect_share": float(scores.suspect.sum() / scores.labeled.sum()),
        "pixel_average_precision": pixel_average_precision(report),
    }
    return json.dumps(content, indent=1)


def audit_masks(networks: FoldNetworks, data: MaskAuditInput) -> MaskAuditReport:
    """Score the masks of an audit by the networks of its folds."""
    scores = score_masks(data.masks, networks.predictions, len(data.class_names))
    if data.verified is not None:
        scores = scores.with_verified(data.verified)
    return MaskAuditReport(data, scores, describe_networks(data, len(networks.tasks)))


def describe_networks(data: MaskAuditInput, folds: int) -> str:
    """Describe the networks of an audit in one line."""
    budget = data.spec.budget
    epochs = counted(budget.epochs, "epoch")
    return f"{folds} networks ({budget.network}), each trained on {folds - 1} of {folds} folds for {epochs}"

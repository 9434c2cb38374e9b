"""Page of an audit of masks: a self-contained tool to compare given and predicted masks, and to decide about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.page import SHARED_SCRIPTS, digest, encode_picture, percent
from noisybench.data.masks.packed import mask_digest, pack_mask
from noisybench.data.targets import IGNORED
from noisybench.plots.label_sets import mask_palette
from noisybench.utils.pages.rendering import json_in_script, render_page

if TYPE_CHECKING:
    from noisybench.audit.masks.report import MaskAuditReport

DECISION_COLUMNS = ("index", "file", "split", "given", "decision", "new_mask")
"""Columns of a table of decisions: the example, the digest of its given mask, the decision and the accepted mask."""

VIEWS = ("given", "predicted", "difference", "photograph")
"""Overlays between which the page switches."""

MAX_BYTES = 10_000_000
"""Largest size of the photographs and masks on the page, in base64."""

MAX_SIDE = 480
"""Pixels of the longer side to which larger photographs are reduced; masks keep their size."""

DIFFERS, SUSPECT = 0, 1
"""Values of the difference of two masks; `IGNORED` where they agree."""


def to_html(report: MaskAuditReport, lines: Sequence[str], class_columns: Sequence[str], classes: Sequence[Any]) -> str:
    """Return the page of an audit of masks, which loads nothing from the network, and runs no script but its own.

    Args:
        report: input and scores.
        lines: summary of the audit.
        class_columns: titles of the table of classes.
        classes: its rows: name, numbers (empty text without pixels), and the class that is suggested most often.
    """
    data, scores = report.data, report.scores
    positions = [row for row in scores.ranking.tolist() if scores.suspect[row].any()]
    pictures = _pictures(report, positions)
    rows = [_row(report, row) for row in positions[: len(pictures)]]
    content = {
        "digest": digest([data.class_names, [row[:4] for row in rows]]),
        "columns": list(DECISION_COLUMNS),
        "classes": list(data.class_names),
        "splits": sorted(set(data.splits)),
        "rows": rows,
        "pictures": pictures,
        "sharp": False,
        "histogram": None,
    }
    colors = _palette()
    return render_page(
        "noisybench.audit", "masks.html", styles=("report.css",), scripts=("data.js", "masks.js", *SHARED_SCRIPTS),
        images=True,
        title=data.title,
        tiles=_tiles(report, len(positions)),
        audit=json_in_script(json.dumps(content, allow_nan=False)),
        rows=len(rows),
        num_suspects=len(positions),
        problem=scores.reliability.problem,
        views=VIEWS,
        columns=[title.replace("_", " ") for title in class_columns],
        classes=[
            ("#{:02x}{:02x}{:02x}".format(*colors[number]), name, [_cell(value) for value in cells], instead or "–")
            for number, (name, *cells, instead) in enumerate(classes)
        ],
        lines=lines,
    )  # fmt: skip


def _tiles(report: MaskAuditReport, num_suspects: int) -> list[tuple[str, str, str]]:
    """Return title, value and explanation of each tile."""
    data, reliability = report.data, report.scores.reliability
    (low, high), (least, most) = reliability.accuracy_interval, reliability.rate_interval
    if reliability.noise_rate is None:
        estimate = ("Noise rate of pixels", "no estimate", "the reason is given below")
    else:
        interval = f"95\u00a0% sampling interval {percent(least)} to {percent(most)}"
        estimate = ("Noise rate of pixels", percent(reliability.noise_rate), interval)
    return [
        ("Masks", f"{len(data.masks):,}", f"{len(data.class_names):,} classes"),
        ("Out-of-fold accuracy", percent(reliability.accuracy),
         f"of the pixels; {percent(low)} to {percent(high)}; chance {percent(reliability.chance)}"),
        estimate,
        ("Masks to review", f"{num_suspects:,}", "those with a suspicious pixel"),
    ]  # fmt: skip


def _cell(value: Any) -> str:
    """Return a number of the table of classes as text."""
    if value == "":
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _row(report: MaskAuditReport, row: int) -> list[Any]:
    """Return index, file, split, digest of the mask, score, shares of pixels, most doubtful class, and scores of classes."""
    data, scores = report.data, report.scores
    given, predicted, labeled = data.masks[row], scores.suggested[row], scores.labeled[row]
    total, number = max(int(labeled.sum()), 1), len(data.class_names)
    suspects = np.bincount(given[scores.suspect[row]], minlength=number)
    sizes = np.bincount(given[labeled], minlength=number)
    predicted_sizes = np.bincount(predicted[labeled], minlength=number)
    common = np.bincount(given[labeled & (given == predicted)], minlength=number)
    union = sizes + predicted_sizes - common
    classes = [
        [label, round(sizes[label] / total, 4), round(suspects[label] / max(sizes[label], 1), 4),
         round(common[label] / union[label], 4)]
        for label in np.flatnonzero(union).tolist()
    ]  # fmt: skip
    return [
        int(data.index[row]), data.files[row] if data.files else "", sorted(set(data.splits)).index(data.splits[row]),
        mask_digest(given), round(float(scores.image_score[row]), 6), round(float(scores.suspect_share[row]), 4),
        round(float((labeled & (given != predicted)).sum() / total), 6), int(suspects.argmax()) if suspects.any() else -1,
        classes,
    ]  # fmt: skip


def _pictures(report: MaskAuditReport, positions: Sequence[int]) -> list[list[str]]:
    """Return photograph, given mask, predicted mask and their difference of each image in base64, as `MAX_BYTES` allow."""
    data, scores, palette = report.data, report.scores, _palette()
    pictures, left = list[list[str]](), MAX_BYTES
    for row in positions:
        given, labeled = data.masks[row], scores.labeled[row]
        # A pixel without a label keeps none, because its prediction was not compared.
        predicted = np.where(labeled, scores.suggested[row], np.uint8(IGNORED))
        difference = np.full_like(given, IGNORED)
        difference[labeled & (given != predicted)] = DIFFERS
        difference[scores.suspect[row]] = SUSPECT
        photograph = encode_picture(np.asarray(data.images[np.array([row])])[0], MAX_SIDE)
        layers = [pack_mask(given, palette), pack_mask(predicted, palette), pack_mask(difference, _DIFFERENCE_COLORS)]
        left -= len(photograph) + sum(map(len, layers))
        if left < 0:
            break
        pictures.append([photograph, *layers])
    return pictures


_DIFFERENCE_COLORS = np.zeros((256, 3), dtype=np.uint8)
_DIFFERENCE_COLORS[DIFFERS] = (255, 165, 0)
_DIFFERENCE_COLORS[SUSPECT] = (230, 0, 0)


def _palette() -> NDArray[np.uint8]:
    """Return the (256, 3) color of each class."""
    return np.asarray((mask_palette() * 255).round().astype(np.uint8))

"""Page of an audit: a self-contained tool to look at suspicious labels and to decide about them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import AuditResult
from noisybench.audit.inputs import AuditInput
from noisybench.audit.scores import DECISION_COLUMNS
from noisybench.utils.pages.rendering import json_in_script, render_page

SHARED_SCRIPTS = ("decisions.js", "tables.js", "grid.js", "detail.js", "events.js")
"""Scripts of the pages of all audits, in the order in which they are joined after the script of their subject."""

MAX_ROW_BYTES = 2_000_000
"""Largest size of the texts and scores of suspects on the page."""

MAX_PICTURE_BYTES = 7_500_000
"""Largest size of the pictures on the page, in base64."""

MAX_SIDE = 256
"""Pixels of the longer side to which larger pictures are reduced."""

SHARP_SIDE = 128
"""Pixels of the longer side up to which enlarged pictures show their pixels."""

NUM_BINS = 40
"""Bars of the histogram."""

MAX_MATRIX_CLASSES = 30
"""Largest number of classes for which the page shows the whole transition matrix."""

MAX_MATRIX_ENTRIES = 50
"""Largest number of off-diagonal entries shown for more classes."""


def to_html(
    audit_input: AuditInput, result: AuditResult, lines: Sequence[str], similar: Sequence[tuple[str, Sequence[str]]]
) -> str:
    """Return the page of an audit, which loads nothing from the network, and runs no script but its own.

    Args:
        audit_input: audited images or features, and their labels.
        result: estimates and ranking.
        lines: summary of the audit.
        similar: similar settings of the leaderboard, as headings and the lines below them.
    """
    names, matrix = audit_input.class_names, result.transition_matrix
    rows = _rows(audit_input, result)
    pictures = _pictures(audit_input, result.suspects[: len(rows)])
    data = {
        "digest": digest([names, [row[:5] for row in rows]]),
        "columns": list(DECISION_COLUMNS),
        "classes": list(names),
        "detectors": _detectors(result),
        "splits": sorted(set(audit_input.splits)),
        "rows": rows,
        "pictures": pictures,
        "sharp": max(audit_input.images.shape[2:]) <= SHARP_SIDE,
        "histogram": _histogram(result),
    }
    return render_page(
        "noisybench.audit", "report.html", styles=("report.css",), scripts=("data.js", "classes.js", *SHARED_SCRIPTS),
        images=True,
        title=audit_input.title,
        views=(),
        tiles=_tiles(audit_input, result),
        audit=json_in_script(json.dumps(data, allow_nan=False)),
        rows=len(rows),
        pictures=len(pictures),
        num_suspects=result.num_suspects,
        has_pictures=audit_input.has_pictures,
        problem=result.reliability.problem,
        classes=_classes(audit_input, result),
        class_names=names,
        matrix=None if matrix is None or len(names) > MAX_MATRIX_CLASSES else _shaded(matrix),
        confusions=largest_confusions(names, matrix, MAX_MATRIX_ENTRIES),
        lines=lines,
        similar=similar,
    )  # fmt: skip


def largest_confusions(
    names: Sequence[str], matrix: NDArray[np.float64] | None, count: int
) -> list[tuple[str, str, float]]:
    """Return true class, observed class and probability of the largest entries of a transition matrix off the diagonal.

    Example:
        >>> import numpy as np
        >>> largest_confusions(("cat", "dog"), np.array([[0.9, 0.1], [0.2, 0.8]]), 1)
        [('dog', 'cat', 0.2)]
    """
    if matrix is None:
        return []
    off_diagonal = matrix - np.diag(np.diag(matrix))
    largest = np.argsort(-off_diagonal, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(largest, matrix.shape)
    return [
        (names[row], names[column], float(off_diagonal[row, column])) for row, column in zip(rows, columns, strict=True)
    ]


def _detectors(result: AuditResult) -> list[str]:
    return [name for name in result.error_score if name != "combined"]


def _tiles(data: AuditInput, result: AuditResult) -> list[tuple[str, str, str]]:
    """Return title, value and explanation of each tile."""
    reliability, rate = result.reliability, result.noise_rate
    (low, high), (least, most) = reliability.accuracy_interval, reliability.rate_interval
    if rate is None:
        estimate = ("Noise rate", "no estimate", "the reason is given below")
        origin = f"the first {percent(result.num_suspects / max(len(result.ranking), 1), 0)} of the ranking"
    else:
        estimate = ("Noise rate", percent(rate), f"95\u00a0% sampling interval {percent(least)} to {percent(most)}")
        origin = "estimated noise rate times examples"
    if result.num_verified:
        origin += f", without {result.num_verified:,} verified ones"
    return [
        ("Examples", f"{len(data.observed):,}", f"{len(data.class_names):,} classes"),
        ("Out-of-fold accuracy", percent(reliability.accuracy),
         f"{percent(low)} to {percent(high)}; chance {percent(reliability.chance)}"),
        estimate,
        ("Labels to review", f"{result.num_suspects:,}", origin),
    ]  # fmt: skip


def percent(share: float, digits: int = 1) -> str:
    """Return a fraction as text in percent, with a space that breaks no line."""
    return f"{100 * share:.{digits}f}\u00a0%"


def _rows(data: AuditInput, result: AuditResult) -> list[list[Any]]:
    """Return the suspects, the most suspicious first, as many as `MAX_ROW_BYTES` allow.

    Each row has index, file, split, label, suggested class, confidence, detectors that flag it as bits, and their scores.
    """
    names, splits = _detectors(result), sorted(set(data.splits))
    flags = np.zeros(len(data.observed), np.int64)
    for bit, name in enumerate(names):
        highest = np.argsort(-result.error_score[name], kind="stable")[: result.num_suspects]
        flags[highest] |= 1 << bit
    rows = [
        [
            int(data.index[row]), data.files[row] if data.files else "", splits.index(data.splits[row]) if data.splits else -1,
            int(data.observed[row]), int(result.suggested[row]), round(float(result.confidence[row]), 4), int(flags[row]),
            [round(float(result.error_score[name][row]), 4) for name in names],
        ]
        for row in result.suspects.tolist()
    ]  # fmt: skip
    sizes = accumulate(len(json.dumps(row)) + 2 for row in rows)
    return [row for row, size in zip(rows, sizes, strict=True) if size <= MAX_ROW_BYTES]


def digest(content: object) -> str:
    """Return a short digest, by which browsers keep the decisions of each audit apart."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]


def _pictures(data: AuditInput, positions: NDArray[np.int64]) -> list[str]:
    """Return the pictures of the first suspects as WebP in base64, as many as `MAX_PICTURE_BYTES` allow."""
    pictures: list[str] = []
    if not data.has_pictures:
        return pictures
    left = MAX_PICTURE_BYTES
    for row in positions.tolist():
        # Images on disk are indexed by arrays or slices only.
        picture = encode_picture(np.asarray(data.images[np.array([row])])[0])
        left -= len(picture)
        if left < 0:
            break
        pictures.append(picture)
    return pictures


def encode_picture(image: Any, max_side: int = MAX_SIDE) -> str:
    """Encode a (C, H, W) uint8 image as WebP in base64; of other numbers of channels than 1 and 3, the first ones."""
    from PIL import Image

    pixels, buffer = image[: 3 if image.shape[0] >= 3 else 1].transpose(1, 2, 0), io.BytesIO()
    # Pillow takes grayscale images as (H, W) and refuses (H, W, 1).
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((max_side, max_side))
    picture.save(buffer, "WEBP", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()


def _histogram(result: AuditResult) -> dict[str, Any]:
    """Return counts of the combined error score: of all examples, and of the suspects among them."""
    scores = result.error_score["combined"]
    edges = np.histogram_bin_edges(scores, NUM_BINS)
    suspects = scores[result.suspects]
    return {
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "all": np.histogram(scores, edges)[0].tolist(),
        "suspects": np.histogram(suspects, edges)[0].tolist(),
        "threshold": float(suspects.min()) if len(suspects) else None,
    }


def _classes(data: AuditInput, result: AuditResult) -> list[dict[str, Any]]:
    """Return number of examples, accuracy and suspects of each observed class."""
    suspects, num_classes = result.suspects, len(data.class_names)
    counts = np.bincount(data.observed, minlength=num_classes)
    suggested = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(suggested, (data.observed[suspects], result.suggested[suspects]), 1)
    rows = []
    for number, name in enumerate(data.class_names):
        accuracy, most = float(result.reliability.class_accuracy[number]), int(suggested[number].argmax())
        often = f"{data.class_names[most]} ({suggested[number, most]:,})" if suggested[number, most] else "–"
        rows.append({
            "name": name,
            "examples": f"{counts[number]:,}",
            "accuracy": "–" if math.isnan(accuracy) else percent(accuracy),
            "suspects": f"{suggested[number].sum():,}",
            "suggested": often,
        })  # fmt: skip
    return rows


def _shaded(matrix: NDArray[np.float64]) -> list[list[tuple[str, int]]]:
    """Return the entries of a matrix as text, and as steps of a tenth for their shade."""
    return [[(percent(share), round(10 * share)) for share in row] for row in matrix.tolist()]

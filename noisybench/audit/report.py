"""What an audit found, as a page to look through and a table to relabel with."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.findings import TOP, Findings, precision
from noisybench.utils.files import plain_cell

SHOWN = 120
"""Suspects on the page; the table has all."""
LARGEST_MATRIX = 30
"""Classes up to which the transition matrix is shown whole."""


@dataclass(frozen=True)
class Audited:
    """What was audited, and what came out.

    Attributes:
        title: of the data.
        images: (N, C, H, W) uint8, indexed like an array.
        observed: (N,) labels.
        index: (N,) rows in the source.
        files: (N,) names of the examples' files; empty where they have none.
        classes: names.
        findings: of the audit.
        truth: (N,) clean labels with -1 for none of the classes and -2 for unknown; None where nobody knows any.
        budget: of the networks that were asked, in words.
        helped: what helped in the most similar measured cells, as lines of text below a heading each.
    """

    title: str
    images: Any
    observed: NDArray[np.int64]
    index: NDArray[np.int64]
    files: Sequence[str]
    classes: Sequence[str]
    findings: Findings
    truth: NDArray[np.int64] | None
    budget: str
    helped: list[tuple[str, list[str]]]


def summary(audited: Audited) -> list[str]:
    """The findings in lines for people."""
    found, names = audited.findings, audited.classes
    lines = [
        f"{audited.title}: {len(audited.observed)} examples of {len(names)} classes, {audited.budget}",
        f"estimated share of wrong labels: {found.rate:.1%} ({found.flagged} examples)",
    ]
    confused = [
        (found.transition[true, given], names[true], names[given])
        for true in range(len(names))
        for given in range(len(names))
        if true != given
    ]
    lines += [
        f"  {share:.1%} of {true} labelled {given}"
        for share, true, given in sorted(confused, reverse=True)[:5]
        if share > 0
    ]
    for (a, b), (correlation, common) in found.agreement.items():
        lines.append(
            f"agreement of {a} and {b}: rank correlation {correlation:.2f}, {common:.0%} of the suspects in common"
        )
    return lines + against_truth(audited)


def against_truth(audited: Audited) -> list[str]:
    """What the findings are worth where clean labels are known."""
    if audited.truth is None:
        return []
    known = audited.truth != -2
    wrong = (audited.observed != audited.truth)[known]
    lines = [f"by the clean labels: {wrong.mean():.1%} are wrong; of the first suspects are wrong"]
    for name, each in audited.findings.suspicion.items():
        told = ", ".join(f"{precision(each[known], wrong, share):.1%} of the first {share:.0%}" for share in TOP)
        lines.append(f"  {name}: {told}")
    return lines


COLUMNS = ("rank", "index", "file", "label", "suggested", "confidence", "suspicion")


def to_csv(audited: Audited) -> str:
    """All suspects for relabelling, the most suspect first, with an empty column `new_label`."""
    found, out = audited.findings, io.StringIO()
    detectors = [name for name in found.suspicion if name != "combined"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *detectors, "new_label"])
    for rank, place in enumerate(found.order[: found.flagged].tolist(), 1):
        writer.writerow([
            rank, int(audited.index[place]), plain_cell(audited.files[place]) if audited.files else "",
            plain_cell(audited.classes[audited.observed[place]]), plain_cell(audited.classes[found.suggested[place]]),
            f"{found.confidence[place]:.4f}", f"{found.suspicion['combined'][place]:.4f}",
            *(f"{found.suspicion[name][place]:.4f}" for name in detectors), "",
        ])  # fmt: skip
    return out.getvalue()


STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 1200px; padding: 0 1rem; }
.suspects { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .9rem; }
figure { margin: 0; } img { width: 100%; image-rendering: pixelated; border-radius: 4px; }
figcaption { font-size: .86em; overflow-wrap: anywhere; } s { opacity: .7; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9em; }
td, th { padding: .2rem .45rem; text-align: right; } .scroll { overflow-x: auto; } .note { opacity: .75; }
"""


def to_html(audited: Audited) -> str:
    """One page that needs no network and runs no script."""
    told = html.escape
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Audit of {told(audited.title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Audit of {told(audited.title)}</h1>",
        *(f"<p>{told(line)}</p>" for line in summary(audited)),
        f"<h2>First suspects</h2><p class=note>The first {min(SHOWN, audited.findings.flagged)} of {audited.findings.flagged}; "
        "the label, and what networks say that have not seen it.</p><div class=suspects>",
        *(
            _suspect(audited, place)
            for place in audited.findings.order[: min(SHOWN, audited.findings.flagged)].tolist()
        ),
        "</div><h2>Which classes are taken for which</h2>",
        _matrix(audited),
        "<h2>What helped where labels were like these</h2>",
    ]
    for heading, lines in audited.helped:
        parts += [f"<h3>{told(heading)}</h3><ul>", *(f"<li>{told(line)}</li>" for line in lines), "</ul>"]
    if not audited.helped:
        parts.append("<p>No cell was measured yet; <code>noisybench bench quickstart</code> measures some.</p>")
    return "\n".join([*parts, "</body></html>\n"])


def _suspect(audited: Audited, place: int) -> str:
    from PIL import Image

    pixels = np.asarray(audited.images[np.array([place])])[0].transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    found, told = audited.findings, html.escape
    label, suggested = (audited.classes[each[place]] for each in (audited.observed, found.suggested))
    name = audited.files[place] if audited.files else f"row {audited.index[place]}"
    return (
        f'<figure><img alt="" src="data:image/png;base64,{source}"><figcaption><s>{told(label)}</s> '
        f"<b>{told(suggested)}</b> {found.confidence[place]:.0%}<br>{told(name)}</figcaption></figure>"
    )


def _matrix(audited: Audited) -> str:
    """The transition matrix; of many classes the largest entries off its diagonal."""
    told, names, matrix = html.escape, audited.classes, audited.findings.transition
    if len(names) > LARGEST_MATRIX:
        off = matrix - np.diag(np.diag(matrix))
        first = [np.unravel_index(each, matrix.shape) for each in np.argsort(-off, axis=None)[:50]]
        rows = "".join(f"<tr><td>{told(names[a])}<td>{told(names[b])}<td>{off[a, b]:.1%}" for a, b in first)
        return f"<table><tr><th>true<th>labelled<th>share{rows}</table>"
    head = "".join(f"<th>{told(name)}" for name in names)
    rows = "".join(
        f"<tr><th>{told(name)}"
        + "".join(f'<td style="background: rgb(220 120 40 / {min(1, each):.2f})">{each:.1%}' for each in row)
        for name, row in zip(names, matrix, strict=True)
    )
    return f"<p class=note>Rows: true class; columns: label.</p><div class=scroll><table><tr><th>{head}{rows}</table></div>"


def to_json(audited: Audited) -> str:
    """The findings for programs."""
    found = audited.findings
    return json.dumps({
        "examples": len(audited.observed), "classes": list(audited.classes), "rate": found.rate,
        "transition": found.transition.tolist(), "suspects": audited.index[found.order[: found.flagged]].tolist(),
        "agreement": [[*pair, *values] for pair, values in found.agreement.items()],
    }, indent=1)  # fmt: skip

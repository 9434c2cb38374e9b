"""Report of a check: lines of text, and an HTML page."""

from __future__ import annotations

from collections.abc import Mapping

from noisybench.data.check.facts import ClassFacts, DataReport
from noisybench.utils.pages.rendering import render_page
from noisybench.utils.text import printable

MAX_LISTED = 6
"""Largest number of sizes, modes and suffixes in a line."""

MAX_CLASSES = 40
"""Largest number of classes that the text lists; the page lists all of them."""


def summary(report: DataReport) -> list[tuple[str, str]]:
    """Return title and content of each line of the report, without classes and notes."""
    lines = [("dataset", report.dataset)]
    if files := report.files:
        lines.append(("files", f"{files.count:,} ({_bytes(files.num_bytes)}): {_counts(files.suffixes)}"))
        for title, counts in (
            ("image sizes", files.sizes),
            ("image modes", files.modes),
            ("orientations", files.orientations),
            ("spacings", files.spacings),
        ):
            if counts:
                lines.append((title, _counts(counts)))
    if report.skipped_files:
        lines.append(("left out", f"{len(report.skipped_files)} files, the first: {report.skipped_files[0]}"))
    lines += [
        ("inputs", _shape(report)),
        ("splits", ", ".join(f"{name} {count:,}" for name, count in report.splits.items())),
    ]
    if report.unlabeled_share is not None and report.target_kind == "masks":
        lines.append(("no label", f"{report.unlabeled_share:.1%} of the training pixels"))
    if not report.copies:
        lines.append(("exact copies", "none"))
    for copies in report.copies:
        others = f", {copies.other_labels} with other labels" if copies.other_labels else ""
        lines.append(("exact copies", f"{copies.count:,} in {copies.where}{others}"))
    for labels in report.labels:
        rate = "unknown" if labels.noise_rate is None else f"{labels.noise_rate:.1%}"
        agreement = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in labels.agreement.items())
        lines.append(("noisy labels", f"{labels.origin}: noise rate {rate}{agreement}"))
    return lines


def to_text(report: DataReport) -> list[str]:
    """Return the report as lines of text; names are `printable`."""
    lines = [f"{title:<14} {printable(text)}" for title, text in summary(report)]
    if report.classes:
        lines.append(f"{'classes':<14} {len(report.classes)}")
        width = min(40, max(len(printable(each.name)) for each in report.classes[:MAX_CLASSES]))
        lines += [f"  {printable(each.name):<{width}} {_class_line(each)}" for each in report.classes[:MAX_CLASSES]]
        if len(report.classes) > MAX_CLASSES:
            lines.append(f"  … and {len(report.classes) - MAX_CLASSES} more")
    return lines + [f"note: {printable(str(note))}" for note in report.notes]


def to_html(report: DataReport, title: str) -> str:
    """Return the report as a page that loads nothing from the network and runs no script.

    Args:
        report: the facts.
        title: name of the data, as the user gave it.
    """
    return render_page(
        "noisybench.data.check",
        "report.html",
        styles=("report.css",),
        images=True,
        title=title,
        summary=summary(report),
        notes=[str(note) for note in report.notes],
        splits=list(report.splits),
        classes=report.classes,
        labels=report.labels,
        masks=report.target_kind == "masks",
        pictures=report.pictures,
    )


def _shape(report: DataReport) -> str:
    if not report.shape:
        return "texts"
    channels, height, width = report.shape
    if report.target_kind == "tokens":
        return f"prompts of up to {width} characters"
    if (height, width) == (1, 1):
        return f"{channels} features"
    return f"{channels}x{height}x{width} (channels x height x width)"


def _class_line(facts: ClassFacts) -> str:
    counts = ", ".join(f"{split} {count:,}" for split, count in facts.counts.items())
    share = "" if facts.pixel_share is None else f"{facts.pixel_share:.2%} of the training pixels; masks: "
    return share + counts


def _counts(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{name or 'no suffix'} {count:,}" for name, count in list(counts.items())[:MAX_LISTED])
    return listed + (f" and {len(counts) - MAX_LISTED} more" if len(counts) > MAX_LISTED else "")


def _bytes(count: int) -> str:
    """Return a number of bytes with its unit.

    Example:
        >>> _bytes(900), _bytes(3_400_000)
        ('900 bytes', '3.2 MiB')
    """
    if count < 1024:
        return f"{count} bytes"
    size, units = count / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.1f} {units[0]}"

"""The reproduction table: every published result of an implemented method, beside what was measured for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisybench.config.papers import all_papers
from noisybench.leaderboard.code_selection import select_code
from noisybench.leaderboard.measurements import Measurement
from noisybench.leaderboard.method_names import names_to_markdown
from noisybench.leaderboard.protocol import result_differences
from noisybench.leaderboard.published import METHODS, PublishedResult, all_published, find_published
from noisybench.records.codes import Code
from noisybench.records.equivalence import Equivalence

NETWORKS = {
    "resnet34_cifar_stem": ("resnet34_cifar_stem",),
    "resnet34_torchvision_stem": ("torchvision:resnet34",),
    "resnet34": ("resnet34_cifar_stem", "torchvision:resnet34"),
    "preact_resnet18_stem_bn": ("preact_resnet18_stem_bn",),
    "preact_resnet18_stem_bn_or_as_in_paper": ("preact_resnet18_stem_bn",),
    "resnet50_imagenet": ("torchvision:resnet50",),
}
"""Our networks by published architecture; a run with any other network has another budget and reproduces nothing."""

RULES = {"last": "last", "best": "oracle", "val": "noisy_val", "unstated": "last"}
"""Selection rule by published protocol. A best test epoch is compared with a best test epoch, although no rank uses it."""

TOLERANCE = 2.0
"""Number of standard deviations within which two results match."""

NOT_RUN = "not run"
"""Status of a published result without a measurement."""

COLUMNS = (
    "data", "noise", "method", "our stack", "network", "protocol", "published", "ours", "difference (σ)",
    "protocol differences", "status",
)  # fmt: skip
"""Titles of the columns of the table."""


@dataclass(frozen=True)
class Reproduction:
    """One published result and its measurement. Values in percent.

    Attributes:
        published: published result.
        stack: our stack that is the method.
        status: ``not run``, ``run once`` (too few seeds for a verdict), ``matches``, ``below`` or ``above``.
        ours: mean over seeds by the selection rule of its protocol; None if not run.
        deviation: standard deviation over seeds.
        seeds: number of seeds.
        difference: our mean minus the published value, in standard deviations of the two together; None below two seeds.
        protocol_differences: known differences of our runs from the published protocol.
    """

    published: PublishedResult
    stack: str
    status: str
    ours: float | None = None
    deviation: float | None = None
    seeds: int = 0
    difference: float | None = None
    protocol_differences: tuple[str, ...] = ()


def reproduce(measurements: Iterable[Measurement], equivalences: Sequence[Equivalence] = ()) -> list[Reproduction]:
    """Compare the published results of implemented methods with measurements.

    Measured results come first; both parts are in the order of `published.csv`. Each result is compared with runs of one
    code: that of the installed sources, else that of the latest run.

    Args:
        measurements: finished runs.
        equivalences: recorded equivalences of code.

    Example:
        >>> {reproduction.status for reproduction in reproduce([])}
        {'not run'}
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        if measurement.setting.literature:
            key = (measurement.setting.label_set, measurement.setting.budget)
            groups.setdefault(key, []).append(measurement)
    found: dict[PublishedResult, dict[Code, list[Measurement]]] = {}
    for group in groups.values():
        for code, runs in select_code(group, equivalences).rows.values():
            for run in runs:
                for result in find_published(run.setting.literature, run.method):
                    # Suffixes for the pre-training and for networks that are trained together belong to the method.
                    architecture = result.architecture.removesuffix("_simclr").removesuffix("_x2")
                    networks = NETWORKS.get(architecture, ())
                    if run.score(RULES[result.protocol]) is not None and run.setting.network in networks:
                        found.setdefault(result, {}).setdefault(code, []).append(run)
    stacks = {method: stack for stack, methods in METHODS.items() for method in methods}
    rows = [
        _compare(result, stacks[result.method], _latest_code(found.get(result, {})))
        for result in all_published()
        if result.method in stacks
    ]
    return sorted(rows, key=lambda row: row.status == NOT_RUN)


def _latest_code(runs_by_code: dict[Code, list[Measurement]]) -> list[Measurement]:
    """Return the runs of one code."""
    if not runs_by_code:
        return []

    def recency(code: Code) -> tuple[bool, bool, int]:
        runs = runs_by_code[code]
        return any(run.today == code for run in runs), *max((not run.entry, run.finished) for run in runs)

    return runs_by_code[max(runs_by_code, key=recency)]


def _compare(result: PublishedResult, stack: str, runs: list[Measurement]) -> Reproduction:
    # By seed, so that a repeated run does not count as further evidence.
    by_seed = {run.seed: run.score(RULES[result.protocol]) for run in runs}
    values = [100 * score for score in by_seed.values() if score is not None]
    if not values:
        return Reproduction(result, stack, NOT_RUN)
    differences = tuple(
        dict.fromkeys(
            text for run in runs for text in (*result_differences(result, run.setting), *run.protocol_differences)
        )
    )
    mean = float(np.mean(values))
    # One run has no deviation, and without one no difference can be called large.
    if len(values) < 2:
        return Reproduction(result, stack, "run once", mean, None, 1, None, differences)
    deviation = float(np.std(values, ddof=1))
    # Variances of independent results add. Some publications report no deviation, which makes the comparison stricter.
    spread = float(np.hypot(deviation, result.deviation or 0.0))
    # Seeds with equal scores have no deviation; the lower bound avoids a division by zero.
    difference = (mean - result.value) / max(spread, 1e-9)
    status = "matches" if abs(difference) <= TOLERANCE else "above" if difference > 0 else "below"
    return Reproduction(result, stack, status, mean, deviation, len(values), difference, differences)


def text_rows(reproductions: Iterable[Reproduction]) -> list[list[str]]:
    """Return reproductions as text in the order of `COLUMNS`.

    Example:
        >>> text_rows(reproduce([])[:1])[0][-1]
        'not run'
    """
    return [
        [
            reproduction.published.dataset,
            _noise_text(reproduction.published),
            reproduction.published.method,
            reproduction.stack,
            reproduction.published.architecture,
            reproduction.published.protocol,
            _published_text(reproduction.published),
            _measured_text(reproduction),
            "–" if reproduction.difference is None else f"{reproduction.difference:+.1f}",
            "; ".join(reproduction.protocol_differences) or ("–" if reproduction.ours is None else "none known"),
            reproduction.status,
        ]
        for reproduction in reproductions
    ]


def grouped(reproductions: Iterable[Reproduction]) -> list[dict[str, Any]]:
    """Return reproductions by the paper or repository that reports them, for the page.

    Returns:
        Title, subtitle and address of each publication, ``counts`` by status, and the rows of `text_rows` without the status
        ``not run`` in ``measured`` and with it in ``not_run``. Publications with the most measured results come first.

    Example:
        >>> group = grouped(reproduce([]))[0]
        >>> group["title"], list(group["counts"]), group["measured"]
        ('KlemenVovk/noisy-labels', ['not run'], [])
    """
    groups: dict[str, list[Reproduction]] = {}
    for reproduction in reproductions:
        groups.setdefault(reproduction.published.publication, []).append(reproduction)
    ordered = sorted(groups.items(), key=lambda item: (-sum(each.ours is not None for each in item[1]), -len(item[1])))
    return [
        {
            "title": name,
            **_publication(name),
            "counts": dict(Counter(each.status for each in members)),
            "measured": text_rows(each for each in members if each.ours is not None),
            "not_run": text_rows(each for each in members if each.ours is None),
        }
        for name, members in ordered
    ]


def _publication(name: str) -> dict[str, str]:
    if paper := all_papers().get(name):
        return {"subtitle": paper.title, "url": paper.url}
    return {"subtitle": "", "url": f"https://github.com/{name}" if "/" in name else ""}


def _noise_text(result: PublishedResult) -> str:
    return result.noise if result.rate is None else f"{result.noise} {result.rate:g}"


def _published_text(result: PublishedResult) -> str:
    return f"{result.value:g}" if result.deviation is None else f"{result.value:g} ± {result.deviation:g}"


def _measured_text(reproduction: Reproduction) -> str:
    if reproduction.ours is None:
        return "–"
    spread = "" if reproduction.deviation is None else f" ± {reproduction.deviation:.1f}"
    return f"{reproduction.ours:.1f}{spread} ({reproduction.seeds})"


def to_markdown(reproductions: list[Reproduction]) -> str:
    """Return the reproduction table as a page of the documentation."""
    counts = Counter(reproduction.status for reproduction in reproductions)
    num_others = len(all_published()) - len(reproductions)
    lines = [
        "# Reproduction of published results",
        "",
        "Generated by `noisybench leaderboard reproduction`; do not edit. Every published result of a method that",
        "noisybench implements, beside what was measured on the same data, noise, network and protocol. Another network is",
        "another budget and counts as not run. Ours: mean ± standard deviation (seeds). Difference: ours minus published,",
        f"in standard deviations of the two together; results within {TOLERANCE:g} match. Measured results come first, with the",
        "known differences of our runs from the published protocol, such as copies of the images. Sources are in",
        f"`leaderboard/published.csv`, with {num_others} further results of methods that are not implemented; the names of",
        "all methods are at the [end](#names-of-methods).",
        "",
        ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + ".",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in text_rows(reproductions)]
    return "\n".join([*lines, "", *names_to_markdown()]) + "\n"

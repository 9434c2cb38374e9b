"""Text of fidelity cards, licenses and metrics."""

from __future__ import annotations

import textwrap

from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.evaluation.catalog import Metric

DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "neither": "neither high nor low is better"}


def describe_fidelity(card: Fidelity) -> str:
    """Return a fidelity card as lines of text.

    Example:
        >>> reference = "https://github.com/shengliu66/ELR"
        >>> card = Fidelity(reference, "934af53", "loss and gradient", "7.6e-6 in the loss", license="MIT")
        >>> print(describe_fidelity(card))
        reference: https://github.com/shengliu66/ELR @ 934af53
        license of the reference: MIT
        compared: loss and gradient
        largest difference: 7.6e-6 in the loss
        deviations: none known
    """
    lines = [f"reference: {card.reference} @ {card.commit}" if card.reference else "reference: none that is public"]
    if card.license:
        lines.append(f"license of the reference: {card.license}")
    lines.append(f"{'compared' if card.reference else 'tested'}: {card.compared}")
    if card.difference:
        lines.append(f"largest difference: {card.difference}")
    lines.append("deviations:" if card.deviations else "deviations: none known")
    for deviation in card.deviations:
        lines += [f"  - {deviation.what}", f"    reason: {deviation.why}", f"    effect: {deviation.size}"]
    return "\n".join(lines)


def describe_license(terms: License) -> str:
    """Return the license and the access of data as lines of text.

    Example:
        >>> print(describe_license(License("MIT", "https://github.com/zalandoresearch/fashion-mnist")))
        license: MIT, https://github.com/zalandoresearch/fashion-mnist
        access: download
    """
    return f"license: {terms.text}\naccess: {terms.access}"


def describe_metric(name: str, metric: Metric) -> str:
    """Return a metric with its card as lines of text.

    Example:
        >>> from noisybench.evaluation.catalog import METRICS
        >>> print(describe_metric("auroc", METRICS["auroc"]).splitlines()[2])
        Area under the ROC curve of a score against incorrect labels; higher is better.
    """
    lines = [f"{name} (metric)", "", f"{metric.summary}; {DIRECTIONS[metric.direction]}.", ""]
    if metric.fields:
        lines.append(f"  recorded as: {', '.join(metric.fields)}")
    lines += [f"  function: {metric.formula}", "", textwrap.indent(describe_fidelity(metric.fidelity), "  "), ""]
    return "\n".join(lines)

"""The fidelity cards of all built-in mitigations, noise models and metrics, and the licenses of data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.config.registry import list_entries
from noisybench.evaluation.catalog import METRICS

KINDS = ("mitigations", "noise_models", "metrics")
"""Kinds of components that have cards."""

# A name that is followed by an equals sign is a parameter.
_NAME = re.compile(r"\b[a-z][a-z0-9_]*\b(?!\s*=)")


def fidelity_cards(kind: str) -> dict[str, Fidelity | None]:
    """Return the cards of the components of a kind that are part of noisybench, by name.

    Args:
        kind: one of `KINDS`.

    Returns:
        Cards; None for a component without a card.

    Example:
        >>> fidelity_cards("metrics")["boundary_iou"].difference
        '0 pixels'
    """
    if kind == "metrics":
        return {name: metric.fidelity for name, metric in METRICS.items()}
    entries = list_entries(kind).items()
    return {name: entry.fidelity for name, entry in entries if entry.module.startswith("noisybench.")}


def named_cards(kind: str, texts: Iterable[str]) -> dict[str, Fidelity]:
    """Return the cards of the components that are named in stacks or noise models with their parameters.

    Args:
        kind: one of `KINDS`.
        texts: for example ``mixup+elr(beta=0.9)``.

    Example:
        >>> list(named_cards("mitigations", ["mixup+elr(beta=0.9)"]))
        ['elr', 'mixup']
    """
    names = component_names(texts)
    return {name: card for name, card in fidelity_cards(kind).items() if card is not None and name in names}


def component_names(texts: Iterable[str]) -> set[str]:
    """Return all names in texts such as ``mixup+elr(beta=0.9)`` that are not parameters."""
    return {name for text in texts for name in _NAME.findall(text)}


def declared_licenses(kind: str) -> dict[str, License]:
    """Return the licenses that the components of a kind declare, by name.

    Args:
        kind: ``datasets`` or ``noise_models``.

    Example:
        >>> declared_licenses("datasets")["digits"].name
        'CC-BY-4.0'
    """
    licenses = {name: entry.license for name, entry in list_entries(kind).items()}
    return {name: terms for name, terms in licenses.items() if terms is not None}


def deviation_text(card: Fidelity) -> str:
    """Return the deviations of a card as sentences; ``none known`` without any.

    Example:
        >>> deviation_text(Fidelity("", "", "by hand"))
        'none known'
    """
    return " ".join(
        f"{deviation.what[:1].upper()}{deviation.what[1:]} (reason: {deviation.why}; effect: {deviation.size})."
        for deviation in card.deviations
    ) or "none known"  # fmt: skip

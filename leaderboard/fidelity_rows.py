"""Fidelity cards and licenses of the components that a board shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noisybench.evaluation.cards import component_names, declared_licenses, deviation_text, named_cards
from noisybench.evaluation.catalog import METRICS

MASK_METRICS = ("iou", "dice", "pixel_accuracy", "boundary_iou")
OWN_METRICS = {"miou": MASK_METRICS, "exact_match": ("exact_match",)}
"""Metrics that only runs with this score have."""


def card_rows(settings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cards of the mitigations, noise models and metrics of some settings as rows of text.

    Args:
        settings: ``summary`` of each `SettingPayload`.

    Returns:
        Kind, name, reference with its commit or version and its license, what was compared, largest difference, and deviations.

    Example:
        >>> rows = card_rows([{"noise": "pair_flip(rate=0.4)", "metric": "accuracy", "codes": {"elr(beta=0.9)": ""}}])
        >>> [row[1] for row in rows][:2]
        ['elr', 'pair_flip']
    """
    hidden = {
        name for metric, names in OWN_METRICS.items() for name in names if all(s["metric"] != metric for s in settings)
    }
    shown = {
        "Mitigations": named_cards("mitigations", [stack for setting in settings for stack in setting["codes"]]),
        "Noise models": named_cards("noise_models", [setting["noise"] for setting in settings]),
        "Metrics": {name: metric.fidelity for name, metric in METRICS.items() if settings and name not in hidden},
    }
    # Addresses are text without their scheme: the page needs no network and links to nothing.
    return [
        [
            kind,
            name,
            f"{card.reference.removeprefix('https://')} @ {card.commit[:12]}, license {card.license}"
            if card.reference
            else "none that is public",
            card.compared,
            card.difference or "–",
            deviation_text(card),
        ]
        for kind, cards in shown.items()
        for name, card in cards.items()
    ]


def license_rows(settings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the licenses of the datasets of some settings, and of labels that others have made, as rows of text.

    Args:
        settings: ``summary`` of each `SettingPayload`.

    Returns:
        Name, license, page without its scheme, access, and note.

    Example:
        >>> license_rows([{"dataset": "cifar10(train_size=5000)", "noise": "human"}])[1][:2]
        ['human', 'CC-BY-NC-4.0']
    """
    texts = {
        "datasets": [setting["dataset"] for setting in settings],
        "noise_models": [setting["noise"] for setting in settings],
    }
    return [
        [name, terms.name, terms.url.partition("://")[2] or "–", terms.access, terms.note or "–"]
        for kind, shown in texts.items()
        for name, terms in declared_licenses(kind).items()
        if name in component_names(shown)
    ]

"""The page `docs/fidelity.md`: all fidelity cards as Markdown."""

from __future__ import annotations

from noisybench.audit.detectors.catalog import CARDS
from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.evaluation.cards import KINDS, declared_licenses, fidelity_cards
from noisybench.evaluation.catalog import METRICS

TITLES = {"mitigations": "Mitigations", "noise_models": "Noise models", "metrics": "Metrics"}

DATA_KINDS = ("datasets", "noise_models")

INTRODUCTION = """# Fidelity

<!-- Written by `noisybench fidelity -o docs/fidelity.md`; edit the cards of the components instead. -->

How true the implementations are to their references. For every component: the reference repository (with its commit) or library
(with its version) and its license, the numbers that were compared, the largest difference, and every known deviation with its
reason and effect. `noisybench describe NAME` shows one card, and the leaderboard page those of the components on a board. Tests
compare the implementations with frozen outputs of the references (`tests/golden`); for a component without a public reference,
the card says which properties its tests check. The license and the access of every dataset, and of labels that others have
made, are at the end.
"""

DETECTORS = """## Detectors of given numbers

Detectors of `nb.detect`. Those without frozen vectors are compared with the library itself, or with the independent computation
that the card names, in `tests/golden/test_detectors.py` and `tests/api/test_detect.py`.
"""


def fidelity_page() -> str:
    """Return the cards of all mitigations, noise models, metrics and detectors as one Markdown page.

    Example:
        >>> fidelity_page().splitlines()[0]
        '# Fidelity'
    """
    parts = [INTRODUCTION]
    for kind in KINDS:
        parts.append(f"## {TITLES[kind]}\n")
        parts += [_section(name, card) for name, card in fidelity_cards(kind).items() if card is not None]
    parts.append(DETECTORS)
    parts += [_section(name, card) for name, card in sorted(CARDS.items())]
    parts.append("## Licenses of data\n")
    parts += ["| dataset or noise model | license | access | note |", "| --- | --- | --- | --- |"]
    parts += [_license_row(name, terms) for kind in DATA_KINDS for name, terms in declared_licenses(kind).items()]
    return "\n".join([*parts, ""])


def _section(name: str, card: Fidelity) -> str:
    lines = [f"### `{name}`", ""]
    if name in METRICS and METRICS[name].fidelity is card:
        lines += [f"{METRICS[name].summary}.", ""]
    if card.formula:
        lines.append(f"- Formula: `{card.formula}`")
    if card.reference:
        address = card.reference.removeprefix("https://github.com/")
        lines.append(f"- Reference: [{address}]({card.reference}), {_version(card.commit)}, license {card.license}")
    else:
        lines.append("- Reference: none that is public")
    lines.append(f"- {'Compared' if card.reference else 'Tested'}: {card.compared}")
    if card.difference:
        lines.append(f"- Largest difference: {card.difference}")
    if card.golden:
        lines.append(f"- Frozen vectors: {', '.join(f'`{name}`' for name in card.golden)}")
    lines.append("- Deviations:" if card.deviations else "- Deviations: none known")
    lines += [
        f"  - {deviation.what}. Reason: {deviation.why}. Effect: {deviation.size}." for deviation in card.deviations
    ]
    return "\n".join([*lines, ""])


def _license_row(name: str, terms: License) -> str:
    text = f"[{terms.name}]({terms.url})" if terms.url else terms.name
    return f"| `{name}` | {text} | {terms.access} | {terms.note} |"


def _version(commit: str) -> str:
    return f"commit `{commit[:12]}`" if len(commit) == 40 else f"version {commit}"

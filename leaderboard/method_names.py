"""Names of methods in the literature and in another library, and what they are called here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from noisybench.config.registry import list_entries
from noisybench.leaderboard.published import METHODS, all_published

LIBRARY = "KlemenVovk/noisy-labels"
"""Library of methods against label noise whose names are listed as well, on GitHub."""

LIBRARY_METHODS = {
    "CE": "cross_entropy",
    "FBT (forward)": "forward_correction",
    "FBT (backward)": "backward_correction",
    "GCE": "gce",
    "GLS": "gls",
    "co_teaching": "co_teaching",
    "co_teaching_plus": "co_teaching_plus",
    "jocor": "jocor",
    "cores2": "cores2",
    "peer_loss": "peer_loss",
    "f_divergence": "f_divergence",
    "ELR": "elr",
    "ELRplus": "elr_plus",
    "SOP": "sop",
    "SOPplus": "sop_plus",
    "PES": "pes",
    "PESsemi": "pes_semi",
    "CAL": "cal",
    "divide_mix": "dividemix",
    "DISC": "disc",
    "pro_mix": "promix",
    "t_revision": "t_revision",
    "volminnet": "volminnet",
}
"""Names of the library's methods, and of our mitigations."""

MISSING = "–"
"""Text for a method that is not here."""


def library_names() -> list[tuple[str, str]]:
    """Return the name of each method of the library, and of the mitigation here; empty if there is none.

    Example:
        >>> dict(library_names())["divide_mix"]
        'dividemix'
    """
    registered = list_entries("mitigations")
    return [(name, ours if ours in registered else "") for name, ours in LIBRARY_METHODS.items()]


def literature_names() -> list[tuple[str, str, int]]:
    """Return each name of `published.csv`, the stack here (empty if there is none), and its number of results.

    Example:
        >>> [(ours, count) for name, ours, count in literature_names() if name == "GCE"]
        [('gce', 21)]
    """
    stacks = {name: stack for stack, names in METHODS.items() for name in names}
    counts = Counter(result.method for result in all_published())
    return [(name, stacks.get(name, ""), counts[name]) for name in sorted(counts, key=str.lower)]


def names_to_markdown() -> list[str]:
    """Return the lines of two tables of names."""
    library = [(name, _code(ours)) for name, ours in library_names()]
    missing = [count for _, ours, count in literature_names() if not ours]
    literature = [(name, _code(ours), str(count)) for name, ours, count in literature_names()]
    return [
        "## Names of methods",
        "",
        f"Methods of the library [{LIBRARY}](https://github.com/{LIBRARY}), and what they are called here:",
        "",
        *_table(("there", "here"), library),
        "",
        "Names in the table of published results, the stack here, and the number of results; "
        f"{sum(missing)} results of {len(missing)} names have no stack here:",
        "",
        *_table(("published as", "here", "results"), literature),
    ]


def _code(name: str) -> str:
    return f"`{name}`" if name else MISSING


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (titles, ("---",) * len(titles), *rows)]

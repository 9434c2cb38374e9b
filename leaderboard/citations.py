"""BibTeX entries of noisybench, and of the entries and methods that a board shows."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from noisybench import __version__
from noisybench.config.component_card import CARD_KINDS, component_card
from noisybench.config.papers import Paper
from noisybench.config.registry import list_entries

AUTHOR = "{The noisybench contributors}"
TITLE = "noisybench: a benchmark of methods for learning with noisy labels"
"""Author and title as in `CITATION.cff`."""


def bibtex(kind: str, key: str, fields: Mapping[str, str]) -> str:
    """Return a BibTeX entry.

    Example:
        >>> print(bibtex("misc", "a", {"title": "{B}", "year": "2020"}))
        @misc{a,
          title = {{B}},
          year = {2020},
        }
    """
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def software_citation() -> str:
    """Return the BibTeX entry of the installed version of noisybench.

    Example:
        >>> software_citation().splitlines()[0]
        '@software{noisybench,'
    """
    fields = {"author": AUTHOR, "title": f"{{{TITLE}}}", "version": __version__, "license": "Apache-2.0"}
    return bibtex("software", "noisybench", fields)


def entry_citation(name: str) -> str:
    """Return the BibTeX entry of a submitted entry of the leaderboard."""
    fields = {
        "title": f"{{Entry `{_plain(name)}' of the noisybench leaderboard}}",
        "howpublished": "Folder of records and predictions, scored again by noisybench",
        "note": f"Listed by noisybench {__version__}",
    }
    return bibtex("misc", f"noisybench-{re.sub(r'[^A-Za-z0-9]+', '-', name)}", fields)


def paper_citation(paper: Paper) -> str:
    """Return the BibTeX entry of a paper, with the authors that its citation names.

    Example:
        >>> from noisybench.config.papers import all_papers
        >>> entry = paper_citation(all_papers()["Liu et al. 2022b"]).splitlines()
        >>> print("\\n".join([*entry[:2], entry[3]]))
        @misc{Liuetal2022b,
          author = {Liu and others},
          year = {2022},
    """
    names, _, year = paper.citation.rpartition(" ")
    fields = {
        "author": names.replace(" et al.", " and others"),
        "title": f"{{{_plain(paper.title)}}}",
        # The letter distinguishes citations, and belongs to the key alone.
        "year": year.rstrip(string.ascii_lowercase),
        "url": paper.url,
    }
    return bibtex("misc", re.sub(r"[^A-Za-z0-9]+", "", paper.citation), fields)


def _plain(text: str) -> str:
    """Return a text without characters that end a value of BibTeX, or have a meaning in LaTeX."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\]", "", text))


def citations(summaries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[int]]]:
    """Return what users of a board cite: noisybench, its entries, and the papers of its methods, noise models and datasets.

    Args:
        summaries: summary of each setting, see `SettingPayload`.

    Returns:
        Name, BibTeX entry and positions of the settings of each work.

    Example:
        >>> [name for name, _, _ in citations([])]
        ['noisybench']
    """
    by_entry: dict[str, list[int]] = {}
    for position, summary in enumerate(summaries):
        for entry in summary["entries"]:
            by_entry.setdefault(entry, []).append(position)
    return [
        ("noisybench", software_citation(), list(range(len(summaries)))),
        *((f"entry {entry}", entry_citation(entry), by_entry[entry]) for entry in sorted(by_entry)),
        *(
            (f"{', '.join(names)}: {paper.citation}", paper_citation(paper), sorted(positions))
            for paper, (names, positions) in _papers(summaries).items()
        ),
    ]


def _papers(summaries: Sequence[Mapping[str, Any]]) -> dict[Paper, tuple[list[str], set[int]]]:
    """Return the papers of the components of settings, with the components that each describes and the settings' positions."""
    papers: dict[Paper, tuple[list[str], set[int]]] = {}
    for kind in CARD_KINDS:
        # Names of components also stand in parameters, such as those of an ensemble.
        words = [_words(summary, kind) for summary in summaries]
        for name, entry in list_entries(kind).items():
            positions = {position for position, found in enumerate(words) if name in found}
            for paper in component_card(entry).papers if positions else ():
                names, settings = papers.setdefault(paper, ([], set()))
                names.append(name)
                settings |= positions
    return papers


def _words(summary: Mapping[str, Any], kind: str) -> set[str]:
    texts = {"noise_models": [summary["noise"], summary["task"]], "datasets": [summary["dataset"]]}.get(
        kind, summary["codes"]
    )
    return {word for text in texts for word in re.findall(r"\w+", text)}

"""BibTeX entries of noisybench, and of the entries and methods that a board shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noisybench import __version__
from noisybench.config.component_card import component_card
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
        >>> print(paper_citation(all_papers()["Liu et al. 2020"]).splitlines()[1])
          author = {Liu and others},
    """
    names, _, year = paper.citation.rpartition(" ")
    fields = {
        "author": names.replace(" et al.", " and others"),
        "title": f"{{{_plain(paper.title)}}}",
        "year": year,
        "url": paper.url,
    }
    return bibtex("misc", re.sub(r"[^A-Za-z0-9]+", "", paper.citation), fields)


def _plain(text: str) -> str:
    """Return a text without characters that end a value of BibTeX, or have a meaning in LaTeX."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\]", "", text))


def citations(summaries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return name and BibTeX entry of noisybench, of the entries of a board, and of the papers of its methods.

    Args:
        summaries: summary of each setting, see `SettingPayload`.

    Example:
        >>> [name for name, _ in citations([])]
        ['noisybench']
    """
    entries = sorted({entry for summary in summaries for entry in summary["entries"]})
    papers = _papers(stack for summary in summaries for stack in summary["codes"])
    return [
        ("noisybench", software_citation()),
        *((f"entry {entry}", entry_citation(entry)) for entry in entries),
        *((f"{', '.join(methods)}: {paper.citation}", paper_citation(paper)) for paper, methods in papers.items()),
    ]


def _papers(stacks: Iterable[str]) -> dict[Paper, list[str]]:
    """Return the papers of the mitigations in stacks, with the mitigations that each describes."""
    words = {word for stack in stacks for word in re.findall(r"\w+", stack)}
    papers: dict[Paper, list[str]] = {}
    for name, entry in list_entries("mitigations").items():
        # Names of mitigations also stand in parameters, such as those of an ensemble.
        if name in words:
            for paper in component_card(entry).papers:
                papers.setdefault(paper, []).append(name)
    return papers

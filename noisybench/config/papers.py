"""Papers that documentation cites, by the words of the citation, such as ``Liu et al. 2020``.

A docstring cites a paper by these words alone. `noisybench describe`, the documentation and the page add title and address.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper, thesis or technical report.

    Attributes:
        citation: authors and year, as docstrings cite it.
        title: title.
        url: address of a page with the paper or its abstract.
    """

    citation: str
    title: str
    url: str


@functools.cache
def all_papers() -> dict[str, Paper]:
    """Return all papers of `papers.csv` by their citation."""
    text = (importlib.resources.files("noisybench.config") / "papers.csv").read_text(encoding="utf-8")
    return {row["citation"]: Paper(**row) for row in csv.DictReader(text.splitlines())}


# A citation of several years, such as "Albert et al. (2022, 2023)", names one paper for each.
_NAME = r"(?:(?:da|Van) )?[A-Z][\w-]+"
_CITATION = re.compile(
    r"(arXiv \d{4}\.\d{5})|"
    rf"({_NAME}(?: [A-Z][\w-]+)?(?: et al\.| and {_NAME}(?: [A-Z]\w+)?)?) \(?((?:19|20)\d\d[a-z]?(?:, (?:19|20)\d\d[a-z]?)*)\b"
)


def citations(text: str) -> list[str]:
    """Return everything in a text that has the form of a citation, each once, in the order of the text.

    Example:
        >>> citations("the settings of PLS (Albert et al. 2022, 2023) and of Zhang and Sabuncu (2018)")
        ['Albert et al. 2022', 'Albert et al. 2023', 'Zhang and Sabuncu 2018']
    """
    found: dict[str, None] = {}
    for match in _CITATION.finditer(" ".join(text.split())):
        for year in (match[3] or "").split(", "):
            found[match[1] or f"{match[2]} {year}"] = None
    return list(found)


def cited_papers(text: str) -> tuple[Paper, ...]:
    """Return the papers that a text cites, in the order of the text.

    Example:
        >>> [paper.url for paper in cited_papers("Running averages of predictions (Liu et\\n    al. 2020).")]
        ['https://arxiv.org/abs/2007.00151']
    """
    return tuple(all_papers()[citation] for citation in citations(text) if citation in all_papers())


def with_titles(text: str) -> str:
    """Return a text with the title behind each citation.

    Example:
        >>> with_titles("Liu et al. 2020, table 1")
        'Liu et al. 2020, Early-Learning Regularization Prevents Memorization of Noisy Labels, table 1'
    """
    for paper in cited_papers(text):
        text = text.replace(paper.citation, f"{paper.citation}, {paper.title}")
    return text

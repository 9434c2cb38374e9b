"""Check that code, documentation and configurations use the usual terms of the field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each pattern with the words to use instead. Extend the list when a review finds another expression.
WORDS = {
    r"told|tells": "reported, receives, shows",
    r"outsiders?": "out-of-distribution (OOD) images",
    r"whoever|somebody|nobody": "the name of the actor",
    r"by heart": "memorized",
    r"go(es)? on\b(?! to)|taken up": "continue, resume",
    r"(?-i:What an?)": "a noun phrase",
    r"rivals?": "baselines",
    r"remedy|remedies": "method, mitigation",
    r"judges?|judged": "evaluator, evaluate",
    r"is away": "is unavailable",
    r"bit for bit": "bit-identical",
    r"wrong labels?": "mislabeled examples, incorrect or noisy labels",
    r"right labels?": "correct labels",
    r"(a|per|one|the|each) processor|processors|processor (time|seconds)": "CPU",
    r"any more": "no longer",
    r"(memor|normal|initial|regular)is\w+|optimis(e|ed|er|ers|ing|ation)|colours?|labell(ed|ing)|grey": "American spelling",
}

# Names of random streams, which must never change, and other names that contain one of the words.
ALLOWED = r'"initialisation"|[Pp]ost-?[Pp]rocessors?'


def sources() -> list[Path]:
    """Return the files that users and contributors read."""
    folders = ("noisybench", "tasks", "noise_models", "leaderboard", "configs", "docs")
    files = [
        file
        for folder in folders
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".md", ".yaml", ".html"}
    ]
    return [*sorted(files), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "setup.cfg"]


@pytest.mark.parametrize("pattern", WORDS)
def test_words_to_avoid(pattern: str) -> None:
    expression = re.compile(rf"(?<![\w.])({pattern})\b", re.I)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]}"
        for file in sources()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (match := expression.search(re.sub(ALLOWED, "", line)))
    ]
    assert not found, f"use {WORDS[pattern]} instead:\n" + "\n".join(found)

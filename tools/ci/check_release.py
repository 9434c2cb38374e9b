"""Check that the version is stated alike everywhere; with a tag, also that the release is complete.

python tools/ci/check_release.py            # what holds between releases
python tools/ci/check_release.py v0.2.0     # what holds for the commit of a tag
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def find_problems(root: Path = ROOT, tag: str | None = None) -> list[str]:
    """Return one line for each place that disagrees with `noisybench/__init__.py`.

    Args:
        root: root of the checkout.
        tag: name of the tag to release, or None between releases.

    Returns:
        Sentences that name the file, its value and the expected one; empty if all agree.
    """
    version = re.findall(r'^__version__ = "(.*)"$', (root / "noisybench/__init__.py").read_text(), re.M)[0]
    newest, state = re.findall(r"^## \[(.*?)\](?: - (\S+))?$", (root / "CHANGELOG.md").read_text(), re.M)[0]
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    released = citation.get("date-released")
    problems = []
    if newest != version:
        problems.append(f"CHANGELOG.md: the newest section is [{newest}], but the version is {version}")
    if str(citation["version"]) != version:
        problems.append(f"CITATION.cff: version is {citation['version']}, but the version is {version}")
    if state != "unreleased" and not re.fullmatch(r"\d{4}-\d\d-\d\d", state):
        problems.append(f"CHANGELOG.md: [{newest}] needs a date such as 2026-11-27, or `unreleased`, but has `{state}`")
    if (None if state == "unreleased" else state) != (None if released is None else str(released)):
        problems.append(
            f"CITATION.cff: date-released is {released}, but the newest section of CHANGELOG.md is of {state}"
        )
    if tag is not None and tag != f"v{version}":
        problems.append(f"the tag is {tag}, but the version is {version}; expected v{version}")
    if tag is not None and state == "unreleased":
        problems.append(f"CHANGELOG.md: [{newest}] is unreleased; write the date of the release")
    return problems


if __name__ == "__main__":
    lines = find_problems(tag=sys.argv[1] if len(sys.argv) > 1 else None)
    print("\n".join(lines) or "version, CHANGELOG.md and CITATION.cff agree")
    sys.exit(1 if lines else 0)

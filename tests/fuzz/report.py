"""The table of tried inputs in docs/input-checking.md, from the counts of the campaigns.

python -m tests.fuzz.campaign --count 4000 --output now.json    count the inputs of this tree
python -m tests.fuzz.report --now now.json                      store the counts, and write the table
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COUNTS = Path(__file__).parent / "counts.json"
PAGE = Path(__file__).parents[2] / "docs" / "input-checking.md"
BEGIN, END = "<!-- counts -->\n", "<!-- end of counts -->\n"
OUTCOMES = ("accepted", "refused", "internal errors")


def table(counts: dict[str, Any]) -> str:
    """Return the table of the page.

    Args:
        counts: for ``before`` and ``now``, the number of inputs by command and outcome.
    """
    lines = [
        "| command | tried | accepted | refused | internal errors before | now |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    now, before = counts["now"], counts["before"]
    totals = [0] * 5
    for command in sorted(now):
        accepted, refused, errors = (now[command].get(outcome, 0) for outcome in OUTCOMES)
        earlier = before[command].get("internal errors", 0) if command in before else None
        row = [accepted + refused + errors, accepted, refused, earlier or 0, errors]
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        shown = [f"{value:,}" for value in row]
        if earlier is None:
            shown[3] = "–"
        lines.append(f"| `{command}` | {' | '.join(shown)} |")
    lines.append(f"| **all** | {' | '.join(f'{value:,}' for value in totals)} |")
    return "\n".join(lines) + "\n"


def page(text: str, counts: dict[str, Any]) -> str:
    """Return the text of the page with the table of the counts."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table(counts) + END + rest.partition(END)[2]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--now", type=Path, help="counts of this tree")
    parser.add_argument("--before", type=Path, help="counts of the tree before inputs were checked strictly")
    options = parser.parse_args()
    counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    for name in ("before", "now"):
        if getattr(options, name):
            counts[name] = json.loads(getattr(options, name).read_text())
    COUNTS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), counts), encoding="utf-8")


if __name__ == "__main__":
    main()

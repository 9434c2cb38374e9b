"""Write the measured tables, sentences and figures of README.md, docs/ and headers of suites, from the entries that ship.

usage: python tools/measured_blocks.py [--check] [FILE ...]

In Markdown, a block is everything between `<!-- measured: KIND ENTRY -->` and `<!-- end -->`. Kinds: `table` (mean
score of each stack in each setting), `gains` (the same as differences from cross-entropy, which also draws
docs/ENTRY.png), `verdict` (sentences), `origin` (runs, version, device, duration), `summary` (how far single stacks are
below the best ones), `stress` (stress cards), `advice` (regret of `noisybench advise --evaluate`), `claims` (those of
tools/claims.yaml), `tuned` (stacks that a search has tuned, beside their defaults), and one table for each other number
of a run in `NUMBERS`. A block `<!-- measured: methods TASK -->` has all mitigations of a task, from the registry and
all entries. In the header of a suite, a line `measured: KIND ENTRY` begins such a block, which ends at the next one or
at the next field. The blocks of an entry that does not ship yet, but is listed in tools/boards.yaml, say so. `--check`
writes nothing and fails if a file would change.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from blocks.claims import claims
from blocks.entry import Block, Entry, is_measured
from blocks.methods import methods
from blocks.tables import NUMBERS, advice, gains, numbers, origin, stress, summary, table, verdict
from blocks.text import header, markdown
from blocks.tuned import tuned

from noisybench.leaderboard.verdict import BASELINE

ROOT = Path(__file__).parents[1]
UNMEASURED = "Not measured yet."
MARKDOWN_BLOCK = re.compile(
    r"(?P<start><!-- measured: (?P<kind>\w+) (?P<entry>[\w-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL
)
HEADER_BLOCK = re.compile(
    r"(?P<start>#(?: expect:|        )  measured: (?P<kind>\w+) (?P<entry>[\w-]+)\n)"
    r"(?P<body>(?:#          (?!measured: ).*\n)*)(?P<end>)"
)


KINDS: Mapping[str, Callable[[Entry], Block]] = {
    "table": table, "gains": gains, "verdict": verdict, "summary": summary, "stress": stress, "claims": claims,
    "origin": origin, "advice": advice, "tuned": tuned,
    **{kind: functools.partial(numbers, number=number) for kind, number in NUMBERS.items()},
}  # fmt: skip


def updated(text: str, is_header: bool) -> str:
    """Return the text of a file with its blocks written anew."""

    def replace(match: re.Match[str]) -> str:
        kind, entry = match["kind"], match["entry"]
        if kind == "methods":
            block = methods(entry)
        elif kind in KINDS:
            block = KINDS[kind](Entry(entry)) if is_measured(entry) else [(UNMEASURED, [])]
        else:
            sys.exit(f"error: unknown kind of block {kind}; known kinds: {', '.join(KINDS)}, methods")
        return match["start"] + (header(block) if is_header else markdown(block)) + match["end"]

    return (HEADER_BLOCK if is_header else MARKDOWN_BLOCK).sub(replace, text)


def draw(entry: Entry, output: Path) -> None:
    """Draw the differences of all stacks from cross-entropy in all settings."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    stacks = [stack for stack in entry.stacks if stack != BASELINE]
    values = np.array([[np.nan if gain is None else gain for gain in entry.gains(stack)] for stack in stacks])
    limit = float(np.nanquantile(np.abs(values), 0.9))
    figure, axes = plt.subplots(
        figsize=(2.6 + 0.72 * len(entry.titles), 1.6 + 0.34 * len(stacks)), layout="constrained"
    )
    axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for row, stack in enumerate(stacks):
        for column, is_best in enumerate(entry.is_best(stack)):
            if np.isfinite(values[row, column]):
                dark = abs(values[row, column]) > 0.65 * limit
                axes.text(
                    column, row, f"{values[row, column]:+.1f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black", weight="bold" if is_best else "normal",
                )  # fmt: skip
    names = [entry.names[stack] + ("" if entry.needs(stack) == "none" else " *") for stack in stacks]
    axes.set_yticks(range(len(stacks)), names, fontsize=8)
    axes.set_xticks(range(len(entry.titles)), entry.titles, rotation=35, ha="left", rotation_mode="anchor", fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    privileged = "\n*: privileged information" if any(name.endswith("*") for name in names) else ""
    axes.set_xlabel(f"Points above cross-entropy; bold: rank 1 of the setting{privileged}", fontsize=8)
    figure.savefig(output, dpi=120, metadata={"Software": ""})
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the blocks of all files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Files (default: README.md, docs and suites)")
    parser.add_argument("--check", action="store_true", help="Write nothing, and fail if a file would change")
    options = parser.parse_args(arguments)
    default = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "configs/suites").glob("*.yaml")),
    ]
    changed = []
    for file in options.files or default:
        text = file.read_text(encoding="utf-8")
        is_header = file.suffix == ".yaml"
        new = updated(text, is_header)
        if new != text:
            changed.append(str(file))
        if not options.check:
            file.write_text(new, encoding="utf-8")
            drawn = {match["entry"] for match in MARKDOWN_BLOCK.finditer(text) if match["kind"] == "gains"}
            for name in sorted(filter(is_measured, drawn if not is_header else ())):
                draw(Entry(name), ROOT / "docs" / f"{name}.png")
    if options.check and changed:
        sys.exit(f"error: not as measured: {', '.join(changed)}; write them by python tools/measured_blocks.py")


if __name__ == "__main__":
    main()

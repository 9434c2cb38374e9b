"""Color, marker and dash of each stack of mitigations: the same on the page and in all figures.

Seven colors differ from each other for readers with any form of color blindness, and from light and dark backgrounds with a
contrast of 3 to 1; `tests/plots/test_method_styles.py` measures both. More stacks than colors are distinguished by markers and
dashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from noisybench.config.registry import list_entries

BASELINE = "cross_entropy"
BASELINE_COLOR = "#808080"
"""Color of cross-entropy, with which all others are compared."""

COLORS = ("#4860fc", "#d80c00", "#0c783c", "#fc48b4", "#b4903c", "#9c3cb4", "#249ccc")
MARKERS = ("circle", "square", "triangle", "diamond", "triangle_down", "pentagon", "star")
DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 2), (8, 3, 2, 3))
"""Lengths of strokes and gaps in points."""

NUM_PATTERNS = len(MARKERS) * len(DASHES)
"""Number of pairs of a marker and a dash; all of them are used, because both counts have no common divisor."""

FREQUENT = ("elr", "gce", "co_teaching", "forward_correction", "mixup", "sce", "bootstrapping")
"""Mitigations that are often compared: each has a color of its own, a circle and a solid line."""

MATPLOTLIB_MARKERS = dict(zip(MARKERS, "os^Dvp*", strict=True))


@dataclass(frozen=True)
class MethodStyle:
    """Appearance of a stack in figures.

    Attributes:
        color: hexadecimal color.
        marker: name of the marker.
        dash: lengths of strokes and gaps in points; empty for a solid line.
    """

    color: str
    marker: str
    dash: tuple[int, ...]

    @property
    def matplotlib(self) -> dict[str, Any]:
        """Arguments of `Axes.plot`."""
        return {
            "color": self.color,
            "marker": MATPLOTLIB_MARKERS[self.marker],
            "linestyle": (0, self.dash) if self.dash else "-",
        }


def _style(color: int, pattern: int) -> MethodStyle:
    return MethodStyle(COLORS[color], MARKERS[pattern % len(MARKERS)], DASHES[pattern % len(DASHES)])


def _registered_styles() -> dict[str, MethodStyle]:
    """Return the styles of registered mitigations without parameters, which do not depend on what else is drawn."""
    others = sorted(set(list_entries("mitigations")) - {*FREQUENT, BASELINE})
    styles = {name: _style(*reversed(divmod(slot, len(COLORS)))) for slot, name in enumerate([*FREQUENT, *others])}
    return styles | {BASELINE: MethodStyle(BASELINE_COLOR, "circle", ())}


def method_styles(stacks: Iterable[str]) -> dict[str, MethodStyle]:
    """Return the style of each stack.

    The color depends on the name alone. So does the pattern of marker and dash of a registered mitigation; among other stacks,
    such as combinations and changed parameters, a later one in alphabetical order takes the next pattern if both are the same.

    Example:
        >>> styles = method_styles(["elr", "mixup+elr", "elr(reg_weight=1)"])
        >>> styles["elr"]
        MethodStyle(color='#4860fc', marker='circle', dash=())
        >>> len(set(styles.values()))
        3
    """
    names, registered = set(stacks), _registered_styles()
    styles = {name: registered[name] for name in sorted(names & set(registered))}
    taken = set(styles.values())
    for stack in sorted(names - set(registered)):
        number = int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big")
        first, color = divmod(number, len(COLORS))
        candidates = [_style(color, first + step) for step in range(NUM_PATTERNS)]
        styles[stack] = next((style for style in candidates if style not in taken), candidates[0])
        taken.add(styles[stack])
    return styles

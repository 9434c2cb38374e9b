"""Text of published settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from noisybench.config.preset_choice import describe_condition
from noisybench.config.presets import Presets, format_settings

if TYPE_CHECKING:
    from rich.console import Console

    from noisybench.config.spec import RunSpec


def describe_presets(presets: Presets) -> str:
    """Return the published settings of a mitigation as lines of text.

    Example:
        >>> from noisybench.config.presets import load_presets
        >>> print(describe_presets(load_presets("elr")))  # doctest: +ELLIPSIS
        published settings: Liu et al. 2020, ...
        defaults: those of cifar10-symmetric
          preset=cifar10-symmetric    cifar10, symmetric_inclusive or symmetric_exclusive
            settings: beta=0.7, reg_weight=3
            budget: network=resnet34_cifar_stem, ...
    """
    origin = f"those of {presets.defaults}" if presets.defaults else "those of no row"
    lines = [f"published settings: {presets.paper}", f"defaults: {origin}"]
    for name, row in presets.rows.items():
        lines += [
            f"  preset={name}    {describe_condition(row)}",
            f"    settings: {format_settings(row.settings) or 'none'}",
            f"    budget: {format_settings(row.budget) or 'not stated'}",
            f"    source: {row.source}",
        ]
        lines += [f"    deviation: {deviation}" for deviation in row.deviations]
    return "\n".join(lines)


def print_notes(console: Console, specs: Iterable[RunSpec]) -> None:
    """Print how runs differ from the published settings of their mitigations, each line once."""
    for note in dict.fromkeys(note for spec in specs for note in spec.notes):
        console.print(Text(f"Note: {note}.", style="yellow"))

"""Pages of the Python API, which mkdocstrings fills from the docstrings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import noisybench as nb

from .pages import Page
from .text import code, table

EXTENSION_POINTS = {
    "Mitigations": (
        "noisybench.training.mitigation", "noisybench.training.roles", "noisybench.training.learner",
        "noisybench.training.batch", "noisybench.training.training_set",
    ),
    "Noise models and datasets": (
        "noisybench.data.noise_model", "noisybench.data.source", "noisybench.data.dataset",
        "noisybench.data.label_sets.label_set",
    ),
    "Tasks and evaluators": ("noisybench.training.task_contract", "noisybench.training.evaluator"),
    "Parameters": ("noisybench.config.parameters",),
}  # fmt: skip
"""Modules whose classes people extend, by page."""


def pages() -> Iterator[Page]:
    """Yield an overview, one page per module of public names, and the pages of extension points."""
    names = defaultdict(list)
    for name in sorted(nb.__all__):
        names[nb._MODULES[name]].append(name)
    rows, made = [], []
    for module, members in names.items():
        stem = module.rpartition(".")[2]
        is_module = members == [stem]
        targets = [module] if is_module else [f"{module}.{name}" for name in members]
        parts = [_directive(target, f"nb.{name}") for target, name in zip(targets, members, strict=True)]
        titles = ", ".join(f"nb.{name}" for name in members)
        made.append(Page(f"reference/api/{stem}.md", titles, f"# {titles}\n\n" + "\n\n".join(parts) + "\n"))
        rows += [(f"[`nb.{name}`]({stem}.md)", code(module)) for name in members]
    for title, modules in EXTENSION_POINTS.items():
        stem = title.lower().replace(" ", "-")
        text = f"# Extension points: {title.lower()}\n\n" + "\n\n".join(map(_directive, modules)) + "\n"
        made.append(Page(f"reference/api/{stem}.md", f"Extension: {title.lower()}", text))
        rows.append((f"[{title}]({stem}.md)", "for authors of plug-ins"))
    parts = [
        "# Python API",
        "For everyone who calls noisybench from Python. [Use from Python](../../python-api.md) introduces it.",
        "```python\nimport noisybench as nb\n\nhelp(nb.load_dataset)\n```",
        table(["Name", "Defined in"], rows),
    ]
    yield Page("reference/api/index.md", "Python API", "\n\n".join(parts) + "\n")
    yield from made


def _directive(target: str, heading: str = "") -> str:
    """Return the instruction to insert documentation, under the name by which people call it."""
    options = f"\n    options:\n      heading: {heading}\n      toc_label: {heading}" if heading else ""
    return f"::: {target}{options}"

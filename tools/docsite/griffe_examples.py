"""Griffe extension: show the examples of docstrings as code."""

from __future__ import annotations

import re
from typing import Any

import griffe


def with_examples(text: str) -> str:
    r"""Return a docstring whose examples Griffe recognizes.

    >>> with_examples("One line.\n\n>>> 1 + 1\n2\n\nExample:\n    >>> 2")
    'One line.\n\n```python\n>>> 1 + 1\n2\n```\n\nExamples:\n    >>> 2'
    """
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return re.sub(r"^>>> (?:.+\n?)+", lambda block: f"```python\n{block[0].rstrip()}\n```\n", text, flags=re.M).rstrip()


class Examples(griffe.Extension):
    """Applies `with_examples` to every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object after it was read."""
        if obj.docstring:
            obj.docstring.value = with_examples(obj.docstring.value)

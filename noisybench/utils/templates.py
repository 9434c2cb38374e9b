"""Rendering of the Jinja2 templates shipped with the package."""

from __future__ import annotations

import functools
from typing import Any

import jinja2


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        # Titles, class names and error messages may contain HTML characters.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(package: str, name: str, **context: Any) -> str:
    """Render a template from the ``templates`` folder of a package, with HTML characters in values escaped.

    Args:
        package: import name of the package that has the folder ``templates``.
        name: file name of the template.
        context: variables of the template.

    Raises:
        jinja2.UndefinedError: the template uses a variable that is missing from ``context``.

    Example:
        >>> page = render(
        ...     "noisybench.plots", "traces.html", title="a < b", traces=[]
        ... )
        >>> "<title>a &lt; b</title>" in page
        True
    """
    page = _environment(package).get_template(name).render(context)
    # File names need not be Unicode text, but pages must be.
    return page.encode(errors="backslashreplace").decode()

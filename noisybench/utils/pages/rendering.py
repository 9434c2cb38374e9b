"""Rendering of the Jinja2 templates shipped with the package."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from typing import Any

import jinja2
from markupsafe import Markup

PACKAGE = "noisybench.utils.pages"
"""Package of the files that all pages share."""


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    # The second loader has the frame of all pages, `base.html`.
    loaders = [jinja2.PackageLoader(name) for name in (package, PACKAGE)]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
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
        >>> page = render("noisybench.plots", "traces.html", title="a < b", traces=[], policy="", style="")
        >>> "<title>a &lt; b</title>" in page
        True
    """
    page = _environment(package).get_template(name).render(context)
    # File names need not be Unicode text, but pages must be.
    return page.encode(errors="backslashreplace").decode()


def render_page(
    package: str, name: str, *, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), images: bool = False,
    **context: Any,
) -> str:  # fmt: skip
    """Render a template that extends ``base.html``; the page loads nothing, and runs no script but its own.

    Args:
        package: import name of the package that has the folders ``templates`` and ``static``.
        name: file name of the template, which places ``script`` in a script element.
        styles: CSS files of this page; the style that all pages share comes before them.
        scripts: JavaScript files of this page, in the order in which they are joined after the shared one.
        images: allow images that are part of the page.
        context: further variables of the template.

    Example:
        >>> page = render_page("noisybench.leaderboard", "waiting.html", scripts=("reload.js",))
        >>> "default-src 'none'" in page, "script-src 'sha256-" in page, "location.reload()" in page
        (True, True, True)
    """
    style = _static_file(PACKAGE, "page.css") + "".join(_static_file(package, file) for file in styles)
    sources = ["default-src 'none'", f"style-src '{_digest(style)}'", "base-uri 'none'", "form-action 'none'"]
    script = ""
    if scripts:
        script = _static_file(PACKAGE, "page.js") + "".join(_static_file(package, file) for file in scripts)
        # A hash in place of 'unsafe-inline': a script that got into the page through a name would still not run.
        sources.append(f"script-src '{_digest(script)}'")
    if images:
        sources.append("img-src data:")
    # Style and script are our own files, and their hashes are those of the unescaped text.
    context |= {"policy": Markup("; ".join(sources)), "style": Markup(style), "script": Markup(script)}
    return render(package, name, **context)


def json_in_script(text: str) -> Markup:
    r"""Mark JSON as safe inside a script element, which only ``</`` and ``<!--`` could end.

    Example:
        >>> json_in_script('{"name": "</script>"}')
        Markup('{"name": "\\u003c/script>"}')
    """
    return Markup(text.replace("<", "\\u003c"))


@functools.cache
def _static_file(package: str, name: str) -> str:
    return (importlib.resources.files(package) / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

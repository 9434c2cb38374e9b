"""The tutorial: a notebook that is executed when the site is built."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .pages import Page

TIMEOUT = 300
"""Largest number of seconds of one cell."""


def pages(path: Path) -> Iterator[Page]:
    """Execute a notebook in an empty folder, and yield it as Markdown with the pictures that it has drawn.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed, which fails the build.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}).execute()
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    # Every table of pandas repeats its style and has a class; the theme of the site styles tables without either.
    body = re.sub(r"<style scoped>.*?</style>\s*", "", body, flags=re.S)
    body = body.replace('<table border="1" class="dataframe">', "<table>")
    yield Page(f"{path.stem}.md", "Tutorial", body)
    for name, data in resources.get("outputs", {}).items():
        yield Page(name, name, data)

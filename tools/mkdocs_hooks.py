"""Add the generated pages to the documentation site, and let links to files of the repository lead somewhere in it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from docsite.pages import Page, all_pages, site_links

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page as SitePage

ROOT = Path(__file__).parents[1]


@functools.cache
def generated() -> tuple[Page, ...]:
    """Return all generated pages; once, although `mkdocs serve` builds the site again after every change."""
    return tuple(all_pages(ROOT))


def on_config(config: MkDocsConfig) -> None:
    """Replace folders in the navigation by the pages that are generated in them."""
    if config.nav:
        config.nav = [_expanded(item) for item in config.nav]


def _expanded(item: object) -> object:
    if isinstance(item, str) or not isinstance(item, dict):
        return item
    ((title, value),) = item.items()
    if isinstance(value, list):
        return {title: [_expanded(each) for each in value]}
    if not value.endswith("/"):
        return item
    pages = [page for page in generated() if page.path.startswith(value) and page.path.endswith(".md")]
    # The overview opens when the title is clicked, so it has no entry of its own.
    return {title: [page.path if page.path.endswith("/index.md") else {page.title: page.path} for page in pages]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and pictures."""
    from mkdocs.structure.files import File

    for page in generated():
        files.append(File.generated(config, page.path, content=page.content))
    if (notebook := files.get_file_from_path("tutorial.ipynb")) is not None:
        files.remove(notebook)
    return files


def on_page_markdown(markdown: str, page: SitePage, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside of `docs` lead to their pages on the site."""
    return site_links(markdown, page.file.src_uri)

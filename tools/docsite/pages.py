"""All pages of the documentation site that are generated, and the links between the repository and the site."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noisybench.config.registry import KINDS, list_entries


@dataclass(frozen=True)
class Page:
    """One generated file of the site.

    Attributes:
        path: path within the site's sources, such as `reference/mitigations/elr.md`.
        title: title in the navigation.
        content: Markdown, or the bytes of a picture.
    """

    path: str
    title: str
    content: str | bytes


REPOSITORY_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
"""Files of the repository that are pages of the site."""


def all_pages(root: Path) -> Iterator[Page]:
    """Yield all generated pages and pictures.

    Args:
        root: folder of the repository.
    """
    from . import api, commands, gallery, notebook, schemas, suites

    for source, target in REPOSITORY_PAGES.items():
        yield Page(target, Path(target).stem.capitalize(), (root / source).read_text(encoding="utf-8"))
    yield Page("reference/index.md", "Reference", OVERVIEW)
    yield from gallery.pages()
    yield from commands.pages()
    yield from suites.pages()
    yield from schemas.pages()
    yield from api.pages()
    yield from notebook.pages(root / "docs" / "tutorial.ipynb")


OVERVIEW = """# Reference

For everyone who knows the name of something and wants the details. These pages are generated from the installed code, as
the output of these commands is:

```bash
noisybench list
noisybench describe elr
```

| Page | Content |
| --- | --- |
| [Command line](commands.md) | all commands with arguments, options and examples |
| [Python API](api/index.md) | all public functions and classes |
| [Mitigations](mitigations/index.md) | formulas, papers, fidelity cards, parameters, published settings, measurements |
| [Noise models](noise_models/index.md) | the same, with pictures |
| [Datasets](datasets/index.md) | built-in data, and readers of your own files |
| [Tasks](tasks/index.md), [networks](networks/index.md), [backbones](backbones/index.md) | parameters and commands |
| [Metrics](metrics.md) | direction, function, names in records |
| [Suites, recipes, searches](suites.md) | built-in configurations with their commands |
| [Records and manifests](schemas.md) | fields of all files that are written |
| [Fidelity](../fidelity.md), [reproduction](../reproduction.md) | comparison with reference code and published numbers |
"""


def site_links(markdown: str, source: str) -> str:
    """Return a page whose links to files of the repository lead to the site, and in which names lead to their reference.

    Args:
        markdown: text of the page.
        source: path of the page within the site's sources.

    >>> site_links("[a](docs/audit.md#masks), [b](../CONTRIBUTING.md), [c](docs/tutorial.ipynb), `elr`", "index.md")
    '[a](audit.md#masks), [b](contributing.md), [c](tutorial.md), [`elr`](reference/mitigations/elr.md)'
    """
    if "/" in source:
        return markdown

    def leading(match: re.Match[str]) -> str:
        # Pages of the repository's root link to `docs/...`; pages of `docs` link to the root by `../`.
        target = match["target"].removeprefix("docs/").removeprefix("../")
        target = target.replace(".ipynb", ".md")
        if not target.endswith((".md", ".png")):  # source code, which is no part of the site
            return f"`{target}`" if match["text"] == target else f"{match['text']} (`{target}`)"
        return f"[{match['text']}]({REPOSITORY_PAGES.get(target, target)}{match['anchor']})"

    pattern = r"\[(?P<text>[^\[\]]*)\]\((?P<target>[\w./-]+\.\w+)(?P<anchor>(?:#[\w-]*)?)\)"
    markdown = re.sub(pattern, leading, markdown)
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else _with_references(part) for part in parts)


def _with_references(text: str) -> str:
    """Return text in which code spans that are names of the registry are links, outside of headings and links."""
    known = reference_pages()

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        return f"[`{name}`]({known[name]})" if name in known else match[0]

    # GitHub wants a backslash before a bar in a code span of a table; on the site it would be visible.
    text = re.sub(r"`[^`\n]+`", lambda match: match[0].replace(r"\|", "|"), text)
    return "\n".join(
        line if line.startswith("#") else re.sub(r"(?<!\[)`(\w+)`(?![\w`]|[^\[\n]*\]\()", linked, line)
        for line in text.split("\n")
    )


@functools.cache
def reference_pages() -> dict[str, str]:
    """Return the page of each name that only one kind of component has.

    >>> reference_pages()["pair_flip"]
    'reference/noise_models/pair_flip.md'
    """
    kinds = defaultdict(list)
    for kind in KINDS:
        for name in list_entries(kind):
            kinds[name].append(kind)
    return {name: f"reference/{found[0]}/{name}.md" for name, found in kinds.items() if len(found) == 1}

"""Files that look like data and are not read: counted and named, so that none disappears without a word."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.errors import UserError
from noisybench.utils.file_listing import is_hidden, list_files
from noisybench.utils.text import printable

DOCUMENT_SUFFIXES = frozenset(
    (
        ".txt", ".md", ".rst", ".html", ".htm", ".css", ".js", ".pdf", ".doc", ".docx", ".rtf", ".log", ".cfg", ".ini",
        ".toml", ".yaml", ".yml", ".json", ".xml", ".py", ".ipynb", ".sh", ".m", ".r", ".bib", ".license", ".lnk", ".url",
        ".db", ".bak",
    )
)  # fmt: skip
"""Suffixes of documents and programs, which are no data."""

DOCUMENT_NAMES = ("readme", "license", "licence", "copying", "authors", "changelog", "notice", "makefile", "dockerfile")
"""Lower-case beginnings of names of documents."""


def looks_like_data(name: str) -> bool:
    """Return True unless a file is hidden, or a document by its name.

    Example:
        >>> [looks_like_data(name) for name in ("cat.heic", "scan0001", "README.md", "LICENSE", "Thumbs.db")]
        [True, True, False, False, False]
    """
    if is_hidden(name) or name.lower().startswith(DOCUMENT_NAMES):
        return False
    return os.path.splitext(name)[1].lower() not in DOCUMENT_SUFFIXES


def data_files_below(folder: Path) -> list[Path]:
    """Return the files below a folder that look like data, sorted.

    Raises:
        UserError: a folder cannot be read.
    """
    return [file for file in list_files(folder, ("",)) if looks_like_data(file.name)]


def data_files_in(folder: Path) -> list[Path]:
    """Return the files directly in a folder that look like data, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    return [path for path in visible_entries(folder) if looks_like_data(path.name) and not path.is_dir()]


def subfolders(folder: Path, ignored: Collection[str] = ()) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones and those whose names are ignored.

    Raises:
        UserError: the folder cannot be read.
    """
    return [path for path in visible_entries(folder) if path.name not in ignored and path.is_dir()]


def visible_entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder that are not hidden, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise UserError(
            f"{printable(str(folder))}: cannot be read ({error.strerror}); correct its permissions"
        ) from None


def unread_files(files: Iterable[Path], root: Path) -> tuple[ReadingNote, ...]:
    """Return the note about files that look like data and were not read.

    Args:
        files: the files.
        root: folder to which their names are relative.

    Example:
        >>> [str(note) for note in unread_files([Path("pets/cat/1.heic")], Path("pets"))]
        ['Files were not read (1: cat/1.heic)']
    """
    return reading_note("unread_files", "Files were not read", (relative_name(file, root) for file in files))


def relative_name(file: Path, root: Path) -> str:
    """Return the path of a file relative to a folder that contains it, with slashes, for display."""
    return printable(file.relative_to(root).as_posix())

"""Facts that readers report: what was converted, left unread or assumed while a dataset was read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_NAMES = 20
"""Largest number of names that a note lists."""


@dataclass(frozen=True)
class ReadingNote:
    """Fact about the files or examples of a dataset that a user should know once.

    Facts that make results meaningless are errors instead.

    Attributes:
        kind: identifier, such as ``exif_orientation``; notes of the same kind and text are merged.
        text: complete sentence without the number of examples and their names.
        count: number of files or examples concerned.
        names: the first of them.

    Example:
        >>> str(ReadingNote("transparency", "Transparent images were composed on white", 3, ("a.png", "b.png")))
        'Transparent images were composed on white (3: a.png, b.png …)'
    """

    kind: str
    text: str
    count: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = " …" if self.names and self.count > len(self.names) else ""
        names = f": {', '.join(self.names)}{more}" if self.names else ""
        return f"{self.text} ({self.count}{names})"


def reading_note(kind: str, text: str, names: Iterable[str]) -> tuple[ReadingNote, ...]:
    """Return a note about named files or examples, or nothing if there are none.

    Example:
        >>> reading_note("transparency", "Transparent images were composed on white", [])
        ()
    """
    listed = tuple(names)
    return (ReadingNote(kind, text, len(listed), listed[:MAX_NAMES]),) if listed else ()


def merge_notes(notes: Iterable[ReadingNote]) -> tuple[ReadingNote, ...]:
    """Return notes with those of the same kind and text added up, in the order of their first occurrence.

    Example:
        >>> notes = [ReadingNote("dark", "Images are black", 1, ("a",)), ReadingNote("dark", "Images are black", 2, ("b",))]
        >>> merge_notes(notes)
        (ReadingNote(kind='dark', text='Images are black', count=3, names=('a', 'b')),)
    """
    merged: dict[tuple[str, str], ReadingNote] = {}
    for note in notes:
        key = note.kind, note.text
        earlier = merged.get(key, ReadingNote(note.kind, note.text, 0))
        names = (earlier.names + note.names)[:MAX_NAMES]
        merged[key] = ReadingNote(note.kind, note.text, earlier.count + note.count, names)
    return tuple(merged.values())

"""Leave out of an export what earlier exports have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from noisybench.tracking.bundle import Draft, Item
from noisybench.tracking.bundle_reader import Bundle
from noisybench.tracking.run_import import RECORD


def without_known(drafts: Sequence[Draft], exports: Sequence[Path]) -> list[Draft]:
    """Return the items that earlier exports do not have, or have with other content.

    A finished run is known by its id and record; other items by all their files, since checkpoints change.

    Args:
        drafts: items of an export.
        exports: files of earlier exports.

    Raises:
        UserError: a file is no export.

    Example:
        >>> without_known([Draft("auxiliary", "scores.pt", "scores", {"scores.pt": b"1"})], [])[0].id
        'scores.pt'
    """
    with Bundle(exports) as bundle:
        known: dict[tuple[str, str], list[Item]] = {}
        for item in bundle.items:
            if bundle.missing_parts(item) is None:
                known.setdefault((item.kind, item.id), []).append(item)
    return [
        draft for draft in drafts if not any(_is_same(draft, item) for item in known.get((draft.kind, draft.id), ()))
    ]


def _is_same(draft: Draft, item: Item) -> bool:
    """Return True if an item with the same kind and id has the same content."""
    if RECORD in item.files and RECORD in draft.files:
        return _sha256(draft.files[RECORD]) == item.files[RECORD]
    return {name: _sha256(source) for name, source in draft.files.items()} == item.files


def _sha256(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

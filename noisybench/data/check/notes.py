"""Notes about a dataset for commands that use it, computed once and, before runs, shown once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from noisybench.config.source_code import module_code
from noisybench.data.check import facts
from noisybench.data.dataset import Dataset
from noisybench.data.notes import ReadingNote, merge_notes
from noisybench.utils.files import cache_folder, write_atomically


def dataset_notes(dataset: Dataset) -> tuple[ReadingNote, ...]:
    """Return the notes of the reader of a dataset and those of a check, which are cached by the bytes of the dataset."""
    saved = _load(dataset)
    if saved is None:
        checked = facts.check_notes(dataset)
        _save(dataset, {"notes": [dataclasses.asdict(note) for note in checked], "shown": False})
    else:
        checked = tuple(_note(entry) for entry in saved["notes"])
    return merge_notes((*dataset.notes, *checked))


def new_notes(dataset: Dataset) -> tuple[ReadingNote, ...]:
    """Return the notes about a dataset, unless an earlier call on this machine has returned them."""
    notes, saved = dataset_notes(dataset), _load(dataset)
    if saved is not None and saved["shown"]:
        return ()
    if saved is not None:
        _save(dataset, {**saved, "shown": True})
    return notes


def _path(dataset: Dataset) -> Path:
    version = module_code(facts.__name__)[:8]
    return cache_folder() / "checks" / f"{dataset.hash[:32]}-{version}.json"


def _load(dataset: Dataset) -> dict[str, Any] | None:
    """Return what is cached; None if there is nothing that can be read."""
    try:
        saved: dict[str, Any] = json.loads(_path(dataset).read_text(encoding="utf-8"))
        for entry in saved["notes"]:
            _note(entry)
        return {"notes": saved["notes"], "shown": bool(saved["shown"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _save(dataset: Dataset, content: dict[str, Any]) -> None:
    # Notes are no results: without a cache, they are computed and shown each time.
    with contextlib.suppress(OSError):
        path = _path(dataset)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content).encode())


def _note(entry: dict[str, Any]) -> ReadingNote:
    return ReadingNote(str(entry["kind"]), str(entry["text"]), int(entry["count"]), tuple(map(str, entry["names"])))

"""Reader."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_RECORD = 64 * 2**20
"""Bytes. A run of a thousand epochs with ten detectors has a few megabytes."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as the store lists it, without what it measured.

    Attributes:
        run_id: of the tracked run.
        title: one line.
        place: URI of its files.
        tags: its own tags without `PREFIX`: `identity`, `stack`, `label_set`, `budget`, `error` and the like.
    """

    run_id: str
    title: str
    place: str
    tags: dict[str, str]

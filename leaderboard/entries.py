"""Entries: the submissions behind measurements, with claim, author, date, digest and verification, and their section of the page.

Installed users have `entries.csv`, one row per submission, which `noisybench leaderboard summarize` writes beside the folder of
measurements.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noisybench.leaderboard.payload import SettingPayload
from noisybench.utils.cells import plain_cell, read_rows, text_of_cell, write_rows

if TYPE_CHECKING:
    # Verification needs PyTorch, whose import takes longer than a small board.
    from noisybench.leaderboard.submission import Submission


@dataclass(frozen=True)
class EntryInfo:
    """One submission.

    Attributes:
        name: name of its folder.
        claim: claim of the runs, and how they were trained.
        author: name or address of the authors; empty if not stated.
        date: day on which it was packaged, in UTC; empty if not stated.
        version: version of noisybench that packaged it.
        digest: SHA-256 of its `submission.json`, which has the digests of all other files.
        status: ``claimed``, ``re-scored`` or ``re-run``.
        stamp: reason for the status, such as the date of a signature.
        evidence: address or place of its files; empty if they are not distributed.
    """

    name: str
    claim: str
    author: str
    date: str
    version: str
    digest: str
    status: str
    stamp: str
    evidence: str


COLUMNS = tuple(field.name for field in dataclasses.fields(EntryInfo))
"""Columns of a table of entries."""


def describe_submission(submission: Submission, evidence: str = "") -> EntryInfo:
    """Return the facts about a submission that the page shows.

    Args:
        submission: submission that was read.
        evidence: address of the folder with all submissions; empty if their files are not distributed.
    """
    manifest, name = submission.manifest, submission.folder.name
    return EntryInfo(
        name=name,
        claim=manifest.description,
        author=manifest.author,
        date=manifest.date,
        version=manifest.noisybench,
        digest=submission.digest,
        status=submission.status,
        stamp=submission.stamp.reason,
        evidence=f"{evidence.rstrip('/')}/{name}" if evidence else "",
    )


def to_csv(entries: Iterable[EntryInfo]) -> str:
    """Return entries as a CSV table that `from_csv` reads.

    Example:
        >>> from_csv(to_csv(builtin_entries())) == builtin_entries()
        True
    """
    return write_rows(COLUMNS, ([plain_cell(str(value)) for value in vars(entry).values()] for entry in entries))


def from_csv(text: str) -> list[EntryInfo]:
    """Read a table of entries.

    Raises:
        UserError: the columns are not `COLUMNS`.
    """
    rows = read_rows(text, COLUMNS, "entries")
    return [EntryInfo(**{name: text_of_cell(row[name]) for name in COLUMNS}) for row in rows]


@functools.cache
def _builtin() -> tuple[EntryInfo, ...]:
    file = importlib.resources.files("noisybench.leaderboard") / "entries.csv"
    return tuple(from_csv(file.read_text(encoding="utf-8")))


def builtin_entries() -> list[EntryInfo]:
    """Return the entries whose measurements ship with noisybench.

    Example:
        >>> "quickstart" in {entry.name for entry in builtin_entries()}
        True
    """
    return list(_builtin())


def entry_section(
    payloads: Sequence[SettingPayload], entries: Iterable[EntryInfo] | None = None
) -> list[dict[str, Any]]:
    """Return the entries with runs on a board, the latest first.

    Args:
        payloads: settings in the order of the page.
        entries: known entries; those that ship with noisybench by default. Of others, only the name is known.

    Returns:
        Fields of `EntryInfo`, and ``runs``, their number; ``settings``, positions of the settings; ``codes``, digests of the
        training engine of the runs, without those that were not recorded.
    """
    known = {entry.name: entry for entry in (builtin_entries() if entries is None else entries)}
    found: dict[str, dict[str, Any]] = {}
    for position, payload in enumerate(payloads):
        for run in payload.submitted:
            if run.entry not in found:
                info = known.get(run.entry) or EntryInfo(run.entry, "", "", "", run.version, "", run.status, "", "")
                found[run.entry] = {**vars(info), "runs": 0, "settings": [], "codes": []}
            row = found[run.entry]
            row["runs"] += 1
            for name, value in (("settings", position), ("codes", run.code)):
                if value != "" and value not in row[name]:
                    row[name].append(value)
    return sorted(found.values(), key=lambda row: (row["date"], row["name"]), reverse=True)

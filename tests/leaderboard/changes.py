"""Changes of submissions, as an attacker would make them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.leaderboard import submission, verification
from noisybench.leaderboard.trust import TrustPolicy


def verdict(folder: Path, policy: TrustPolicy | None = None, rerun: int = 0) -> verification.VerificationResult:
    *_, last = verification.verify(submission.read(folder), policy, rerun)
    return last


def list_files(entry: Path) -> None:
    """List files as they are now: an attacker would do the same."""
    index = json.loads((entry / submission.MANIFEST_FILE).read_text())
    for identity, files in index["runs"].items():
        for name, kind in (("record", "json"), ("evidence", "npz")):
            files[name] = hashlib.sha256((entry / "runs" / f"{identity}.{kind}").read_bytes()).hexdigest()
    (entry / submission.MANIFEST_FILE).write_text(json.dumps(index))


def one(entry: Path, stack: str = "elr") -> Path:
    return next(each for each in (entry / "runs").glob("*.json") if json.loads(each.read_text())["stack"] == stack)


def changed_record(change: Callable[[dict[str, Any]], Any], stack: str = "elr") -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        place = one(entry, stack)
        record = json.loads(place.read_text())
        change(record)
        place.write_text(json.dumps(record))
        list_files(entry)

    return apply


def changed_evidence(change: Callable[[dict[str, Any]], Any], stack: str = "elr") -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        place = one(entry, stack).with_suffix(".npz")
        with np.load(place) as archive:
            arrays = {name: archive[name].copy() for name in archive.files}
        change(arrays)
        np.savez_compressed(place, **arrays)
        list_files(entry)

    return apply


def flip(arrays: dict[str, Any], name: str, place: Any = 0) -> None:
    arrays[name][place] = (arrays[name][place] + 1) % 10


def better_guesses(arrays: dict[str, Any]) -> None:
    arrays["test_by_epoch"][1] = arrays["test_target"]


def index_with(**fields: Any) -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        index = json.loads((entry / submission.MANIFEST_FILE).read_text())
        (entry / submission.MANIFEST_FILE).write_text(json.dumps({**index, **fields}))

    return apply

"""Submissions: measured runs as a folder that anyone can read, score again and train again.

A folder holds `submission.json`, which lists every other file with its SHA-256, and for each run `runs/IDENTITY.json`, its
record, and `runs/IDENTITY.npz`, the predictions and sample records from which the numbers follow. Nothing in it is executed
or unpickled: records are JSON of one exact form, arrays are plain numbers, and no name in it is used as a path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic_core import from_json

from noisybench.errors import UserError
from noisybench.records.schema import RunRecord
from noisybench.utils.files import write_atomically

FORMAT: Literal[1] = 1
INDEX = "submission.json"
STAMP = "verified.json"
LARGEST_FILE = 64 * 2**20
"""Bytes of one file, arrays unpacked."""
MOST_RUNS = 5000

Status = Literal["claimed", "re-scored", "re-run"]
"""What anyone but the submitter has done with the numbers: nothing, computed them from the predictions, trained anew."""

Digest = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]
Identity = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{20}$")]


class Files(pydantic.BaseModel):
    """SHA-256 of a run's files."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    record: Digest
    evidence: Digest


class Index(pydantic.BaseModel):
    """What `submission.json` holds."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    claim: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=2000)]
    """What the runs are said to show, and how they were made."""
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]
    runs: Annotated[dict[Identity, Files], pydantic.Field(min_length=1, max_length=MOST_RUNS)]


class Stamp(pydantic.BaseModel):
    """What `verified.json` holds: who keeps the folder has verified it. It falls with the first changed byte."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    submission: Digest
    status: Status
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]


@dataclass(frozen=True)
class Evidence:
    """From what the numbers of a run follow.

    Attributes:
        test_index: (M,) rows of the test split in the dataset's source.
        test_target: (M,) clean targets.
        test_by_epoch: (rows, M) predicted classes at each recorded row.
        test_probabilities: (M, C) at the end.
        validation_index: (V,) rows of the validation split.
        validation_by_epoch: (rows, V) predicted classes there.
        train_index: (N,) rows of the training split.
        train_observed: (N,) observed targets.
        belief: (N,) probability that the observed target is right.
        prediction: (N,) predicted classes of the training examples at the end.
        correction: (N,) targets that the stack would use instead.
    """

    test_index: NDArray[np.int64]
    test_target: NDArray[np.int64]
    test_by_epoch: NDArray[np.int16]
    test_probabilities: NDArray[np.float32]
    validation_index: NDArray[np.int64]
    validation_by_epoch: NDArray[np.int16]
    train_index: NDArray[np.int64]
    train_observed: NDArray[np.int64]
    belief: NDArray[np.float32]
    prediction: NDArray[np.int16]
    correction: NDArray[np.int16]


_TYPES: dict[str, tuple[str, int]] = {
    "test_index": ("i8", 1), "test_target": ("i8", 1), "test_by_epoch": ("i2", 2), "test_probabilities": ("f4", 2),
    "validation_index": ("i8", 1), "validation_by_epoch": ("i2", 2), "train_index": ("i8", 1), "train_observed": ("i8", 1),
    "belief": ("f4", 1), "prediction": ("i2", 1), "correction": ("i2", 1),
}  # fmt: skip
"""Type and number of dimensions of each array of `Evidence`."""

_RECORDS = pydantic.TypeAdapter(RunRecord)


@dataclass(frozen=True)
class Submission:
    """A folder that is whole and of the right form; its numbers are not verified by that.

    Attributes:
        folder: where it lies.
        index: what it lists.
        status: what the keeper of the folder has verified.
    """

    folder: Path
    index: Index
    status: Status

    def records(self) -> Iterator[RunRecord]:
        """The records of its runs, which say themselves what they are.

        Raises:
            UserError: one is damaged, or not of the form that noisybench writes.
        """
        for identity, files in self.index.runs.items():
            place = self.folder / "runs" / f"{identity}.json"
            record = parse_record(_read(place, files.record), place)
            if record.identity != identity:
                raise UserError(f"{place}: the record is that of another run ({record.identity})")
            yield record

    def evidence(self, identity: str) -> Evidence:
        """The predictions and sample records of a run.

        Raises:
            UserError: the file is damaged, or not of the right form.
        """
        place = self.folder / "runs" / f"{identity}.npz"
        _read(place, self.index.runs[identity].evidence)
        try:
            with zipfile.ZipFile(place) as archive:
                size = sum(each.file_size for each in archive.infolist())
            if size > LARGEST_FILE:
                raise UserError(f"{place}: {size} bytes unpacked are more than the {LARGEST_FILE} that are allowed")
            with np.load(place, allow_pickle=False) as arrays:
                if set(arrays.files) != set(_TYPES):
                    raise UserError(
                        f"{place}: expected the arrays {', '.join(_TYPES)}, but got {', '.join(arrays.files)}"
                    )
                found = {name: arrays[name] for name in _TYPES}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{place}: cannot be read ({error})") from None
        wrong = [
            f"{place}: {name} must be {dimensions}-dimensional of type {kind}, but is {found[name].ndim}-dimensional of "
            f"type {found[name].dtype.str[1:]}"
            for name, (kind, dimensions) in _TYPES.items()
            if found[name].dtype.str[1:] != kind or found[name].ndim != dimensions
        ]
        if wrong:
            raise UserError(*wrong)
        return Evidence(**found)


def parse_record(data: bytes, place: Path) -> RunRecord:
    """A record from JSON, exactly as noisybench writes it: no other fields, no other types, no number that is none.

    Raises:
        UserError: it is anything else.
    """
    try:
        record: RunRecord = _RECORDS.validate_json(data)
        exact = from_json(data, allow_inf_nan=False) == _RECORDS.dump_python(record)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{place}: not a record of a run, which is JSON without infinity or NaN ({reason})") from None
    if not exact:
        raise UserError(f"{place}: not a record as noisybench writes it: it has unknown fields or other types")
    return record


def read(folder: Path) -> Submission:
    """Open a submission: every file is there, is listed, and has its SHA-256.

    Raises:
        UserError: every problem found.
    """
    if not (folder / INDEX).is_file():
        raise UserError(
            f"{folder}: no submission there ({INDEX} is missing); `noisybench leaderboard submit` writes one"
        )
    data = _read(folder / INDEX)
    try:
        index = Index.model_validate_json(data)
    except pydantic.ValidationError as error:
        raise UserError(
            *(f"{folder / INDEX}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:20])
        ) from None
    listed = {f"runs/{identity}.{kind}" for identity in index.runs for kind in ("json", "npz")} | {INDEX, STAMP}
    there = {
        each.relative_to(folder).as_posix(): each
        for each in folder.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }
    problems = [
        f"{folder / name}: a link; a submission has plain files alone"
        for name, each in there.items()
        if each.is_symlink()
    ]
    problems += [f"{folder / name}: is not listed in {INDEX}" for name in sorted(there.keys() - listed)]
    problems += [f"{folder / name}: is missing" for name in sorted(listed - there.keys() - {STAMP})]
    if problems:
        raise UserError(*problems)
    return Submission(folder, index, _status(folder, data))


def shipped_entries() -> list[Submission]:
    """The submissions that come with noisybench, in `leaderboard/entries/`."""
    place = Path(str(importlib.resources.files("noisybench.leaderboard"))) / "entries"
    return [read(each) for each in sorted(place.iterdir()) if each.is_dir()] if place.is_dir() else []


def _status(folder: Path, index: bytes) -> Status:
    """What the stamp says, if it was made for this very index."""
    if not (folder / STAMP).is_file():
        return "claimed"
    try:
        stamp = Stamp.model_validate_json(_read(folder / STAMP))
    except pydantic.ValidationError as error:
        raise UserError(f"{folder / STAMP}: {error.errors()[0]['msg']}; verify the submission again") from None
    return stamp.status if stamp.submission == hashlib.sha256(index).hexdigest() else "claimed"


def stamp(submission: Submission, status: Status, version: str) -> None:
    """Note in a submission's folder what was verified."""
    digest = hashlib.sha256((submission.folder / INDEX).read_bytes()).hexdigest()
    made = Stamp(submission=digest, status=status, noisybench=version)
    write_atomically(submission.folder / STAMP, (made.model_dump_json(indent=2) + "\n").encode())


def _read(place: Path, digest: str | None = None) -> bytes:
    try:
        if place.is_symlink() or place.stat().st_size > LARGEST_FILE:
            raise UserError(f"{place}: a link, or larger than the {LARGEST_FILE} bytes that are allowed")
        data = place.read_bytes()
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{place}: a byte has changed since the submission was made (its SHA-256 is another one)")
    return data


def write(folder: Path, claim: str, version: str, runs: Iterator[tuple[RunRecord, Evidence]]) -> Submission:
    """Write a submission.

    Args:
        folder: does not exist yet, or is empty.
        claim: what the runs are said to show.
        version: of noisybench.
        runs: each with its evidence.

    Raises:
        UserError: the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something already; give a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".submission-", dir=folder.parent))
    try:
        _fill(made, claim, version, runs)
        made.chmod(0o755)
        made.replace(folder)  # whole or not at all
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return read(folder)


def _fill(folder: Path, claim: str, version: str, runs: Iterator[tuple[RunRecord, Evidence]]) -> None:
    (folder / "runs").mkdir()
    files = {}
    for record, evidence in runs:
        place = folder / "runs" / record.identity
        shown = dataclasses.replace(record, run_id="", spec=without_places(record.spec))
        place.with_suffix(".json").write_text(json.dumps(shown.as_dict(), separators=(",", ":"), allow_nan=False))
        np.savez_compressed(place.with_suffix(".npz"), **vars(evidence))
        digests = [hashlib.sha256(place.with_suffix(f".{kind}").read_bytes()).hexdigest() for kind in ("json", "npz")]
        files[record.identity] = Files(record=digests[0], evidence=digests[1])
    index = Index(format=FORMAT, claim=claim, noisybench=version, runs=dict(sorted(files.items())))
    write_atomically(folder / INDEX, (index.model_dump_json(indent=1) + "\n").encode())


def without_places(value: Any) -> Any:
    """A specification without folders of the machine that it ran on; a run's identity follows from contents, not places."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_places(each) for each in value]
    if isinstance(value, str) and re.match(r"[/~]|\.\.?/|[A-Za-z]:\\", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value

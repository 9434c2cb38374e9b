"""Submissions: measured runs as a folder that anyone can read, score again and train again.

A folder holds `submission.json`, which lists every other file with its SHA-256, and for each run `runs/IDENTITY.json`, its
record, and `runs/IDENTITY.npz`, the predictions from which its scores follow. Nothing in it is executed or unpickled: records
are JSON of one exact form, arrays are plain numbers, and no name in a file is used as a path.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
from noisybench.leaderboard.measurements import Measurement, measure, without_record
from noisybench.records.schema import RunRecord
from noisybench.utils.files import write_atomically

FORMAT: Literal[2] = 2
MANIFEST_FILE = "submission.json"
STAMP_FILE = "verified.json"
MAX_FILE_BYTES = 64 * 2**20
"""Most bytes of one file; arrays are counted unpacked."""
MAX_RUNS = 5000

Status = Literal["claimed", "re-scored", "re-run"]
"""Verification of a submission: none, scores computed again from the predictions, or runs trained again as well."""

Digest = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]
# An identity becomes part of a path: its pattern leaves no room for separators or dots.
Identity = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{20}$")]


class RunFiles(pydantic.BaseModel):
    """SHA-256 of a run's files."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    record: Digest
    evidence: Digest


class SubmissionManifest(pydantic.BaseModel):
    """Content of `submission.json`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format: Literal[2]
    description: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=2000)]
    """Claim of the runs, and how they were trained."""
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]
    runs: Annotated[dict[Identity, RunFiles], pydantic.Field(min_length=1, max_length=MAX_RUNS)]


class VerificationStamp(pydantic.BaseModel):
    """Content of `verified.json`, written by a maintainer after verification. Any change of the submission makes it void."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    submission: Digest
    status: Status
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]


@dataclass(frozen=True)
class RunEvidence:
    """Predictions from which the scores of a run follow.

    Attributes:
        test_index: (M,) rows of the test split in the dataset's source.
        test_target: (M,) clean targets.
        test_by_epoch: (rows, M) predicted classes at each recorded row.
        test_probabilities: (M, C) class probabilities at the end.
        validation_index: (V,) rows of the validation split.
        validation_by_epoch: (rows, V) predicted classes at each recorded row.
        train_index: (N,) rows of the training split.
        train_observed: (N,) observed targets.
        label_quality: (N,) probability that the observed target is correct.
        prediction: (N,) predicted classes of the training examples at the end.
        corrected_labels: (N,) targets that the stack would use instead.
    """

    test_index: NDArray[np.int64]
    test_target: NDArray[np.int64]
    test_by_epoch: NDArray[np.int16]
    test_probabilities: NDArray[np.float32]
    validation_index: NDArray[np.int64]
    validation_by_epoch: NDArray[np.int16]
    train_index: NDArray[np.int64]
    train_observed: NDArray[np.int64]
    label_quality: NDArray[np.float32]
    prediction: NDArray[np.int16]
    corrected_labels: NDArray[np.int16]


_ARRAY_TYPES: dict[str, tuple[str, int]] = {
    "test_index": ("i8", 1), "test_target": ("i8", 1), "test_by_epoch": ("i2", 2), "test_probabilities": ("f4", 2),
    "validation_index": ("i8", 1), "validation_by_epoch": ("i2", 2), "train_index": ("i8", 1), "train_observed": ("i8", 1),
    "label_quality": ("f4", 1), "prediction": ("i2", 1), "corrected_labels": ("i2", 1),
}  # fmt: skip
"""Type and number of dimensions of each array of `RunEvidence`."""

_RECORD_ADAPTER = pydantic.TypeAdapter(RunRecord)


@dataclass(frozen=True)
class Submission:
    """A complete folder of the correct form, whose scores may still be false.

    Attributes:
        folder: folder of the submission.
        manifest: content of `submission.json`.
        status: verification by a maintainer.
    """

    folder: Path
    manifest: SubmissionManifest
    status: Status

    def records(self) -> Iterator[RunRecord]:
        """Yield the records of its runs, as claimed.

        Raises:
            UserError: a record is damaged, or not of the form that noisybench writes.
        """
        for identity, files in self.manifest.runs.items():
            path = self.folder / "runs" / f"{identity}.json"
            record = parse_record(_read_file(path, files.record), path)
            # The name of the file selects the predictions, which must be those of this record.
            if record.identity != identity:
                raise UserError(f"{path}: the record belongs to another run ({record.identity})")
            yield record

    def measurements(self) -> Iterator[Measurement]:
        """Yield the numbers of its runs, without their records.

        Raises:
            UserError: a record is damaged, or not of the form that noisybench writes.
        """
        for record in self.records():
            yield without_record(measure(record, self.status, self.folder.name))

    def evidence(self, identity: str) -> RunEvidence:
        """Return the predictions of a run.

        Raises:
            UserError: the file is damaged, or not of the correct form.
        """
        path = self.folder / "runs" / f"{identity}.npz"
        _read_file(path, self.manifest.runs[identity].evidence)
        try:
            # The directory of the archive is checked first: a small file may unpack to any size.
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_FILE_BYTES:
                raise UserError(f"{path}: {size} bytes unpacked exceed the limit of {MAX_FILE_BYTES}")
            with np.load(path, allow_pickle=False) as arrays:
                if set(arrays.files) != set(_ARRAY_TYPES):
                    raise UserError(
                        f"{path}: expected the arrays {', '.join(_ARRAY_TYPES)}, but got {', '.join(arrays.files)}"
                    )
                loaded = {name: arrays[name] for name in _ARRAY_TYPES}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        problems = [
            f"{path}: {name} must be {dimensions}-dimensional of type {kind}, but is {loaded[name].ndim}-dimensional of "
            f"type {loaded[name].dtype.str[1:]}"
            for name, (kind, dimensions) in _ARRAY_TYPES.items()
            # The first character of the type is the byte order, which may differ between machines.
            if loaded[name].dtype.str[1:] != kind or loaded[name].ndim != dimensions
        ]
        if problems:
            raise UserError(*problems)
        return RunEvidence(**loaded)


def parse_record(data: bytes, path: Path) -> RunRecord:
    """Return a record from JSON exactly as noisybench writes it, without other fields, other types, infinity or NaN.

    Raises:
        UserError: the JSON is anything else.
    """
    try:
        record: RunRecord = _RECORD_ADAPTER.validate_json(data)
        # Validation converts types and ignores unknown fields, so the record must give back the same data.
        is_exact = from_json(data, allow_inf_nan=False) == _RECORD_ADAPTER.dump_python(record)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a record of a run, which is JSON without infinity or NaN ({reason})") from None
    if not is_exact:
        raise UserError(f"{path}: not a record as noisybench writes it: it has unknown fields or other types")
    return record


def read(folder: Path) -> Submission:
    """Open a submission after checking that every file is listed, present and unchanged.

    Raises:
        UserError: all problems found.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise UserError(
            f"{folder}: not a submission ({MANIFEST_FILE} is missing); create one with `noisybench leaderboard package`"
        )
    data = _read_file(folder / MANIFEST_FILE)
    try:
        manifest = SubmissionManifest.model_validate_json(data)
    except pydantic.ValidationError as error:
        raise UserError(
            *(
                f"{folder / MANIFEST_FILE}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
                for detail in error.errors()[:20]
            )
        ) from None
    listed = {f"runs/{identity}.{kind}" for identity in manifest.runs for kind in ("json", "npz")}
    listed |= {MANIFEST_FILE, STAMP_FILE}
    # A link to a folder counts as a folder, so links are asked for first; what they point to is not in the submission.
    present = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    problems = [
        f"{folder / name}: a link; a submission may only contain plain files"
        for name, path in present.items()
        if path.is_symlink()
    ]
    problems += [f"{folder / name}: is not listed in {MANIFEST_FILE}" for name in sorted(present.keys() - listed)]
    problems += [f"{folder / name}: is missing" for name in sorted(listed - present.keys() - {STAMP_FILE})]
    if problems:
        raise UserError(*problems)
    return Submission(folder, manifest, _read_status(folder, data))


def _read_status(folder: Path, manifest: bytes) -> Status:
    """Return the status of the stamp if it belongs to this manifest."""
    if not (folder / STAMP_FILE).is_file():
        return "claimed"
    try:
        stamp = VerificationStamp.model_validate_json(_read_file(folder / STAMP_FILE))
    except pydantic.ValidationError as error:
        raise UserError(f"{folder / STAMP_FILE}: {error.errors()[0]['msg']}; verify the submission again") from None
    # The manifest has the digests of all other files, so its own digest covers the whole submission.
    return stamp.status if stamp.submission == hashlib.sha256(manifest).hexdigest() else "claimed"


def mark_verified(submission: Submission, status: Status, version: str) -> None:
    """Write the outcome of a verification to `verified.json` in the folder of the submission."""
    digest = hashlib.sha256((submission.folder / MANIFEST_FILE).read_bytes()).hexdigest()
    stamp = VerificationStamp(submission=digest, status=status, noisybench=version)
    write_atomically(submission.folder / STAMP_FILE, (stamp.model_dump_json(indent=2) + "\n").encode())


def _read_file(path: Path, digest: str | None = None) -> bytes:
    try:
        # The size is checked before reading, so that a large file cannot exhaust the memory.
        if path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: a link, or larger than the limit of {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{path}: the file has changed since the submission was packaged (its SHA-256 differs)")
    return data


def write(folder: Path, description: str, version: str, runs: Iterator[tuple[RunRecord, RunEvidence]]) -> Submission:
    """Write a submission.

    Args:
        folder: folder that does not exist yet or is empty.
        description: claim of the runs, and how they were trained.
        version: version of noisybench.
        runs: records with their evidence.

    Raises:
        UserError: the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only within one file system.
    temporary = Path(tempfile.mkdtemp(prefix=".submission-", dir=folder.parent))
    try:
        _write_files(temporary, description, version, runs)
        # `mkdtemp` makes folders that only their owner can read.
        temporary.chmod(0o755)
        temporary.replace(folder)  # so that a reader never sees a partial submission
    # Ctrl-C is no Exception, and would leave the partial folder behind.
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # The same checks as at the recipient, so that a faulty submission is noticed before it is sent.
    return read(folder)


def _write_files(folder: Path, description: str, version: str, runs: Iterator[tuple[RunRecord, RunEvidence]]) -> None:
    (folder / "runs").mkdir()
    files = {}
    for record, evidence in runs:
        path = folder / "runs" / record.identity
        # The identifier of the run means nothing outside its store, and paths may contain names of users.
        public = dataclasses.replace(record, run_id="", spec=strip_local_paths(record.spec))
        path.with_suffix(".json").write_text(json.dumps(public.as_dict(), separators=(",", ":"), allow_nan=False))
        np.savez_compressed(path.with_suffix(".npz"), **vars(evidence))
        # Digests are computed from the files on disk, because verification reads those.
        digests = [hashlib.sha256(path.with_suffix(f".{kind}").read_bytes()).hexdigest() for kind in ("json", "npz")]
        files[record.identity] = RunFiles(record=digests[0], evidence=digests[1])
    manifest = SubmissionManifest(
        format=FORMAT, description=description, noisybench=version, runs=dict(sorted(files.items()))
    )
    write_atomically(folder / MANIFEST_FILE, (manifest.model_dump_json(indent=1) + "\n").encode())


def strip_local_paths(value: Any) -> Any:
    """Return a specification without folders of the local machine; a run's identity follows from contents, not from paths.

    Example:
        >>> strip_local_paths({"name": "parquet", "train": "/home/me/train.parquet"})
        {'name': 'parquet', 'train': 'train.parquet'}
    """
    if isinstance(value, dict):
        return {key: strip_local_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strip_local_paths(item) for item in value]
    if isinstance(value, str) and re.match(r"[/~]|\.\.?/|[A-Za-z]:\\", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
